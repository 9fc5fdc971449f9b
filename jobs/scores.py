"""Scores of a run: computed from the store, printed, and written into the run as Parquet and CSV."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from rich.console import Console

from jobs.pictures import similarity_map
from jobs.tasks import blocks
from pipeline.blocks import Blocks
from pipeline.bootstrap import bootstrap, counted_points, differences, gather, with_intervals
from pipeline.classes import class_channels
from pipeline.curves import curves
from pipeline.fidelity import fidelity
from pipeline.inversions import mean_cosines
from pipeline.monotonicity import monotonicity, monotonicity_summary
from pipeline.pointing import Rule, pointing, pointing_summary
from pipeline.report import print_table
from pipeline.similarity import closest_classes, similarity
from storage import Kind, Run

SUMMARY_COLUMNS = ["method", "subset", "class_mean", "pooled", "energy_class_mean", "skipped"]
DIFFERENCE_COLUMNS = [
    "subset",
    "method",
    "other",
    "class_mean_difference",
    "class_mean_positive",
    "n",
    "n_other",
]
MONOTONICITY_COLUMNS = ["n", "passed", "failed", "vacuous", "pass_of_tested", "pass_of_all"]
CURVE_COLUMNS = ["kept", "area", "score_mean", "normalised_mean", "normalised_median", "flat"]
COSINE_COLUMNS = ["layer", "objective", "cosine", "cosine_masked", "cosine_between"]
CLOSEST_COLUMNS = ["class_name", "other_name", "centred_cosine", "raw_cosine", "n", "n_other"]
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
        # Inversions point at nothing.
        written = {} if run.kind == Kind.INVERSION else _pointing(run, rule, way, console)
        for show in _OTHERS[run.kind]:
            written |= show(run, way, console)
    for name, table in written.items():
        console.print(f"wrote {run.write_scores(name, table)}", style="dim", soft_wrap=True)


def _pointing(run: Run, rule: Rule, way: Blocks, console: Console) -> dict[str, pa.Table]:
    table = pointing(run, rule, way)
    found = bootstrap(gather(counted_points(run, rule, way)))
    summary, pairwise = with_intervals(pointing_summary(table), found), differences(found)
    print_table(
        summary, f"Pointing game, {rule}: share of hits [95 % interval]", SUMMARY_COLUMNS, console=console
    )
    best = _of_best(summary, pairwise)
    if best.num_rows:
        title = "The best method less the others, on the same resamples: points of percent"
        print_table(best, title, DIFFERENCE_COLUMNS, console)
    return {"pointing": table, "pointing_summary": summary, "differences": pairwise}


def _of_best(summary: pa.Table, pairwise: pa.Table) -> pa.Table:
    """The differences of the method with the highest class mean of each subset."""
    best: dict[str, tuple[float, str]] = {}
    for row in summary.to_pylist():
        if row["class_mean"] is not None:
            here = row["class_mean"], row["method"]
            best[row["subset"]] = max(best.get(row["subset"], here), here)
    keys = {(subset, method) for subset, (_, method) in best.items()}
    rows = zip(pairwise["subset"].to_pylist(), pairwise["method"].to_pylist(), strict=True)
    return pairwise.filter(pa.array([key in keys for key in rows], pa.bool_()))


def _monotonicity(run: Run, way: Blocks, console: Console) -> dict[str, pa.Table]:
    steps = monotonicity(run, way)
    title = "Monotonicity: does the score grow with the mask, below a*?"
    print_table(monotonicity_summary(steps), title, MONOTONICITY_COLUMNS, console)
    return {"monotonicity": steps}


def _curves(run: Run, way: Blocks, console: Console) -> dict[str, pa.Table]:
    table = curves(run, way)
    title = "Score over area: 1 is the whole image's, 0 the perturbed one's (number of pairs)"
    print_table(table, title, CURVE_COLUMNS, console)
    return {"curves": table}


def _fidelity(run: Run, way: Blocks, console: Console) -> dict[str, pa.Table]:
    table = fidelity(run, way)
    if not table.num_rows:
        return {}
    title = "Area under the insertion curve (more is better) and the deletion curve (less is better)"
    print_table(table, title, ["method", "insertion", "deletion"], console)
    return {"fidelity": table}


def _inversions(run: Run, way: Blocks, console: Console) -> dict[str, pa.Table]:
    table = mean_cosines(run)
    title = "Cosine of a picture's activations with those inverted, and of the two pictures of a pair"
    print_table(table, title, COSINE_COLUMNS, console)
    return {"inversions": table}


_OTHERS: dict[Kind, list[Callable[[Run, Blocks, Console], dict[str, pa.Table]]]] = {
    Kind.SPATIAL: [_monotonicity, _curves],
    Kind.CHANNEL: [_monotonicity],
    Kind.SALIENCY: [_fidelity],
    Kind.INVERSION: [_inversions],
}


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
    written = [f"{run.write_scores('classes', table, hidden=('mean_mask',))} (mean masks: classes.parquet)"]
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
    names = [found.classes[i][1] or str(found.classes[i][0]) for i in found.order]
    picture = similarity_map(found.cosine[np.ix_(found.order, found.order)], names)
    return [run.write_scores("similarity", closest), run.write_score("similarity.png", picture)]


def _layer(run: Run) -> str:
    return str(run.manifest["config"]["channel"]["layer"])


def warn_incomplete(run: Run, console: Console) -> None:
    failed = run.table(Kind.FAILURES, ["pair"]).num_rows
    if failed:
        console.print(
            f"warning: {failed} of {run.manifest['dataset']['pairs']} pairs failed and are in no score"
        )
    missing = len(run.missing())
    if missing:
        console.print(f"warning: {missing} shards are not committed and in no score")
