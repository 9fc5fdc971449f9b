"""How each study looks in reports and figures: one file and one entry a study.

Nothing here imports torch, ray, matplotlib or scipy: many processes write a report, and read this.
"""

from collections.abc import Mapping

from extremal.jobs.studies.channel import CHANNEL
from extremal.jobs.studies.inversion import INVERSION
from extremal.jobs.studies.saliency import SALIENCY
from extremal.jobs.studies.spatial import SPATIAL
from extremal.jobs.studies.view import StudyView
from extremal.storage import Run

STUDIES: Mapping[str, StudyView] = {view.name: view for view in (SPATIAL, CHANNEL, SALIENCY, INVERSION)}


def view_of(run: Run) -> StudyView:
    """How the rows of a run look."""
    return STUDIES[run.manifest.study]


__all__ = ["STUDIES", "StudyView", "view_of"]
