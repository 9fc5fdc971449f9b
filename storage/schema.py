"""Schemas of the plan and of every kind of result.

Arrays are flattened row-major into Parquet lists with their shape in a column beside them (non-square
inputs give masks of different shapes in one run). Masks and parameters are float16: they are for means
and pictures. Whatever an argmax or a threshold decides is computed in float32 by the worker and stored
as a scalar.
"""

from enum import Enum

import pyarrow as pa

SCHEMA_VERSION = 4


class Kind(str, Enum):
    """A kind of result; its value is the folder of its Parquet dataset inside a run."""

    SPATIAL = "spatial"
    CHANNEL = "channel"
    SALIENCY = "saliency"
    INVERSION = "inversion"
    POINTS = "points"
    FAILURES = "failures"


_FLOATS = pa.list_(pa.float32())
_HALVES = pa.list_(pa.float16())
_INTS = pa.list_(pa.int32())


def _field(name: str, kind: pa.DataType, doc: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"doc": doc})


_KEY = [
    _field("pair", pa.int64(), "row of the pair in plan.parquet: the key that joins every table of a run"),
    _field("image_id", pa.string(), "name of the image in its dataset"),
    _field("path", pa.string(), "image file, relative to the dataset's root"),
    _field("class_id", pa.int32(), "class index in the dataset; -1 if unknown or chosen by the network"),
    _field("class_name", pa.string(), "class name in the dataset"),
]

_TARGET = [
    _field("target", pa.int32(), "network output that was explained"),
    _field("target_name", pa.string(), "name of that output, if known", nullable=True),
]

PLAN = pa.schema(
    [
        *_KEY,
        _field("shard", pa.int32(), "slice of the plan: the unit of scheduling, commit and resume"),
        _field("batch", pa.int32(), "pairs whose masks form one queue; a shard is whole batches"),
        _field(
            "targets",
            _INTS,
            "network outputs standing for the class: the most confident is explained; "
            "null = the network's own top-1; empty = the class is unknown",
            nullable=True,
        ),
        _field("width", pa.int32(), "original image width, if known before decoding", nullable=True),
        _field("height", pa.int32(), "original image height, if known before decoding", nullable=True),
        _field("boxes", pa.list_(_INTS), "ground truth boxes x0,y0,x1,y1 in 0-based pixels, ends inclusive"),
        _field("rle", pa.string(), "ground truth mask: COCO compressed run lengths", nullable=True),
        _field("all_difficult", pa.bool_(), "every object of the class is marked PASCAL-difficult"),
        _field("difficult", pa.bool_(), "in the pointing game's Difficult subset"),
    ]
)

SPATIAL = pa.schema(
    [
        *_KEY,
        *_TARGET,
        _field("seed", pa.int64(), "seed of this pair, hash(run seed, image, class)"),
        _field("input_shape", _INTS, "height, width of the network input"),
        _field("areas", _FLOATS, "(A) wanted areas, fraction of the mask kept"),
        _field("steps", _INTS, "(A) iterations that each area took"),
        _field("params_shape", _INTS, "A, rows, columns of the mask parameters"),
        _field("params", _HALVES, "(A,rows,columns) mask parameters; extremal.draw_masks draws them"),
        _field("score_full", pa.float32(), "logit of the target on the whole image"),
        _field("score_perturbed", pa.float32(), "logit on the fully perturbed image"),
        _field("score_preserve", _FLOATS, "(A) logit with only the mask kept"),
        _field("score_delete", _FLOATS, "(A) logit with the mask deleted"),
        _field("area_reached", _FLOATS, "(A) mean of the mask over the image"),
        _field("area_term", _FLOATS, "(A) mean squared distance to the ideal sorted mask"),
        _field("binarity", _FLOATS, "(A) mean of min(m,1-m): 0 for a binary mask"),
        _field("energy", _FLOATS, "(A) final objective: reward - lambda * area term"),
        _field("energy_steps", _INTS, "(T) iterations at which energy_trace was taken"),
        _field("energy_trace", _FLOATS, "(A,T) objective along the optimization, NaN where not evaluated"),
        _field(
            "a_star", pa.float32(), "smallest area whose score reaches tau of the full score", nullable=True
        ),
        _field("search_steps", pa.int32(), "iterations spent on areas beyond the list in search of a_star"),
        _field("seconds", pa.float32(), "wall time of the pair's batch over its pairs"),
    ]
)

CHANNEL = pa.schema(
    [
        *_KEY,
        *_TARGET,
        _field("seed", pa.int64(), "seed of this pair, hash(run seed, image, class)"),
        _field("layer", pa.string(), "layer whose channels were masked"),
        _field("counts", _INTS, "(A) wanted numbers of channels"),
        _field("steps", _INTS, "(A) iterations that each count took"),
        _field("masks_shape", _INTS, "A, K"),
        _field("masks", _HALVES, "(A,K) channel masks as optimized"),
        _field("score_full", pa.float32(), "logit of the target with every channel kept"),
        _field("score_perturbed", pa.float32(), "logit with every channel set to zero"),
        _field("score", _FLOATS, "(A) logit under the mask as optimized"),
        _field("score_binary", _FLOATS, "(A) logit with exactly the best count of channels kept"),
        _field("count_reached", _FLOATS, "(A) sum of the mask"),
        _field("area_term", _FLOATS, "(A) mean squared distance to the ideal sorted mask"),
        _field("binarity", _FLOATS, "(A) mean of min(m,1-m): 0 for a binary mask"),
        _field("energy", _FLOATS, "(A) final objective: score - lambda * area term"),
        _field("energy_steps", _INTS, "(T) iterations at which energy_trace was taken"),
        _field("energy_trace", _FLOATS, "(A,T) objective along the optimization, NaN where not evaluated"),
        _field("a_star", pa.int32(), "smallest count whose binary mask reaches tau", nullable=True),
        _field("a_star_soft", pa.int32(), "the same for the mask as optimized", nullable=True),
        _field("saliency_shape", _INTS, "rows, columns of the saliency map"),
        _field("saliency", _FLOATS, "eq. 11: sum of the activations weighted by the mask of a_star"),
        _field("activations", _FLOATS, "(K) largest activation of each channel on the whole image"),
        _field("seconds", pa.float32(), "wall time of the pair's batch over its pairs"),
    ]
)

SALIENCY = pa.schema(
    [
        *_KEY,
        *_TARGET,
        _field("seed", pa.int64(), "seed of this pair, hash(run seed, image, class)"),
        _field("method", pa.string(), "saliency method"),
        _field("score_full", pa.float32(), "logit of the target on the whole image"),
        _field("input_shape", _INTS, "height, width of the network input"),
        _field("map_shape", _INTS, "rows, columns of the stored map; empty if none was asked for"),
        _field("map", _HALVES, "saliency over the input, divided by map_scale"),
        _field("map_scale", pa.float32(), "largest absolute value of the map", nullable=True),
        _field("diagnostics", pa.map_(pa.string(), pa.float32()), "what the method says of itself, by name"),
        _field(
            "insertion",
            pa.float32(),
            "area under the target's softmax while the image's pixels, the most salient first, "
            "saliency.fidelity at a time, replace those of its 11 x 11 blur (docs/fidelity.md); null if not "
            "measured",
            nullable=True,
        ),
        _field(
            "deletion",
            pa.float32(),
            "the same while they turn into the mean colour, zero in the normalised input",
            nullable=True,
        ),
        _field("seconds", pa.float32(), "wall time of the method's batch over its pairs"),
    ]
)

INVERSION = pa.schema(
    [
        *_KEY,
        *_TARGET,
        _field("seed", pa.int64(), "seed of this pair, hash(run seed, image, class)"),
        _field("layer", pa.string(), "layer whose activations were inverted"),
        _field("objective", pa.string(), "dot (eq. 12), distance (thesis eq. 2.11) or channel"),
        _field("channel", pa.int32(), "the channel that is visualized; null for an image", nullable=True),
        _field("a_star", pa.int32(), "channels of the mask; null if none was found", nullable=True),
        _field("image", pa.binary(), "PNG: inversion of the whole activations, or of the channel"),
        _field("image_masked", pa.binary(), "PNG: inversion of the masked activations", nullable=True),
        _field("trace_steps", _INTS, "(T) iterations at which the trace was taken"),
        _field("trace", _FLOATS, "(1 or 2,T) objective along the optimization: whole, then masked"),
        _field("cosine", pa.float32(), "cosine of the picture's activations with those inverted"),
        _field("cosine_masked", pa.float32(), "the same of the masked", nullable=True),
        _field("cosine_between", pa.float32(), "cosine of the two pictures' activations", nullable=True),
        _field("energy", _FLOATS, "(K) sum of squares of each channel's activations on the picture"),
        _field("energy_masked", _FLOATS, "(K) the same of the masked; empty for a channel"),
        _field("seconds", pa.float32(), "wall time of the pair's batch over its pairs"),
    ]
)

POINTS = pa.schema(
    [
        *_KEY,
        _field("method", pa.string(), "saliency method, or the baseline center"),
        _field("x", pa.int32(), "column of the smoothed saliency's maximum, original pixels"),
        _field("y", pa.int32(), "row of the smoothed saliency's maximum, original pixels"),
        _field("width", pa.int32(), "original image width"),
        _field("height", pa.int32(), "original image height"),
        _field(
            "distance2",
            pa.int64(),
            "squared distance to the nearest pixel of the class, 0 inside; null without ground truth",
            nullable=True,
        ),
        _field("box_distance2", pa.int64(), "the same to the nearest box of the class", nullable=True),
        _field(
            "plain_distance2",
            pa.int64(),
            "distance2 of the maximum without smoothing; null also for the center",
            nullable=True,
        ),
        _field(
            "energy_inside",
            pa.float32(),
            "share of the positive unsmoothed saliency that lies on the class; null also for the center",
            nullable=True,
        ),
        _field("all_difficult", pa.bool_(), "every object of the class is marked PASCAL-difficult"),
        _field("difficult", pa.bool_(), "in the pointing game's Difficult subset"),
    ]
)

FAILURES = pa.schema(
    [
        *_KEY,
        _field("stage", pa.string(), "where it failed: decode, target, optimize"),
        _field("error_type", pa.string(), "class of the error"),
        _field("error", pa.string(), "message of the error"),
    ]
)

SCHEMAS: dict[Kind, pa.Schema] = {
    Kind.SPATIAL: SPATIAL,
    Kind.CHANNEL: CHANNEL,
    Kind.SALIENCY: SALIENCY,
    Kind.INVERSION: INVERSION,
    Kind.POINTS: POINTS,
    Kind.FAILURES: FAILURES,
}
