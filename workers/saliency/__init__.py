"""Saliency methods that extremal perturbations are compared with (Table 1 of the paper), all batched.

The names are imported when they are first used: cards and settings need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extremal.workers.saliency.batch import Batch, Maps, Method
    from extremal.workers.saliency.check import check_methods
    from extremal.workers.saliency.methods import METHODS, Card, attribute

__all__ = ["METHODS", "Batch", "Card", "Maps", "Method", "attribute", "check_methods"]

_HOMES = {
    "batch": ("Batch", "Maps", "Method"),
    "check": ("check_methods",),
    "methods": ("METHODS", "Card", "attribute"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
