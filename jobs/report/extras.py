"""What other commands may have added to a channel run: examples, similarity, ablation. Joined here alone."""

from typing import Any

import pyarrow.parquet as pq

from jobs.report.overview import table
from storage import Run
from storage.files import exists

Examples = dict[int, list[tuple[str, str, float]]]


def examples(run: Run, channels: list[int]) -> Examples:
    """By channel: image_id, class_name and activation of the images that excite it most, in order."""
    return {}


def similarity(run: Run) -> tuple[bytes, dict[str, Any]] | None:
    """The PNG of the classes' similarity and what `classes.js` says of it, None if there is none."""
    return None


def ablation(run: Run) -> dict[str, Any] | None:
    """The TABLE of `extremal ablate`, None if that has not been computed."""
    path = f"{run.root}/scores/ablation.parquet"
    if not exists(run.filesystem, path):
        return None
    found = pq.read_table(path, filesystem=run.filesystem)
    return table("ablation", "Ablation of each class's top channels", found)
