"""Does a larger mask score higher? The monotonicity test of eq. 8 (seeds EP-10, 2.5).

    a1 <= a2 < a*   =>   score(a1) <= score(a2)

A pair with fewer than two areas below its a* tests nothing. The paper's 98.45 % does not say whether such
vacuous pairs are in it (G8), so both readings are given, with their counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from extremal.pipeline.aggregates.class_channels import ClassKey, class_keys
from extremal.pipeline.aggregates.over_shards import Blocks, in_one
from extremal.storage import Run, RunError
from extremal.storage.kinds import Sweep

_COUNTS = ("n", "passed", "failed", "vacuous", "no_a_star")
_RESULTS = [
    *[(name, pa.int64()) for name in _COUNTS],
    ("pass_of_tested", pa.float64()),
    ("pass_of_all", pa.float64()),
    ("largest_violation", pa.float64()),
]

MONOTONICITY = pa.schema([("class_id", pa.int32()), ("class_name", pa.string()), *_RESULTS])
SUMMARY = pa.schema([("classes", pa.int64()), *_RESULTS])


def largest_drop(sizes: Sequence[float], scores: Sequence[float], a_star: float | None) -> float | None:
    """How far the score falls while the mask grows, over all pairs of sizes below a*.

    Args:
        sizes: (A) wanted areas or counts, in any order.
        scores: (A) logits.
        a_star: only sizes strictly below it are tested; None tests all.

    Returns:
        max of score(a1) - score(a2) over a1 <= a2 < a*, logit: 0 if the scores never fall, infinite if
        one of them is not finite, None if fewer than two sizes are below a*.
    """
    below = sorted((a, s) for a, s in zip(sizes, scores, strict=True) if a_star is None or a < a_star)
    if len(below) < 2:
        return None
    s = np.array([score for _, score in below], np.float64)
    if not np.isfinite(s).all():
        return float("inf")
    return float(np.max(np.maximum.accumulate(s) - s))


@dataclass
class Outcomes:
    """Outcomes of the test in some pairs of one class; those of shards add up with `merge`."""

    passed: int = 0
    failed: int = 0
    vacuous: int = 0
    no_a_star: int = 0
    largest_violation: float | None = None

    def add(self, drop: float | None, a_star: float | None) -> None:
        """Count one pair by its largest drop."""
        self.no_a_star += a_star is None
        if drop is None:
            self.vacuous += 1
            return
        # No tolerance: the paper states none (G8). The largest violation tells how much one would forgive.
        self.passed += drop == 0
        self.failed += drop != 0
        self.largest_violation = max(drop, self.largest_violation or 0.0)

    def merge(self, other: "Outcomes") -> None:
        """Add the pairs of another part of the same class."""
        self.passed += other.passed
        self.failed += other.failed
        self.vacuous += other.vacuous
        self.no_a_star += other.no_a_star
        if other.largest_violation is not None:
            self.largest_violation = max(other.largest_violation, self.largest_violation or 0.0)

    def row(self) -> dict[str, Any]:
        """Counts, rates (None where the denominator is 0) and the largest violation."""
        tested = self.passed + self.failed
        n = tested + self.vacuous
        return {
            "n": n,
            "passed": self.passed,
            "failed": self.failed,
            "vacuous": self.vacuous,
            "no_a_star": self.no_a_star,
            "pass_of_tested": self.passed / tested if tested else None,
            "pass_of_all": (self.passed + self.vacuous) / n if n else None,
            "largest_violation": self.largest_violation,
        }


def count_shard(table: pa.Table, sweep: Sweep) -> dict[ClassKey, Outcomes]:
    """Outcomes per class of some rows of the main table."""
    sizes, scores = (table[name].to_pylist() for name in sweep)
    parts: dict[ClassKey, Outcomes] = {}
    for key, a, s, a_star in zip(class_keys(table), sizes, scores, table["a_star"].to_pylist(), strict=True):
        parts.setdefault(key, Outcomes()).add(largest_drop(a, s, a_star), a_star)
    return parts


def monotonicity(run: Run, blocks: Blocks = in_one) -> pa.Table:
    """The test in every class of a run: rows of `MONOTONICITY`, by class.

    n = passed + failed + vacuous. `no_a_star` counts the pairs, in whichever of the three, in which no size
    reached the full score, so that all sizes were tested. `pass_of_tested` = passed / (passed + failed);
    `pass_of_all` = (passed + vacuous) / n, the paper's reading. Spatial runs compare the preservation
    scores over areas, channel runs those of the exact masks over counts, all of them logits (C14).

    Args:
        blocks: how to go over the shards; the result is the same.

    Raises:
        RunError: a shard is damaged or foreign, or its rows have no masks of several sizes.
    """
    total: dict[ClassKey, Outcomes] = {}
    for counts in blocks(run, _count_shards):
        _merge(total, counts)
    rows = [{"class_id": i, "class_name": name, **total[i, name].row()} for i, name in sorted(total)]
    return pa.Table.from_pylist(rows, schema=MONOTONICITY)


def _count_shards(run: Run, shards: Sequence[int]) -> dict[ClassKey, Outcomes]:
    sweep = run.kind.sweep
    if sweep is None:
        raise RunError(f"{run.place()} holds {run.kind.name} results, which are of no several sizes.")
    columns = ["class_id", "class_name", "target", "target_name", "a_star", *sweep]
    total: dict[ClassKey, Outcomes] = {}
    for table in run.tables(run.kind, columns, shards):
        _merge(total, count_shard(table, sweep))
    return total


def _merge(total: dict[ClassKey, Outcomes], parts: dict[ClassKey, Outcomes]) -> None:
    for key, part in parts.items():
        total.setdefault(key, Outcomes()).merge(part)


def monotonicity_summary(table: pa.Table) -> pa.Table:
    """The one row of `SUMMARY` over all pairs of a table of `monotonicity`."""
    whole = Outcomes()
    for row in table.to_pylist():
        part = {name: row[name] for name in (*_COUNTS[1:], "largest_violation")}
        whole.merge(Outcomes(**part))
    return pa.Table.from_pylist([{"classes": table.num_rows, **whole.row()}], schema=SUMMARY)
