"""Scores of a run: computed from the store, printed, and written into the run as Parquet and CSV."""

from rich.console import Console

from jobs.tasks import blocks
from pipeline.classes import class_channels
from pipeline.monotonicity import monotonicity, monotonicity_summary
from pipeline.pointing import pointing, pointing_summary
from pipeline.report import print_table
from storage import Kind, Run

SUMMARY_COLUMNS = ["method", "subset", "class_mean", "pooled", "skipped"]
MONOTONICITY_COLUMNS = ["n", "passed", "failed", "vacuous", "pass_of_tested", "pass_of_all"]
CLASS_COLUMNS = ["class_name", "n", "mean_a_star", "top_channels", "specific_channels"]


def show_scores(uri: str, tolerance: float, console: Console) -> None:
    """Pointing game and monotonicity of a run.

    Raises:
        RunError: the run cannot be read or written.
        ValueError: the tolerance is negative.
    """
    run = Run.open(uri)
    _warn_incomplete(run, console)
    with blocks() as way:
        table, steps = pointing(run, tolerance, way), monotonicity(run, way)
    summary = pointing_summary(table)
    print_table(
        summary, f"Pointing game, tolerance {tolerance:g} px: share of hits", SUMMARY_COLUMNS, console
    )
    total = monotonicity_summary(steps)
    print_table(
        total, "Monotonicity: does the score grow with the mask, below a*?", MONOTONICITY_COLUMNS, console
    )
    written = [
        run.write_scores("pointing", table),
        run.write_scores("pointing_summary", summary),
        run.write_scores("monotonicity", steps),
    ]
    for path in written:
        console.print(f"wrote {path}", style="dim", soft_wrap=True)


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
