"""What single aggregates add to a run's scores: tables to store, and which of their columns to show."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from extremal.pipeline.aggregates.bootstrap import (
    bootstrap,
    counted_points,
    differences,
    gather,
    with_intervals,
)
from extremal.pipeline.aggregates.curves import curves
from extremal.pipeline.aggregates.fidelity import fidelity
from extremal.pipeline.aggregates.inversions import mean_cosines
from extremal.pipeline.aggregates.monotonicity import monotonicity, monotonicity_summary
from extremal.pipeline.aggregates.over_shards import Blocks
from extremal.pipeline.aggregates.pointing import Rule, pointing, pointing_summary
from extremal.storage import Run

SUMMARY_COLUMNS = ("method", "subset", "class_mean", "pooled", "energy_class_mean", "skipped")
DIFFERENCE_COLUMNS = (
    "subset",
    "method",
    "other",
    "class_mean_difference",
    "class_mean_positive",
    "n",
    "n_other",
)
MONOTONICITY_COLUMNS = ("n", "passed", "failed", "vacuous", "pass_of_tested", "pass_of_all")
COSINE_COLUMNS = ("layer", "objective", "cosine", "cosine_masked", "cosine_between")
CURVE_COLUMNS = ("kept", "area", "score_mean", "normalised_mean", "normalised_median", "flat")


@dataclass(frozen=True)
class Shown:
    """A table for people: some columns of it, under a title."""

    title: str
    table: pa.Table
    columns: Sequence[str]


@dataclass
class Scores:
    """Of one run: whole tables by the name they are stored under, and what is shown, in order."""

    tables: dict[str, pa.Table] = field(default_factory=dict)
    shown: list[Shown] = field(default_factory=list)


# One of them adds its tables to what was found before.
Aggregate = Callable[[Scores, Run, Rule, Blocks], None]


def pointing_scores(scores: Scores, run: Run, rule: Rule, blocks: Blocks) -> None:
    """The pointing game with intervals, and the best method against the others."""
    table = pointing(run, rule, blocks)
    resampled = bootstrap(gather(counted_points(run, rule, blocks)))
    summary = with_intervals(pointing_summary(table), resampled)
    pairwise = differences(resampled)
    scores.tables |= {"pointing": table, "pointing_summary": summary, "differences": pairwise}
    title = f"Pointing game, {rule}: share of hits [95 % interval]"
    scores.shown.append(Shown(title, summary, SUMMARY_COLUMNS))
    best = _of_best(summary, pairwise)
    if best.num_rows:
        title = "The best method less the others, on the same resamples: points of percent"
        scores.shown.append(Shown(title, best, DIFFERENCE_COLUMNS))


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


def monotonicity_scores(scores: Scores, run: Run, rule: Rule, blocks: Blocks) -> None:
    """Does the score grow with the mask?"""
    steps = monotonicity(run, blocks)
    scores.tables["monotonicity"] = steps
    title = "Monotonicity: does the score grow with the mask, below a*?"
    scores.shown.append(Shown(title, monotonicity_summary(steps), MONOTONICITY_COLUMNS))


def curve_scores(scores: Scores, run: Run, rule: Rule, blocks: Blocks) -> None:
    """Score over area."""
    table = scores.tables["curves"] = curves(run, blocks)
    title = "Score over area: 1 is the whole image's, 0 the perturbed one's (number of pairs)"
    scores.shown.append(Shown(title, table, CURVE_COLUMNS))


def fidelity_scores(scores: Scores, run: Run, rule: Rule, blocks: Blocks) -> None:
    """Insertion and deletion, where they were measured."""
    table = fidelity(run, blocks)
    if table.num_rows:
        scores.tables["fidelity"] = table
        title = "Area under the insertion curve (more is better) and the deletion curve (less is better)"
        scores.shown.append(Shown(title, table, ("method", "insertion", "deletion")))


def inversion_scores(scores: Scores, run: Run, rule: Rule, blocks: Blocks) -> None:
    """Cosines of activations."""
    table = scores.tables["inversions"] = mean_cosines(run)
    title = "Cosine of a picture's activations with those inverted, and of the two pictures of a pair"
    scores.shown.append(Shown(title, table, COSINE_COLUMNS))
