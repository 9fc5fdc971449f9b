"""What computes on one device: networks, masks, perturbations, the optimization. Needs no Ray.

The names below are imported when they are first used: readers of a store need no torchvision.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "channel": ("ChannelResult", "channel_attribution"),
    "config": ("ChannelConfig", "MaskConfig", "SpatialConfig", "spatial_preset"),
    "images": ("Preprocess", "decode"),
    "masks": ("render_masks",),
    "networks": ("Network", "load_network"),
    "spatial": ("SpatialResult", "extremal_perturbation"),
    "split": ("split_network",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"workers.{module}"), name)
    raise AttributeError(f"module 'workers' has no attribute {name!r}")
