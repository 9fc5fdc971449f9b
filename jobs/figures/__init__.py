"""Figures for papers and notebooks.

from extremal.jobs.figures import masks_of_areas, save
figure = masks_of_areas("runs/voc", pairs=[3, 17])

The names are imported when they are first used: the processes that write a report draw no figures.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extremal.jobs.figures.drawing import save
    from extremal.jobs.figures.layouts import (
        area_growth,
        channel_curve,
        channels_of_classes,
        compare_methods,
        inversion_difference,
        inversions_of_classes,
        masks_of_areas,
        score_curve,
    )

__all__ = [
    "area_growth",
    "channel_curve",
    "channels_of_classes",
    "compare_methods",
    "inversion_difference",
    "inversions_of_classes",
    "masks_of_areas",
    "save",
    "score_curve",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'extremal.jobs.figures' has no attribute {name!r}")
    return getattr(
        import_module("extremal.jobs.figures.drawing" if name == "save" else "extremal.jobs.figures.layouts"),
        name,
    )
