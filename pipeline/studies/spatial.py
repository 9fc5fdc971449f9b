"""The study `spatial`: extremal perturbations of pairs."""

from extremal.pipeline.aggregates.shown import curve_scores, monotonicity_scores, pointing_scores
from extremal.pipeline.studies.study import Study

SPATIAL = Study(
    "spatial",
    scores=(pointing_scores, monotonicity_scores, curve_scores),
    maps=lambda settings: ("extremal",),
)
