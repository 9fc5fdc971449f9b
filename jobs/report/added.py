"""What other commands may have added to a channel run: examples, similarity, ablation. Joined here alone."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from extremal.jobs.figures.drawing import similarity_map
from extremal.jobs.report.class_pages import Examples
from extremal.jobs.report.overview import table
from extremal.pipeline.aggregates.ablation import SHOWN
from extremal.pipeline.aggregates.class_channels import ClassKey
from extremal.pipeline.aggregates.exemplars import exemplars
from extremal.pipeline.aggregates.similarity import CLOSEST_COLUMNS, closest_classes
from extremal.pipeline.aggregates.similarity import similarity as similarity_of
from extremal.storage import Run, RunError
from extremal.storage.files import exists

CLOSEST_SHOWN = 50


def examples(run: Run, channels: list[int], top: int) -> Examples:
    """By channel: image_id, class_name and activation of the images that excite it most, in order."""
    found: Examples = {}
    for row in exemplars(run, channels, top).to_pylist():
        one = row["image_id"], row["class_name"], row["activation"]
        found.setdefault(row["channel"], []).append(one)
    return found


def similarity(classes: pa.Table, index: dict[ClassKey, int]) -> tuple[bytes, dict[str, Any]] | None:
    """The PNG of the classes' similarity and what `classes.js` says of it, None if fewer than two have masks.

    Args:
        classes: rows of `CLASS_CHANNELS`. index: of the site's classes.
    """
    found = similarity_of(classes)
    if len(found.classes) < 2:
        return None
    keys = [found.classes[i] for i in found.order]
    closest = closest_classes(found).slice(0, CLOSEST_SHOWN)
    left_out = f"; {found.left_out} without a mean mask are left out" if found.left_out else ""
    return similarity_map(found), {
        "image": "similarity.png",
        "order": [index[key] for key in keys if key in index],
        "closest": table("closest", "The closest classes", closest, CLOSEST_COLUMNS),
        "note": f"{len(keys)} classes{left_out}: cosine of the mean channel masks less their mean, clustered",
    }


def ablation(run: Run) -> dict[str, Any] | None:
    """The TABLE of `extremal ablate`, None if that has not been computed."""
    path = f"{run.root}/scores/ablation.parquet"
    if not exists(run.filesystem, path):
        return None
    try:
        found = pq.read_table(path, filesystem=run.filesystem)
    except (OSError, pa.ArrowException) as error:
        place = run.place("scores/ablation.parquet")
        raise RunError(f"{place} cannot be read ({error}): `extremal ablate` makes it anew.") from error
    if not {*SHOWN} <= {*found.column_names}:
        place = run.place("scores/ablation.parquet")
        raise RunError(f"{place} holds another table: `extremal ablate` makes it anew.")
    title = "Drop of the logit without each class's top channels"
    k = found["k"][0].as_py() if found.num_rows else 0
    note = f"{k} channels set to zero; excess: own less others'; matched: random channels of the same energy"
    return table("ablation", title, found, SHOWN, note)
