"""The pointing game, re-scored from the points table alone (reference protocol, 3.2 items 3, 5, 18-20).

A pair is a hit if the point lies less than a tolerance from the object. Workers store the squared distance
to the nearest pixel of the class, so any tolerance can be applied later, without images or networks.

Energy-based pointing (Wang et al., 2020) asks for no point: the share of a map's positive values that lies on
the object, averaged over the same pairs.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Literal

import pyarrow as pa

from extremal.pipeline.aggregates.over_shards import Blocks, in_one
from extremal.storage import Run, kinds

TOLERANCE_PX = 15.0
SUBSETS = ("all", "difficult")

# What can become of a pair; also the names of the columns that count it.
HITS, MISSES, SKIPPED, NO_GROUND_TRUTH = "hits", "misses", "skipped", "no_ground_truth"
OUTCOMES = (HITS, MISSES, SKIPPED, NO_GROUND_TRUTH)

# Counted beside them: pairs with an energy, and the sum of their energies in units of 1/UNIT. As a whole
# number it is the same in whatever order shards are added; a float32 above 2^-36 is a whole multiple.
ENERGIES, ENERGY = "energy_n", "energy"
UNIT = 2**60

# (method, subset, class_id, class_name, outcome) -> pairs: the partial of a shard and, merged, the total.
Tally = Counter[tuple[str, str, int, str, str]]

CENTER = "center"
_COLUMNS = ["method", "class_id", "class_name", "all_difficult", "difficult", "energy_inside"]
_COUNTS = [(outcome, pa.int64()) for outcome in OUTCOMES]

POINTING = pa.schema(
    [
        ("method", pa.string()),
        ("subset", pa.string()),
        ("class_id", pa.int32()),
        ("class_name", pa.string()),
        *_COUNTS,
        ("accuracy", pa.float64()),
        (ENERGIES, pa.int64()),
        (ENERGY, pa.float64()),
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
        (ENERGIES, pa.int64()),
        ("energy_class_mean", pa.float64()),
        ("energy_pooled", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Rule:
    """What counts as a hit. The default is the reference protocol's.

    Attributes:
        tolerance: pixels of the original image, exclusive (item 19); 0 = inside the object.
        region: `mask`, the protocol's: COCO's masks and VOC's boxes (item 4); `box`: boxes in either.
        point: `smooth`, maximum of the map blurred as its method asks; `plain`, of the map as it is. The
            center is the same in both.

    Raises:
        ValueError: the tolerance is negative, or the distance of a plain point to the boxes is asked for.
    """

    tolerance: float = TOLERANCE_PX
    region: Literal["mask", "box"] = "mask"
    point: Literal["smooth", "plain"] = "smooth"

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise ValueError(f"the tolerance is a distance in pixels and cannot be {self.tolerance}")
        if self.region not in ("mask", "box") or self.point not in ("smooth", "plain"):
            raise ValueError(f"region is mask or box, point smooth or plain; not {self.region}, {self.point}")
        if self.region == "box" and self.point == "plain":
            raise ValueError(
                "the plain point is stored with its distance to the protocol's region alone: leave out "
                "region box (on VOC that region is the boxes) or point plain"
            )

    @property
    def columns(self) -> list[str]:
        """The columns of POINTS that `distances` reads."""
        if self.region == "box":
            return ["box_distance2"]
        return ["distance2"] if self.point == "smooth" else ["method", "distance2", "plain_distance2"]

    def distances(self, points: pa.Table) -> list[int | None]:
        """Squared distance of each point to the region, pixels; None without ground truth."""
        if self.region == "box" or self.point == "smooth":
            return list(points[self.columns[0]].to_pylist())
        columns = zip(*(points[name].to_pylist() for name in self.columns), strict=True)
        return [smooth if method == CENTER else plain for method, smooth, plain in columns]

    def outcomes(self, points: pa.Table) -> list[str]:
        """What became of the pair of each point; see `outcome`."""
        pairs = zip(self.distances(points), points["all_difficult"].to_pylist(), strict=True)
        return [outcome(distance2, all_difficult, self.tolerance) for distance2, all_difficult in pairs]

    def __str__(self) -> str:
        region = "masks (COCO) or boxes (VOC)" if self.region == "mask" else "boxes"
        return f"tolerance {self.tolerance:g} px, {region}, {self.point} point"


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
    return HITS if distance2 == 0 or distance2 < tolerance * tolerance else MISSES


def tally(points: pa.Table, rule: Rule) -> Tally:
    """Count the outcomes of some rows of the points table; tallies of shards add up with `update`."""
    counts: Tally = Counter()
    columns = [points[name].to_pylist() for name in _COLUMNS]
    for result, (method, class_id, class_name, skipped, difficult, energy) in zip(
        rule.outcomes(points), zip(*columns, strict=True), strict=True
    ):
        for subset in SUBSETS if difficult else SUBSETS[:1]:
            counts[method, subset, class_id, class_name, result] += 1
            if energy is not None and not skipped:
                counts[method, subset, class_id, class_name, ENERGIES] += 1
                counts[method, subset, class_id, class_name, ENERGY] += int(energy * UNIT)
    return counts


def ratio(part: float, whole: int) -> float | None:
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
                counts = {o: total[method, subset, class_id, name, o] for o in (*OUTCOMES, ENERGIES)}
                row: dict[str, Any] = {
                    "method": method,
                    "subset": subset,
                    "class_id": class_id,
                    "class_name": name,
                }
                accuracy = ratio(counts[HITS], counts[HITS] + counts[MISSES])
                energy = ratio(total[method, subset, class_id, name, ENERGY], UNIT * counts[ENERGIES])
                rows.append({**row, **counts, "accuracy": accuracy, ENERGY: energy})
    return pa.Table.from_pylist(rows, schema=POINTING)


def pointing(run: Run, rule: Rule | None = None, blocks: Blocks = in_one) -> pa.Table:
    """Accuracy and energy of every method, subset and class of a run: rows of `POINTING`.

    `energy` is the mean of `energy_inside` over the `energy_n` pairs that have one and are not skipped; its
    region is the protocol's, whatever the rule.

    Args:
        run: a run with points.
        rule: what counts as a hit; the protocol's by default.
        blocks: how to go over the shards; the result is the same, to the bit.

    Raises:
        RunError: a shard is damaged or foreign.
    """
    total: Tally = Counter()
    for counts in blocks(run, partial(_tally_shards, rule=rule or Rule())):
        total.update(counts)
    return pointing_rows(total)


def _tally_shards(run: Run, shards: Sequence[int], rule: Rule) -> Tally:
    counts: Tally = Counter()
    for points in run.tables(kinds.POINTS, list(dict.fromkeys([*_COLUMNS, *rule.columns])), shards):
        counts.update(tally(points, rule))
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
    `energy_class_mean` and `energy_pooled` are the same two means of the energy, over `energy_n` pairs.
    """
    summary: list[dict[str, Any]] = []
    for method, subset, rows in _by_method_and_subset(table):
        counts = {o: sum(row[o] for row in rows) for o in OUTCOMES}
        counts[ENERGIES] = sum(row[ENERGIES] for row in rows)
        accuracies = [row["accuracy"] for row in rows if row["accuracy"] is not None]
        energies = [row for row in rows if row[ENERGY] is not None]
        summary.append(
            {
                "method": method,
                "subset": subset,
                "classes_seen": len(accuracies),
                **counts,
                "class_mean": ratio(sum(accuracies), len(accuracies)),
                "pooled": ratio(counts[HITS], counts[HITS] + counts[MISSES]),
                "energy_class_mean": ratio(sum(row[ENERGY] for row in energies), len(energies)),
                "energy_pooled": ratio(
                    sum(row[ENERGY] * row[ENERGIES] for row in energies), counts[ENERGIES]
                ),
            }
        )
    return pa.Table.from_pylist(summary, schema=SUMMARY)
