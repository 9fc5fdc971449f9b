"""Points of maps, for the pointing game."""

import pyarrow as pa

from extremal.storage.kinds.kind import Kind, field

POINTS = Kind(
    "points",
    (
        field("method", pa.string(), "saliency method, or the baseline center"),
        field("x", pa.int32(), "column of the smoothed saliency's maximum, original pixels"),
        field("y", pa.int32(), "row of the smoothed saliency's maximum, original pixels"),
        field("width", pa.int32(), "original image width"),
        field("height", pa.int32(), "original image height"),
        field(
            "distance2",
            pa.int64(),
            "squared distance to the nearest pixel of the class, 0 inside; null without ground truth",
            nullable=True,
        ),
        field("box_distance2", pa.int64(), "the same to the nearest box of the class", nullable=True),
        field(
            "plain_distance2",
            pa.int64(),
            "distance2 of the maximum without smoothing; null also for the center",
            nullable=True,
        ),
        field(
            "energy_inside",
            pa.float32(),
            "share of the positive unsmoothed saliency that lies on the class; null also for the center",
            nullable=True,
        ),
        field("all_difficult", pa.bool_(), "every object of the class is marked PASCAL-difficult"),
        field("difficult", pa.bool_(), "in the pointing game's Difficult subset"),
    ),
    result=False,
)
