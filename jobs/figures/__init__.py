"""Figures for papers and notebooks.

from extremal.jobs.figures import masks_of_areas, save
figure = masks_of_areas("runs/voc", pairs=[3, 17])

Every figure takes runs of one dataset, by URI or opened: pairs are those of the first run, and the others
are joined to them by image and class. What a pair lacks is said in its panel; the rest is drawn.

    pairs: numbers of pairs (int) or ids of images (str), each for all its pairs; None = the first few.
    classes: ids (int) or names (str), to which the pairs are limited; None = all.
    root: where the images lie now; None = where they were.

All raise RunError, with the fix, where a run, pair or class is not there or the runs are of other studies.
The names are imported when they are first used: the processes that write a report draw no figures.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extremal.jobs.drawing import save
    from extremal.jobs.figures.channels import channel_curve, channels_of_classes
    from extremal.jobs.figures.comparison import compare_methods
    from extremal.jobs.figures.inversions import inversion_difference, inversions_of_classes
    from extremal.jobs.figures.masks import area_growth, masks_of_areas, score_curve

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

_MODULES = {
    "channel_curve": "figures.channels",
    "channels_of_classes": "figures.channels",
    "compare_methods": "figures.comparison",
    "inversion_difference": "figures.inversions",
    "inversions_of_classes": "figures.inversions",
    "save": "drawing",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'extremal.jobs.figures' has no attribute {name!r}")
    module = import_module(f"extremal.jobs.{_MODULES.get(name, 'figures.masks')}")
    return getattr(module, name)
