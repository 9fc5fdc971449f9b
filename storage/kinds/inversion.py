"""Feature inversion: pictures of a pair's activations, or of a channel."""

import pyarrow as pa

from extremal.storage.kinds.kind import FLOATS, INTS, Kind, field

INVERSION = Kind(
    "inversion",
    (
        field("layer", pa.string(), "layer whose activations were inverted"),
        field("objective", pa.string(), "dot (eq. 12), distance (thesis eq. 2.11) or channel"),
        field("channel", pa.int32(), "the channel that is visualized; null for an image", nullable=True),
        field("a_star", pa.int32(), "channels of the mask; null if none was found", nullable=True),
        field("image", pa.binary(), "PNG: inversion of the whole activations, or of the channel"),
        field("image_masked", pa.binary(), "PNG: inversion of the masked activations", nullable=True),
        field("trace_steps", INTS, "(T) iterations at which the trace was taken"),
        field("trace", FLOATS, "(1 or 2,T) objective along the optimization: whole, then masked"),
        field("cosine", pa.float32(), "cosine of the picture's activations with those inverted"),
        field("cosine_masked", pa.float32(), "the same of the masked", nullable=True),
        field("cosine_between", pa.float32(), "cosine of the two pictures' activations", nullable=True),
        field("energy", FLOATS, "(K) sum of squares of each channel's activations on the picture"),
        field("energy_masked", FLOATS, "(K) the same of the masked; empty for a channel"),
        field("seconds", pa.float32(), "wall time of the unit's batch over its units"),
    ),
)
