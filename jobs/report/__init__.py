"""What people look at: figures for papers and notebooks.

from jobs.report import masks_of_areas, save
figure = masks_of_areas("runs/voc", pairs=[3, 17])
"""

from jobs.pictures import save
from jobs.report.figures import (
    area_growth,
    channel_curve,
    channels_of_classes,
    compare_methods,
    inversion_difference,
    masks_of_areas,
    score_curve,
)

__all__ = [
    "area_growth",
    "channel_curve",
    "channels_of_classes",
    "compare_methods",
    "inversion_difference",
    "masks_of_areas",
    "save",
    "score_curve",
]
