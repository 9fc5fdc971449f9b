"""What the commands must know of a study."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class StudyView:
    """What follows a study, and how it is done at once.

    Attributes:
        next_command: what a finished run is best followed by.
        explain: `module:function` that explains one image at once, if there is one.
    """

    next_command: str = "score"
    explain: str | None = None


STUDIES: Mapping[str, StudyView] = {
    "spatial": StudyView(explain="extremal.jobs.explain:spatial_pictures"),
    "channel": StudyView("classes", explain="extremal.jobs.explain:channel_pictures"),
    "saliency": StudyView(),
    "inversion": StudyView(),
}
