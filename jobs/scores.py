"""Scores of a run: computed from the store, printed, and written into the run as Parquet and CSV."""

from rich.console import Console

from jobs.tasks import blocks
from pipeline.classes import class_channels
from pipeline.pointing import Rule
from pipeline.report import print_table
from pipeline.scores import scores
from storage import Kind, Run

CLASS_COLUMNS = ["class_name", "n", "mean_a_star", "top_channels", "specific_channels"]


def show_scores(uri: str, rule: Rule, console: Console) -> None:
    """The pointing game of a run, and what else its kind of results tells.

    Raises:
        RunError: the run cannot be read or written.
    """
    run = Run.open(uri)
    _warn_incomplete(run, console)
    with blocks() as way:
        found = scores(run, rule, way)
    for shown in found.shown:
        print_table(shown.table, shown.title, shown.columns, console)
    for name, table in found.tables.items():
        console.print(f"wrote {run.write_scores(name, table)}", style="dim", soft_wrap=True)


def show_classes(uri: str, top: int, console: Console) -> None:
    """Per-class channels of a channel run.

    Raises:
        RunError: the run cannot be read or written, or has no channel masks.
    """
    run = Run.open(uri)
    _warn_incomplete(run, console)
    with blocks() as way:
        table = class_channels(run, top, way)
    print_table(table, f"Channels per class, layer {_layer(run)}", CLASS_COLUMNS, console)
    path = run.write_scores("classes", table, hidden=("mean_mask",))
    console.print(
        f"wrote {path} (mean masks are in classes.parquet)",
        style="dim",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def _layer(run: Run) -> str:
    return str(run.manifest["config"]["channel"]["layer"])


def _warn_incomplete(run: Run, console: Console) -> None:
    failed = run.table(Kind.FAILURES, ["pair"]).num_rows
    if failed:
        console.print(
            f"warning: {failed} of {run.manifest['dataset']['pairs']} pairs failed and are in no score"
        )
    missing = len(run.missing())
    if missing:
        console.print(f"warning: {missing} shards are not committed and in no score")
