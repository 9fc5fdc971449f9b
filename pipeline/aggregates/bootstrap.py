"""Confidence intervals of the pointing game: percentile bootstrap over images.

Pairs of one image are not independent, so a resample draws whole images: as many as there are, with
replacement, each with all its pairs. All methods are scored on the same resamples, which makes their
differences paired: what is easy or hard in a resample is so for both.

Images are those with a pair that counts (a hit or a miss) for some method, in the subset `all`; in the
subset `difficult` the number of pairs is therefore itself random. The class mean of a resample is the mean
over the classes that have a pair in it: a class without one is left out, as it is from the accuracy itself.
A resample without any pair of a subset is in none of its intervals.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from extremal.pipeline.aggregates.over_shards import Blocks, in_one
from extremal.pipeline.aggregates.pointing import HITS, MISSES, SUBSETS, Rule
from extremal.storage import Run, kinds

RESAMPLES = 1000
LEVEL = 95.0  # percent
CHUNK = 32  # resamples at a time

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]

_NAME = pa.dictionary(pa.int32(), pa.string())
_COUNTED = pa.schema(
    [
        ("image_id", _NAME),
        ("class_id", pa.int32()),
        ("method", _NAME),
        ("hit", pa.bool_()),
        ("difficult", pa.bool_()),
    ]
)
_METRICS = ("class_mean", "pooled")
_LIMITS = [(f"{metric}_{end}", pa.float64()) for metric in _METRICS for end in ("low", "high")]

DIFFERENCES = pa.schema(
    [
        ("subset", pa.string()),
        ("method", pa.string()),
        ("other", pa.string()),
        ("n", pa.int64()),
        ("n_other", pa.int64()),
        *[
            (f"{metric}_{part}", pa.float64())
            for metric in _METRICS
            for part in ("difference", "low", "high", "positive")
        ],
    ]
)


@dataclass(frozen=True)
class Outcomes:
    """Hits and misses of P pairs by M methods; P * (M + 17) bytes.

    Attributes:
        methods: (M) names, sorted.
        image: (P) number of the pair's image, 0 to I-1, all of which occur.
        of_class: (P) number of its class, 0 to C-1.
        difficult: (P) in the Difficult subset.
        hit: (P,M) int8: 1 a hit, 0 a miss, -1 the method has no counted point for the pair.
    """

    methods: tuple[str, ...]
    image: Ints
    of_class: Ints
    difficult: npt.NDArray[np.bool_]
    hit: npt.NDArray[np.int8]

    @property
    def images(self) -> int:
        """I, the number of images."""
        return int(self.image.max(initial=-1)) + 1

    def counts(self) -> Ints:
        """(S,M) counted pairs of each subset and method."""
        counted = self.hit >= 0
        return np.stack([counted.sum(0), counted[self.difficult].sum(0)])


@dataclass(frozen=True)
class Accuracies:
    """Accuracies under R weightings of the images, NaN without a pair.

    Attributes:
        class_mean, pooled: (R,S,M) for the S subsets of `SUBSETS` and M methods.
    """

    class_mean: Floats
    pooled: Floats


def counted_points(run: Run, rule: Rule, blocks: Blocks = in_one) -> pa.Table:
    """The points of a run that are a hit or a miss: image_id, class_id, method, hit, difficult.

    About 15 bytes a point and the names of the images: 25 MB for 120,000 pairs with 12 methods.

    Raises:
        RunError: a shard is damaged or foreign.
    """
    parts = [_COUNTED.empty_table(), *blocks(run, partial(_counted_shards, rule=rule))]
    return pa.concat_tables(parts).unify_dictionaries()


def _counted_shards(run: Run, shards: Sequence[int], rule: Rule) -> pa.Table:
    columns = ["image_id", "class_id", "method", "all_difficult", "difficult"]
    parts = [_COUNTED.empty_table()]
    for points in run.tables(kinds.POINTS, list(dict.fromkeys([*columns, *rule.columns])), shards):
        results = rule.outcomes(points)
        hit = pa.array([result == HITS for result in results], pa.bool_())
        counts = pa.array([result in (HITS, MISSES) for result in results], pa.bool_())
        part = points.append_column("hit", hit).filter(counts)
        parts.append(part.select(_COUNTED.names).cast(_COUNTED))
    return pa.concat_tables(parts)


def gather(points: pa.Table) -> Outcomes:
    """Outcomes of a table of `counted_points`, or of several in one, each point of a pair by its method."""
    points = points.unify_dictionaries().combine_chunks()
    image, method = (_codes(points[name]) for name in ("image_id", "method"))
    names = tuple(sorted(points["method"].unique().to_pylist()))
    _, of_class = np.unique(points["class_id"].to_numpy(), return_inverse=True)
    pairs, first, of_pair = np.unique(
        image * (of_class.max(initial=0) + 1) + of_class, return_index=True, return_inverse=True
    )
    hit = np.full((len(pairs), len(names)), -1, np.int8)
    hit[of_pair, method] = points["hit"].to_numpy(zero_copy_only=False)
    difficult = points["difficult"].to_numpy(zero_copy_only=False)[first].astype(bool)
    return Outcomes(names, image[first], of_class[first], difficult, hit)


def _codes(column: pa.ChunkedArray) -> Ints:
    """Numbers from 0, in the order of the names, of a dictionary column's values."""
    if len(column) == 0:
        return np.zeros(0, np.int64)
    values = column.chunk(0)
    names = np.array(values.dictionary.to_pylist(), object)
    _, rank = np.unique(names, return_inverse=True)
    # A dictionary may hold names that no row has any more.
    _, codes = np.unique(rank[values.indices.to_numpy()], return_inverse=True)
    return np.asarray(codes, np.int64)


def accuracies(outcomes: Outcomes, weights: Floats) -> Accuracies:
    """Class mean and pooled accuracy (item 20, seeds G6) with every image counted `weights` times.

    Args:
        weights: (R,I) float32 whole numbers, 0 or more; sums below 2^24 are exact.
    """
    counted, won = outcomes.hit >= 0, outcomes.hit == 1
    # (P,S,2,M): whether a pair is won, and whether it counts, in each subset.
    both = np.stack([won, counted], 1)
    values = np.stack([both, both & outcomes.difficult[:, None, None]], 1)
    classes = int(outcomes.of_class.max(initial=-1)) + 1
    sums = np.zeros((len(weights), classes, *values.shape[1:]))
    for c in range(classes):
        pairs = np.flatnonzero(outcomes.of_class == c)
        of_class = values[pairs].reshape(len(pairs), -1).astype(np.float32)
        sums[:, c] = (weights[:, outcomes.image[pairs]] @ of_class).reshape(-1, *values.shape[1:])
    wins, counts = sums[..., 0, :], sums[..., 1, :]
    shares, there = _share(wins, counts), counts > 0
    mean = _share(np.where(there, shares, 0).sum(1), there.sum(1))
    return Accuracies(mean, _share(wins.sum(1), counts.sum(1)))


def _share(part: Floats, whole: npt.NDArray[Any]) -> Floats:
    shares: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return shares


def draw(images: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Weights (R,I) of resamples, CHUNK at a time: how often each of I images was drawn in I draws."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        drawn = [np.bincount(rng.integers(images, size=images), minlength=images) for _ in range(size)]
        yield np.array(drawn, np.float32)


@dataclass(frozen=True)
class Bootstrap:
    """Accuracies as observed (R = 1) and in resamples of the images (R = resamples, 0 if there are none)."""

    outcomes: Outcomes
    observed: Accuracies
    resampled: Accuracies


def bootstrap(outcomes: Outcomes, resamples: int = RESAMPLES, seed: int = 0) -> Bootstrap:
    """Score all methods on the same resamples of the images.

    Beside the outcomes this needs 4 * P * M bytes, and for the resamples at work 4 * CHUNK * (I + pairs of
    the largest class + 8 * C * M): 20 MB for 120,000 pairs of 40,000 images, 80 classes and 12 methods.

    Args:
        resamples: how many; 0 observes only.
        seed: of the draws.
    """
    images = outcomes.images
    observed = accuracies(outcomes, np.ones((1, images), np.float32))
    empty = Accuracies(observed.class_mean[:0], observed.pooled[:0])
    parts = [accuracies(outcomes, weights) for weights in draw(images, resamples if images else 0, seed)]
    return Bootstrap(outcomes, observed, _joined([empty, *parts]))


def _joined(parts: Iterable[Accuracies]) -> Accuracies:
    means, pooled = zip(*((part.class_mean, part.pooled) for part in parts), strict=True)
    return Accuracies(np.concatenate(means), np.concatenate(pooled))


def interval(values: Floats) -> tuple[float | None, float | None]:
    """Lower and upper limit of the middle LEVEL percent of values (R); NaN are left out, None if all are."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None, None
    low, high = np.percentile(known, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return float(low), float(high)


def with_intervals(summary: pa.Table, found: Bootstrap) -> pa.Table:
    """A table of `pointing_summary` with the limits of both means: class_mean_low, class_mean_high, ..."""
    limits: dict[tuple[str, str], dict[str, float | None]] = {}
    for m, method in enumerate(found.outcomes.methods):
        for s, subset in enumerate(SUBSETS):
            row = limits[method, subset] = {}
            for metric in _METRICS:
                values = getattr(found.resampled, metric)[:, s, m]
                row[f"{metric}_low"], row[f"{metric}_high"] = interval(values)
    keys = zip(summary["method"].to_pylist(), summary["subset"].to_pylist(), strict=True)
    rows = [limits.get(key, {}) for key in keys]
    for name, kind in _LIMITS:
        summary = summary.append_column(name, pa.array([row.get(name) for row in rows], kind))
    return summary


def differences(found: Bootstrap) -> pa.Table:
    """Every method less every other on the same resamples: rows of `DIFFERENCES`.

    `difference` is of the observed accuracies, `low` and `high` the interval of the difference, `positive`
    the share of resamples in which the difference is above 0. `n` and `n_other` count the pairs of the two:
    where they are not the same, the difference is not of the same pairs.
    """
    counts = found.outcomes.counts()
    rows: list[dict[str, Any]] = []
    for s, subset in enumerate(SUBSETS):
        for a, b in permutations(range(len(found.outcomes.methods)), 2):
            row: dict[str, Any] = {"subset": subset, "n": counts[s, a], "n_other": counts[s, b]}
            row |= {"method": found.outcomes.methods[a], "other": found.outcomes.methods[b]}
            for metric in _METRICS:
                observed, resampled = (getattr(part, metric) for part in (found.observed, found.resampled))
                row |= _difference(metric, observed[0, s, a] - observed[0, s, b], resampled[:, s, [a, b]])
            rows.append(row)
    return pa.Table.from_pylist(rows, schema=DIFFERENCES)


def _difference(metric: str, observed: float, resampled: Floats) -> dict[str, float | None]:
    values = resampled[:, 0] - resampled[:, 1]
    known = values[~np.isnan(values)]
    low, high = interval(values)
    return {
        f"{metric}_difference": None if np.isnan(observed) else float(observed),
        f"{metric}_low": low,
        f"{metric}_high": high,
        f"{metric}_positive": float((known > 0).mean()) if len(known) else None,
    }
