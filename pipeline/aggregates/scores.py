"""All that a run's files tell of its quality: the tables to store, and which of their columns to show."""

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
from extremal.pipeline.aggregates.monotonicity import monotonicity, monotonicity_summary
from extremal.pipeline.aggregates.over_shards import Blocks, in_one
from extremal.pipeline.aggregates.pointing import Rule, pointing, pointing_summary
from extremal.pipeline.inversion import mean_cosines
from extremal.storage import Run, kinds
from extremal.storage.kinds import Kind

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


def scores(run: Run, rule: Rule, blocks: Blocks = in_one) -> Scores:
    """The pointing game of a run, and what else its kind of results tells.

    Raises:
        RunError: a shard is damaged or foreign.
    """
    found = Scores()
    for add in _OF_KIND[run.kind]:
        add(found, run, rule, blocks)
    return found


def _pointing(found: Scores, run: Run, rule: Rule, blocks: Blocks) -> None:
    table = pointing(run, rule, blocks)
    resampled = bootstrap(gather(counted_points(run, rule, blocks)))
    summary = with_intervals(pointing_summary(table), resampled)
    pairwise = differences(resampled)
    found.tables |= {"pointing": table, "pointing_summary": summary, "differences": pairwise}
    title = f"Pointing game, {rule}: share of hits [95 % interval]"
    found.shown.append(Shown(title, summary, SUMMARY_COLUMNS))
    best = _of_best(summary, pairwise)
    if best.num_rows:
        title = "The best method less the others, on the same resamples: points of percent"
        found.shown.append(Shown(title, best, DIFFERENCE_COLUMNS))


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


def _monotonicity(found: Scores, run: Run, rule: Rule, blocks: Blocks) -> None:
    steps = monotonicity(run, blocks)
    found.tables["monotonicity"] = steps
    title = "Monotonicity: does the score grow with the mask, below a*?"
    found.shown.append(Shown(title, monotonicity_summary(steps), MONOTONICITY_COLUMNS))


def _curves(found: Scores, run: Run, rule: Rule, blocks: Blocks) -> None:
    table = found.tables["curves"] = curves(run, blocks)
    title = "Score over area: 1 is the whole image's, 0 the perturbed one's (number of pairs)"
    found.shown.append(Shown(title, table, CURVE_COLUMNS))


def _fidelity(found: Scores, run: Run, rule: Rule, blocks: Blocks) -> None:
    table = fidelity(run, blocks)
    if table.num_rows:
        found.tables["fidelity"] = table
        title = "Area under the insertion curve (more is better) and the deletion curve (less is better)"
        found.shown.append(Shown(title, table, ("method", "insertion", "deletion")))


def _inversions(found: Scores, run: Run, rule: Rule, blocks: Blocks) -> None:
    table = found.tables["inversions"] = mean_cosines(run)
    title = "Cosine of a picture's activations with those inverted, and of the two pictures of a pair"
    found.shown.append(Shown(title, table, COSINE_COLUMNS))


_OF_KIND: dict[Kind, Sequence[Callable[[Scores, Run, Rule, Blocks], None]]] = {
    kinds.SPATIAL: (_pointing, _monotonicity, _curves),
    kinds.CHANNEL: (_pointing, _monotonicity),
    kinds.SALIENCY: (_pointing, _fidelity),
    kinds.INVERSION: (_inversions,),  # it points at nothing
}
