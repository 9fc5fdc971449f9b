"""Saliency methods: a row for each method of a pair."""

from extremal.jobs.studies.view import StudyView, labelled, positive_maps, tile
from extremal.storage import Run

_LABELS = {
    "score_full": "score of the whole image (logit)",
    "insertion": "insertion",
    "deletion": "deletion",
    "seconds": "seconds",
}


def methods(run: Run) -> list[str]:
    """The methods of a run, in its order."""
    return list(run.manifest.setting("saliency", "methods"))


SALIENCY = StudyView(
    name="saliency",
    columns=("method", "score_full", "map_shape", "insertion", "deletion", "seconds"),
    method=lambda run: ", ".join(methods(run)),
    tiles=lambda row: [tile(row["method"], "maps", row["method"])] if row["map_shape"] else [],
    cells=lambda settings, row: row["map_shape"],
    map_columns=("map", "map_shape"),
    maps=lambda settings, table: positive_maps(table, "map", "map_shape"),
    numbers=lambda row: labelled(row, _LABELS, f"{row['method']}: "),
)
