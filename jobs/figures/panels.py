"""Panels that several figures share, or the reason why there is none."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from extremal.jobs.drawing import Panel, plain
from extremal.jobs.figures.chosen import FigureRuns
from extremal.jobs.joined_runs import Absent, Row
from extremal.storage import Run
from extremal.workers.errors import ImageError
from extremal.workers.images import decode

GROUND = 0.7  # brightness of what stands for a missing image below a mask
NAME_LETTERS = 40  # so that the score after a long name is not cut


def name_of(row: Row) -> str:
    """What a pair is called: its class, or where the dataset knows none, the output that was explained."""
    return plain(str(row["class_name"] or row.get("target_name") or row["image_id"]), NAME_LETTERS)


def or_note(title: str, make: Callable[..., Panel], *arguments: Any) -> Panel:
    """A panel, or why there is none."""
    try:
        return make(*arguments)
    except Absent as absent:
        return Panel(title, note=str(absent))


def image_panel(
    joined: FigureRuns, run: Run, row: Row, title: str, shape: Sequence[int] | None = None
) -> Panel:
    """The image of a row; see `FigureRuns.picture`."""
    try:
        return Panel(title, joined.picture(run, row["path"], shape))
    except Absent as absent:
        return Panel(title, note=str(absent))


def ground_of(image: Panel, height: int, width: int) -> np.ndarray:
    """What to lay a mask over: the image, or plain ground of this size where it is missing."""
    return np.full((height, width, 3), GROUND) if image.picture is None else image.picture


def stored_picture(content: bytes) -> np.ndarray:
    """A PNG of the store as (h,w,3) in 0..1.

    Raises:
        Absent: it cannot be decoded.
    """
    try:
        return np.asarray(decode(content)) / 255
    except ImageError as error:
        raise Absent(str(error)) from error
