"""What computes on one device: networks, masks, perturbations, the optimization. Needs no Ray.

The names below are imported when they are first used: readers of a store need no torchvision.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extremal.workers.extremal.channel import ChannelResult, channel_attribution
    from extremal.workers.extremal.masks import render_masks
    from extremal.workers.extremal.settings import ChannelConfig, MaskConfig, SpatialConfig, spatial_preset
    from extremal.workers.extremal.spatial import SpatialResult, extremal_perturbation
    from extremal.workers.images import Preprocess, decode
    from extremal.workers.networks.cut import split_network
    from extremal.workers.networks.network import Network, load_network

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
    "extremal.channel": ("ChannelResult", "channel_attribution"),
    "extremal.settings": ("ChannelConfig", "MaskConfig", "SpatialConfig", "spatial_preset"),
    "images": ("Preprocess", "decode"),
    "extremal.masks": ("render_masks",),
    "networks.network": ("Network", "load_network"),
    "extremal.spatial": ("SpatialResult", "extremal_perturbation"),
    "networks.cut": ("split_network",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"extremal.workers.{module}"), name)
    raise AttributeError(f"module 'extremal.workers' has no attribute {name!r}")
