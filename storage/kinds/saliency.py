"""Saliency methods: a row for each method of a pair."""

import pyarrow as pa

from extremal.storage.kinds.kind import HALVES, INTS, Kind, field
from extremal.storage.kinds.points import POINTS

SALIENCY = Kind(
    "saliency",
    (
        field("method", pa.string(), "saliency method"),
        field("score_full", pa.float32(), "logit of the target on the whole image"),
        field("input_shape", INTS, "height, width of the network input"),
        field("map_shape", INTS, "rows, columns of the stored map; empty if none was asked for"),
        field("map", HALVES, "saliency over the input, divided by map_scale"),
        field("map_scale", pa.float32(), "largest absolute value of the map", nullable=True),
        field("diagnostics", pa.map_(pa.string(), pa.float32()), "what the method says of itself, by name"),
        field(
            "insertion",
            pa.float32(),
            "area under the target's softmax while the image's pixels, the most salient first, "
            "saliency.fidelity at a time, replace those of its 11 x 11 blur (docs/fidelity.md); null if not "
            "measured",
            nullable=True,
        ),
        field(
            "deletion",
            pa.float32(),
            "the same while they turn into the mean colour, zero in the normalised input",
            nullable=True,
        ),
        field("seconds", pa.float32(), "wall time of the method's batch over its pairs"),
    ),
    beside=(POINTS,),
)
