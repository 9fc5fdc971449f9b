"""Extremal perturbations and channel attribution over whole image datasets.

    from extremal import load_network, extremal_perturbation, channel_attribution, Run, draw_masks

The names are imported when they are first used: readers of a store need no torch.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extremal.pipeline.stored_masks import draw_masks
    from extremal.storage import Run
    from extremal.workers.extremal.channel import channel_attribution
    from extremal.workers.extremal.spatial import extremal_perturbation
    from extremal.workers.networks.network import load_network

try:
    __version__ = version("extremal")
except PackageNotFoundError:  # a checkout that is on the path, but not installed
    __version__ = "0+unknown"

_HOMES = {
    "Run": "extremal.storage",
    "channel_attribution": "extremal.workers.extremal.channel",
    "draw_masks": "extremal.pipeline.stored_masks",
    "extremal_perturbation": "extremal.workers.extremal.spatial",
    "load_network": "extremal.workers.networks.network",
}

__all__ = ["Run", "channel_attribution", "draw_masks", "extremal_perturbation", "load_network"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'extremal' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
