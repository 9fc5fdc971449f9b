"""Channel attribution: masks of a pair over counts of channels."""

import pyarrow as pa

from extremal.storage.kinds.kind import FLOATS, HALVES, INTS, Kind, Sweep, field
from extremal.storage.kinds.points import POINTS

CHANNEL = Kind(
    "channel",
    (
        field("layer", pa.string(), "layer whose channels were masked"),
        field("counts", INTS, "(A) wanted numbers of channels"),
        field("steps", INTS, "(A) iterations that each count took"),
        field("masks_shape", INTS, "A, K"),
        field("masks", HALVES, "(A,K) channel masks as optimized"),
        field("score_full", pa.float32(), "logit of the target with every channel kept"),
        field("score_perturbed", pa.float32(), "logit with every channel set to zero"),
        field("score", FLOATS, "(A) logit under the mask as optimized"),
        field("score_binary", FLOATS, "(A) logit with exactly the best count of channels kept"),
        field("count_reached", FLOATS, "(A) sum of the mask"),
        field("area_term", FLOATS, "(A) mean squared distance to the ideal sorted mask"),
        field("binarity", FLOATS, "(A) mean of min(m,1-m): 0 for a binary mask"),
        field("energy", FLOATS, "(A) final objective: score - lambda * area term"),
        field("energy_steps", INTS, "(T) iterations at which energy_trace was taken"),
        field("energy_trace", FLOATS, "(A,T) objective along the optimization"),
        field("a_star", pa.int32(), "smallest count whose binary mask reaches tau", nullable=True),
        field("a_star_soft", pa.int32(), "the same for the mask as optimized", nullable=True),
        field("saliency_shape", INTS, "rows, columns of the saliency map"),
        field("saliency", FLOATS, "eq. 11: sum of the activations weighted by the mask of a_star"),
        field("activations", FLOATS, "(K) largest activation of each channel on the whole image"),
        field("seconds", pa.float32(), "wall time of the unit's batch over its units"),
    ),
    beside=(POINTS,),
    sweep=Sweep("counts", "score_binary"),
)
