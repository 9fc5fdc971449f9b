"""Scores of a run: computed from the store, printed, and written into the run as Parquet and CSV."""

import pyarrow as pa
from rich.console import Console

from extremal.jobs.drawing import similarity_map
from extremal.jobs.tables.printed import print_table, warn_incomplete
from extremal.pipeline.aggregates.blocks import blocks
from extremal.pipeline.aggregates.class_channels import class_channels
from extremal.pipeline.aggregates.pointing import Rule
from extremal.pipeline.aggregates.similarity import CLOSEST_COLUMNS, closest_classes, similarity
from extremal.pipeline.scores import scores
from extremal.storage import Run
from extremal.storage.scores import write_score, write_scores

CLOSEST_SHOWN = 10
CLASS_COLUMNS = ["class_name", "n", "mean_a_star", "top_channels", "specific_channels"]


def show_scores(uri: str, rule: Rule, console: Console) -> None:
    """The pointing game of a run, and what else its kind of results tells.

    Raises:
        RunError: the run cannot be read or written.
    """
    run = Run.open(uri)
    warn_incomplete(run, console)
    with blocks() as way:
        found = scores(run, rule, way)
    for shown in found.shown:
        print_table(shown.table, shown.title, shown.columns, console)
    for name, table in found.tables.items():
        console.print(f"wrote {write_scores(run, name, table)}", style="dim", soft_wrap=True)


def show_classes(uri: str, top: int, console: Console) -> None:
    """Per-class channels of a channel run.

    Raises:
        RunError: the run cannot be read or written, or has no channel masks.
    """
    run = Run.open(uri)
    warn_incomplete(run, console)
    with blocks() as way:
        table = class_channels(run, top, way)
    print_table(table, f"Channels per class, layer {_layer(run)}", CLASS_COLUMNS, console)
    written = [f"{write_scores(run, 'classes', table, hidden=('mean_mask',))} (mean masks: classes.parquet)"]
    written += _similarity(run, table, console)
    for path in written:
        console.print(f"wrote {path}", style="dim", highlight=False, soft_wrap=True, markup=False)


def _similarity(run: Run, classes: pa.Table, console: Console) -> list[str]:
    """The closest classes and their map, where there are two; returns the places of the files."""
    found = similarity(classes)
    if found.left_out:
        console.print(f"{found.left_out} of {classes.num_rows} classes have no mean mask: not compared")
    if len(found.classes) < 2:
        return []
    closest = closest_classes(found)
    title = f"The closest of {len(found.classes)} classes: cosine of the mean masks less their mean"
    print_table(closest.slice(0, CLOSEST_SHOWN), title, CLOSEST_COLUMNS, console)
    picture = write_score(run, "similarity.png", similarity_map(found))
    return [write_scores(run, "similarity", closest), picture]


def _layer(run: Run) -> str:
    return str(run.manifest.setting("channel", "layer"))
