"""What computes on one device: networks, masks, perturbations, the optimization. Needs no Ray."""

from workers.channel import ChannelResult, channel_attribution
from workers.config import ChannelConfig, MaskConfig, SpatialConfig, spatial_preset
from workers.images import Preprocess, decode
from workers.masks import render_masks
from workers.networks import Network, load_network
from workers.spatial import SpatialResult, extremal_perturbation
from workers.split import split_network

__all__ = [
    "ChannelConfig",
    "ChannelResult",
    "MaskConfig",
    "Network",
    "Preprocess",
    "SpatialConfig",
    "SpatialResult",
    "channel_attribution",
    "decode",
    "extremal_perturbation",
    "load_network",
    "render_masks",
    "spatial_preset",
    "split_network",
]
