"""Extremal perturbations: masks of a pair over areas."""

import pyarrow as pa

from extremal.storage.kinds.kind import FLOATS, HALVES, INTS, Kind, Sweep, field
from extremal.storage.kinds.points import POINTS

SPATIAL = Kind(
    "spatial",
    (
        field("input_shape", INTS, "height, width of the network input"),
        field("areas", FLOATS, "(A) wanted areas, fraction of the mask kept"),
        field("steps", INTS, "(A) iterations that each area took"),
        field("params_shape", INTS, "A, rows, columns of the mask parameters"),
        field("params", HALVES, "(A,rows,columns) mask parameters; extremal.draw_masks draws them"),
        field("score_full", pa.float32(), "logit of the target on the whole image"),
        field("score_perturbed", pa.float32(), "logit on the fully perturbed image"),
        field("score_preserve", FLOATS, "(A) logit with only the mask kept"),
        field("score_delete", FLOATS, "(A) logit with the mask deleted"),
        field("area_reached", FLOATS, "(A) mean of the mask over the image"),
        field("area_term", FLOATS, "(A) mean squared distance to the ideal sorted mask"),
        field("binarity", FLOATS, "(A) mean of min(m,1-m): 0 for a binary mask"),
        field("energy", FLOATS, "(A) final objective: reward - lambda * area term"),
        field("energy_steps", INTS, "(T) iterations at which energy_trace was taken"),
        field(
            "energy_trace", FLOATS, "(A,T) objective along the optimization, NaN if spared by a warm start"
        ),
        field(
            "a_star", pa.float32(), "smallest area whose score reaches tau of the full score", nullable=True
        ),
        field("search_steps", pa.int32(), "iterations spent on areas beyond the list in search of a_star"),
        field("seconds", pa.float32(), "wall time of the unit's batch over its units"),
    ),
    beside=(POINTS,),
    sweep=Sweep("areas", "score_preserve"),
)
