"""The studies as the pipeline conducts them: one file each, and one entry in STUDIES."""

from extremal.pipeline.studies.channel import CHANNEL
from extremal.pipeline.studies.inversion import INVERSION
from extremal.pipeline.studies.saliency import SALIENCY
from extremal.pipeline.studies.spatial import SPATIAL
from extremal.pipeline.studies.study import Study

STUDIES = {study.name: study for study in (SPATIAL, CHANNEL, SALIENCY, INVERSION)}

__all__ = ["STUDIES", "Study"]
