"""The pointing game of many runs in the layout of the paper's Table 1 (seeds EP-12).

A column is a dataset with a network: runs over the same pairs with the same network. Methods of a column may
come from several runs. Runs of a method that differ in their seed alone are averaged, as the paper's RISE
and extremal perturbations are over three.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from extremal.pipeline.aggregates.bootstrap import (
    RESAMPLES,
    Bootstrap,
    bootstrap,
    counted_points,
    gather,
    interval,
)
from extremal.pipeline.aggregates.over_shards import Blocks, in_one
from extremal.pipeline.aggregates.pointing import CENTER, SUBSETS, Rule
from extremal.pipeline.aggregates.published import (
    as_published,
    dataset_of,
    has_papers_settings,
    method_settings,
    published_numbers,
)
from extremal.pipeline.identity import run_settings, run_tree
from extremal.storage import Run, RunError, kinds
from extremal.storage.trees import diff
from extremal.workers.saliency.methods import CARDS

# Names of the methods in tables: those of the paper's Table 1 in its order, then the others.
TITLES = {CENTER: "Center"} | {card.name: card.title for card in CARDS}
_DATASETS = {("voc", "2007:test"): "VOC07 test", ("coco", "val2014"): "COCO14 val"}
_METRICS = ("class_mean", "pooled")

TABLE = pa.schema(
    [
        ("column", pa.string()),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("network", pa.string()),
        ("method", pa.string()),
        ("subset", pa.string()),
        *[(f"{m}{end}", pa.float64()) for m in _METRICS for end in ("", "_low", "_high")],
        ("n", pa.int64()),
        ("runs", pa.int64()),
        ("published", pa.float64()),
        ("source", pa.string()),
    ]
)


@dataclass(frozen=True)
class Column:
    """Runs over the same pairs with the same network."""

    title: str
    runs: tuple[Run, ...]

    @property
    def names(self) -> tuple[str, str, str]:
        """Dataset, split and network."""
        dataset = dataset_of(self.runs[0])
        return dataset.get("name", ""), dataset.get("split") or "", self.runs[0].manifest.model.name


def make_columns(runs: Iterable[Run]) -> list[Column]:
    """Runs by dataset and network: those of the paper in its order, then the others as they come."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        manifest = run.manifest
        dataset = run_settings(manifest).get("dataset", {})
        identity = {"dataset": dataset, "model": asdict(manifest.model), "data": asdict(manifest.data)}
        groups.setdefault(json.dumps(identity, sort_keys=True), []).append(run)
    columns: list[Column] = []
    for members in groups.values():
        title = _title(members[0])
        twins = sum(column.title.partition(" #")[0] == title for column in columns)
        columns.append(Column(f"{title} #{twins + 1}" if twins else title, tuple(members)))
    order = list(dict.fromkeys(key[:3] for key in published_numbers()))
    return sorted(columns, key=lambda c: order.index(c.names) if c.names in order else len(order))


def _title(run: Run) -> str:
    dataset = dataset_of(run)
    name, split, limit = dataset.get("name", "?"), dataset.get("split"), dataset.get("limit")
    title = _DATASETS.get((name, split or ""), f"{name} {split or ''}".strip())
    first = f" (first {limit} pairs)" if limit else ""
    return f"{title}{first}, {run.manifest.model.name}"


def compare(
    columns: Sequence[Column], rule: Rule | None = None, intervals: bool = False, blocks: Blocks = in_one
) -> pa.Table:
    """Accuracies of every method in every column: rows of `TABLE`, by column, then method, then subset.

    `n` counts pairs, those of all the `runs` that were averaged together. Intervals resample the images of
    a column, the same for all runs and methods; a mean over runs is a mean in every resample, so that its
    interval is that of the images and not of the seeds. `published` is given where dataset, network,
    input and rule are the paper's, the set is whole, and the runs are complete.

    Raises:
        RunError: runs disagree about the settings of a method, or repeat a seed of it, or are damaged.
    """
    rule = rule or Rule()
    rows = [row for column in columns for row in _rows(column, rule, intervals, blocks)]
    return pa.Table.from_pylist(rows, schema=TABLE)


def _rows(column: Column, rule: Rule, intervals: bool, blocks: Blocks) -> Iterable[dict[str, Any]]:
    tables = [counted_points(run, rule, blocks) for run in column.runs]
    chosen = _choose(column.runs, tables)
    labelled = [_labelled(i, table, chosen) for i, table in enumerate(tables)]
    found = bootstrap(gather(pa.concat_tables(labelled)), RESAMPLES if intervals else 0)
    counts = found.outcomes.counts()
    dataset, split, network = column.names
    paper = published_numbers() if as_published(column.runs[0], rule) else {}
    complete = [not run.missing() for run in column.runs] if paper else []
    for method in sorted(chosen, key=lambda name: (_place(name), name)):
        members = [found.outcomes.methods.index(_label(i, method)) for i in chosen[method]]
        for s, subset in enumerate(SUBSETS):
            whole = bool(paper) and all(
                complete[i] and has_papers_settings(column.runs[i], method) for i in chosen[method]
            )
            theirs = paper.get((dataset, split, network, method, subset)) if whole else None
            yield {
                "column": column.title,
                "dataset": dataset,
                "split": split,
                "network": network,
                "method": method,
                "subset": subset,
                **_means(found, s, members),
                "n": int(counts[s, members].sum()),
                "runs": len(members),
                "published": theirs and theirs.accuracy,
                "source": theirs and theirs.source,
            }


def _place(method: str) -> int:
    return list(TITLES).index(method) if method in TITLES else len(TITLES)


def _label(run: int, method: str) -> str:
    return f"{run}:{method}"


def _labelled(run: int, table: pa.Table, chosen: dict[str, list[int]]) -> pa.Table:
    """The points of a run's chosen methods, which are named by the run too."""
    mine = [method for method, runs in chosen.items() if run in runs]
    names = table["method"].cast(pa.string())
    kept = pc.is_in(names, value_set=pa.array(mine, pa.string()))
    labels = pc.binary_join_element_wise(str(run), names, ":").cast(table.schema.field("method").type)
    return table.set_column(table.schema.get_field_index("method"), "method", labels).filter(kept)


def _means(found: Bootstrap, subset: int, members: list[int]) -> dict[str, float | None]:
    row: dict[str, float | None] = {}
    for metric in _METRICS:
        observed = float(getattr(found.observed, metric)[0, subset, members].mean())
        row[metric] = None if np.isnan(observed) else observed
        resampled = getattr(found.resampled, metric)[:, subset, members].mean(1)
        row[f"{metric}_low"], row[f"{metric}_high"] = interval(resampled)
    return row


def _choose(runs: Sequence[Run], tables: Sequence[pa.Table]) -> dict[str, list[int]]:
    """The runs whose points stand for each method. The center is the same in all: one run is enough."""
    chosen: dict[str, list[int]] = {}
    for i, table in enumerate(tables):
        for method in table["method"].unique().to_pylist():
            chosen.setdefault(method, []).append(i)
    for method, members in chosen.items():
        if method != CENTER:
            check_seeds(method, [(runs[i].place(), run_tree(runs[i].manifest)) for i in members])
    if CENTER in chosen:
        chosen[CENTER] = [max(chosen[CENTER], key=lambda i: _points(tables[i], CENTER))]
    return chosen


def _points(table: pa.Table, method: str) -> int:
    return int(pc.sum(pc.equal(table["method"].cast(pa.string()), method)).as_py() or 0)


def check_seeds(method: str, runs: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Runs of a column can be averaged for a method if they differ in their seed alone.

    Args:
        runs: name and configuration, with every setting of today, of each run that holds the method.

    Raises:
        RunError: they differ in a setting of the method, or two have one seed.
    """
    (first, config), *others = runs
    for name, other in others:
        lines = diff(method_settings(config, method), method_settings(other, method))
        if lines:
            raise RunError(
                f"{first} and {name} both hold {method}, with other settings:\n  "
                + "\n  ".join(lines)
                + "\nOnly runs that differ in their seed are averaged; put the others into another table."
            )
    seeds: dict[int, str] = {}
    for name, other in runs:
        seed = other.get("seed", 0)
        if seed in seeds:
            raise RunError(
                f"{seeds[seed]} and {name} both hold {method} with seed {seed}: give one of "
                "them, or runs with other seeds."
            )
        seeds[seed] = name


def run_notes(columns: Sequence[Column]) -> list[str]:
    """A line for every run that is incomplete or has failures: its pairs are in no number."""
    lines = []
    for run in (run for column in columns for run in column.runs):
        sizes = run.shard_sizes()
        total = sum(sizes.values())
        missing = sum(sizes[shard] for shard in run.missing())
        failed = run.table(kinds.FAILURES, [run.unit.number]).num_rows
        if missing:
            lines.append(f"incomplete: {run.place()}: {missing} of {total} pairs are not computed yet")
        if failed:
            lines.append(f"failures: {run.place()}: {failed} of {total} pairs could not be computed")
    return lines
