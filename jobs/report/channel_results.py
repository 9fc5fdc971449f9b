"""What follows from a channel run: images that excite its channels, similarity of classes, ablation."""

import pyarrow as pa
import pyarrow.parquet as pq

from extremal.jobs.drawing import similarity_map
from extremal.jobs.page_data import SimilarityRecord, Table
from extremal.jobs.report.text_tables import text_table
from extremal.pipeline.aggregates.ablation import SHOWN
from extremal.pipeline.aggregates.class_channels import ClassKey
from extremal.pipeline.aggregates.exemplars import exemplars
from extremal.pipeline.aggregates.similarity import CLOSEST_COLUMNS, closest_classes
from extremal.pipeline.aggregates.similarity import similarity as similarity_of
from extremal.storage import Run, RunError
from extremal.storage.files import exists

CLOSEST_SHOWN = 50

Examples = dict[int, list[tuple[str, str, float]]]  # by channel: image, class, activation


def examples(run: Run, channels: list[int], top: int) -> Examples:
    """By channel: image_id, class_name and activation of the images that excite it most, in order."""
    by_channel: Examples = {}
    for row in exemplars(run, channels, top).to_pylist():
        example = row["image_id"], row["class_name"], row["activation"]
        by_channel.setdefault(row["channel"], []).append(example)
    return by_channel


def similarity(classes: pa.Table, index: dict[ClassKey, int]) -> tuple[bytes, SimilarityRecord] | None:
    """The PNG of the classes' similarity and what `classes.js` says of it, None if fewer than two have masks.

    Args:
        classes: rows of `CLASS_CHANNELS`. index: of the site's classes.
    """
    cosines = similarity_of(classes)
    if len(cosines.classes) < 2:
        return None
    keys = [cosines.classes[i] for i in cosines.order]
    closest = closest_classes(cosines).slice(0, CLOSEST_SHOWN)
    left_out = f"; {cosines.left_out} without a mean mask are left out" if cosines.left_out else ""
    return similarity_map(cosines), {
        "image": "similarity.png",
        "order": [index[key] for key in keys if key in index],
        "closest": text_table("closest", "The closest classes", closest, CLOSEST_COLUMNS),
        "note": f"{len(keys)} classes{left_out}: cosine of the mean channel masks less their mean, clustered",
    }


def ablation(run: Run) -> Table | None:
    """The TABLE of `extremal ablate`, None if that has not been computed."""
    path = f"{run.root}/scores/ablation.parquet"
    if not exists(run.filesystem, path):
        return None
    try:
        stored = pq.read_table(path, filesystem=run.filesystem)
    except (OSError, pa.ArrowException) as error:
        place = run.place("scores/ablation.parquet")
        raise RunError(f"{place} cannot be read ({error}): `extremal ablate` makes it anew.") from error
    if not {*SHOWN} <= {*stored.column_names}:
        place = run.place("scores/ablation.parquet")
        raise RunError(f"{place} holds another table: `extremal ablate` makes it anew.")
    title = "Drop of the logit without each class's top channels"
    k = stored["k"][0].as_py() if stored.num_rows else 0
    note = f"{k} channels set to zero; excess: own less others'; matched: random channels of the same energy"
    return text_table("ablation", title, stored, SHOWN, note)
