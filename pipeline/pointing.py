"""The pointing game, re-scored from the points table alone (reference protocol, 3.2 items 3, 5, 18-20).

A pair is a hit if the point lies less than a tolerance from the object. Workers store the squared distance
to the nearest pixel of the class, so any tolerance can be applied later, without images or networks.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import pyarrow as pa

from pipeline.blocks import Blocks, in_one
from storage import Kind, Run

TOLERANCE_PX = 15.0
SUBSETS = ("all", "difficult")

# What can become of a pair; also the names of the columns that count it.
HITS, MISSES, SKIPPED, NO_GROUND_TRUTH = "hits", "misses", "skipped", "no_ground_truth"
OUTCOMES = (HITS, MISSES, SKIPPED, NO_GROUND_TRUTH)

# (method, subset, class_id, class_name, outcome) -> pairs: the partial of a shard and, merged, the total.
Tally = Counter[tuple[str, str, int, str, str]]

_COLUMNS = ["method", "class_id", "class_name", "distance2", "all_difficult", "difficult"]
_COUNTS = [(outcome, pa.int64()) for outcome in OUTCOMES]

POINTING = pa.schema(
    [
        ("method", pa.string()),
        ("subset", pa.string()),
        ("class_id", pa.int32()),
        ("class_name", pa.string()),
        *_COUNTS,
        ("accuracy", pa.float64()),
    ]
)

SUMMARY = pa.schema(
    [
        ("method", pa.string()),
        ("subset", pa.string()),
        ("classes_seen", pa.int64()),
        *_COUNTS,
        ("class_mean", pa.float64()),
        ("pooled", pa.float64()),
    ]
)


def outcome(distance2: int | None, all_difficult: bool, tolerance: float) -> str:
    """What became of one pair.

    Args:
        distance2: squared distance of the point to the object, pixels of the original image; 0 inside,
            None without ground truth.
        all_difficult: every object of the class is PASCAL-difficult: the pair does not count (item 3).
        tolerance: pixels of the original image, exclusive (item 19).
    """
    if all_difficult:
        return SKIPPED
    if distance2 is None:
        return NO_GROUND_TRUTH
    # Zero counts by itself, so that tolerance 0 means inside the object (the rule of seeds 2.4).
    return HITS if distance2 == 0 or distance2 < tolerance**2 else MISSES


def tally(points: pa.Table, tolerance: float) -> Tally:
    """Count the outcomes of some rows of the points table; tallies of shards add up with `update`."""
    counts: Tally = Counter()
    columns = [points[name].to_pylist() for name in _COLUMNS]
    for method, class_id, class_name, distance2, all_difficult, difficult in zip(*columns, strict=True):
        result = outcome(distance2, all_difficult, tolerance)
        counts[method, "all", class_id, class_name, result] += 1
        if difficult:
            counts[method, "difficult", class_id, class_name, result] += 1
    return counts


def ratio(part: int, whole: int) -> float | None:
    """part / whole, or None where there is nothing to divide by."""
    return part / whole if whole else None


def pointing_rows(total: Tally) -> pa.Table:
    """Rows of `POINTING` from a merged tally: by method, then subset, then class.

    A class has a row in both subsets even if the difficult one holds none of its pairs, which shows as
    zero counts and a null accuracy.
    """
    keys = sorted({(method, class_id, name) for method, _, class_id, name, _ in total})
    rows: list[dict[str, Any]] = []
    for method, of_method in groupby(keys, key=lambda key: key[0]):
        classes = [(class_id, name) for _, class_id, name in of_method]
        for subset in SUBSETS:
            for class_id, name in classes:
                counts = {o: total[method, subset, class_id, name, o] for o in OUTCOMES}
                row = {"method": method, "subset": subset, "class_id": class_id, "class_name": name}
                accuracy = ratio(counts[HITS], counts[HITS] + counts[MISSES])
                rows.append({**row, **counts, "accuracy": accuracy})
    return pa.Table.from_pylist(rows, schema=POINTING)


def pointing(run: Run, tolerance: float = TOLERANCE_PX, blocks: Blocks = in_one) -> pa.Table:
    """Accuracy of every method, subset and class of a run: rows of `POINTING`.

    Args:
        run: a run with points.
        tolerance: pixels of the original image; the distance must be smaller, or the point inside.
        blocks: how to go over the shards; the result is the same.

    Raises:
        ValueError: the tolerance is negative.
        RunError: a shard is damaged or foreign.
    """
    if tolerance < 0:
        raise ValueError(f"the tolerance is a distance in pixels and cannot be {tolerance}")
    total: Tally = Counter()
    for counts in blocks(run, partial(_tally_shards, tolerance=tolerance)):
        total.update(counts)
    return pointing_rows(total)


def _tally_shards(run: Run, shards: Sequence[int], tolerance: float) -> Tally:
    counts: Tally = Counter()
    for points in run.tables(Kind.POINTS, _COLUMNS, shards):
        counts.update(tally(points, tolerance))
    return counts


def _by_method_and_subset(table: pa.Table) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        groups.setdefault((row["method"], row["subset"]), []).append(row)
    for (method, subset), rows in groups.items():
        yield method, subset, rows


def pointing_summary(table: pa.Table) -> pa.Table:
    """One row of `SUMMARY` per method and subset of a table of `pointing`.

    `class_mean` is the plain mean of the accuracies of the `classes_seen` classes with a hit or a miss
    (item 20, except that a class never seen does not count as 0); `pooled` is hits / (hits + misses).
    Both are null if there was neither. Seeds G6: the paper does not say which of the two it prints.
    """
    summary: list[dict[str, Any]] = []
    for method, subset, rows in _by_method_and_subset(table):
        counts = {o: sum(row[o] for row in rows) for o in OUTCOMES}
        accuracies = [row["accuracy"] for row in rows if row["accuracy"] is not None]
        summary.append(
            {
                "method": method,
                "subset": subset,
                "classes_seen": len(accuracies),
                **counts,
                "class_mean": sum(accuracies) / len(accuracies) if accuracies else None,
                "pooled": ratio(counts[HITS], counts[HITS] + counts[MISSES]),
            }
        )
    return pa.Table.from_pylist(summary, schema=SUMMARY)
