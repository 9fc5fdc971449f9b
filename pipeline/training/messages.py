"""What the worker of a training says, through a queue whose process knows neither torch nor Ray Train."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Begun:
    """A worker begins, or begins again, after so many epochs."""

    epochs: int


@dataclass(frozen=True)
class Counted:
    """Images done since the last message, and those of them that cannot be read."""

    images: int
    failed: int


@dataclass(frozen=True)
class Measured:
    """An epoch is complete.

    Attributes:
        report: `records` of the epochs so far, and `faults` of the images.
        state: file of the reported checkpoint, there until the next message is taken.
    """

    report: dict[str, Any]
    state: Path


@dataclass(frozen=True)
class Ended:
    """The worker has nothing more to say."""

    error: Exception | None = None


Message = Begun | Counted | Measured
