"""How much of a saliency map is left when the network's weights are not: cascading randomization.

Seeds EP-11, NG-8 and 2.6; what they leave open (G9) is decided in docs/sanity.md. The maps of a run whose
last layers are random are compared with those of the original network, pair by pair, by Spearman's rank
correlation, of the maps and of their absolute values.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.stats import rankdata

from extremal.pipeline.aggregates.over_shards import Blocks, in_one
from extremal.pipeline.identity import run_settings
from extremal.storage import Run, RunError, kinds
from extremal.storage.manifest import canonical
from extremal.storage.trees import diff

Floats = npt.NDArray[np.float64]

ORIGINAL = "original"
QUARTILES = (0.25, 0.5, 0.75)
_STATISTICS = ("mean", "q25", "median", "q75")

SANITY = pa.schema(
    [
        ("method", pa.string()),
        ("depth", pa.int32()),
        ("layer", pa.string()),
        ("seeds", pa.int64()),
        ("n", pa.int64()),
        ("constant", pa.int64()),
        ("missing", pa.int64()),
        *[(name, pa.float64()) for name in _STATISTICS],
        ("seed_sd", pa.float64()),
        *[(f"abs_{name}", pa.float64()) for name in _STATISTICS],
        ("score", pa.float64()),
    ]
)

_COLUMNS = ["pair", "method", "target", "score_full", "map_shape", "map"]
# What a run of the check may differ in from the original.
_FREE = ("config.network.randomized", "config.network.randomize_seed", "model.randomized")
_WEIGHTS = "model.weights_sha256"

Row = dict[str, Any]


def spearman(a: Floats, b: Floats) -> Floats:
    """Rank correlation of each row of two arrays (N,K) -> (N,) in [-1,1]; NaN where a row is constant.

    Exactly 1 for equal rows.
    """
    x, y = (rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (a, b))
    with np.errstate(invalid="ignore"):
        rho = (x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))
    return np.asarray(rho)


@dataclass
class Similarities:
    """Of one method in one run: rank correlations of the pairs compared, and what could not be.

    Attributes:
        plain, absolute: one value per pair, NaN if a map is constant; of the maps and of their sizes.
        scores: logit of the explained output on the whole image, one per pair.
        missing: pairs of the original without a map of the same output here, such as failed ones.
    """

    plain: list[float] = field(default_factory=list)
    absolute: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    missing: int = 0

    def merge(self, other: "Similarities") -> None:
        """Add other pairs of the same method."""
        self.plain += other.plain
        self.absolute += other.absolute
        self.scores += other.scores
        self.missing += other.missing


@dataclass(frozen=True)
class Depth:
    """Runs of one depth of the cascade, one for each seed.

    Attributes:
        number: of weight layers that are random. layer: the last of them.
    """

    number: int
    layer: str
    runs: tuple[Run, ...]


def check_comparable(original: Run, randomized: Run) -> None:
    """Refuse to compare runs that differ in more than the weights that were randomized.

    Raises:
        RunError: they do, or they have no maps; it says where.
    """
    for run in (original, randomized):
        needed = (
            "the sanity check compares saliency maps: run with methods to compare and [saliency] maps = 28"
        )
        run.require(kinds.SALIENCY, needed)
        if not run.manifest.setting("saliency", "maps"):
            raise RunError(f"{run.place()} holds no maps; {needed}.")
    if original.manifest.model.randomized:
        raise RunError(f"{original.place()} is randomized itself: give the run of the original network.")
    before, after = (_identity(run) for run in (original, randomized))
    free = {*_FREE, *([_WEIGHTS] if randomized.manifest.model.randomized else [])}
    lines = [line for line in diff(before, after) if line.partition(": ")[0] not in free]
    if lines:
        raise RunError(
            f"{randomized.place()} differs from {original.place()} in more than randomized weights:\n  "
            + "\n  ".join(lines)
        )


def _identity(run: Run) -> dict[str, Any]:
    manifest = run.manifest
    return canonical(
        {"config": run_settings(manifest), "model": asdict(manifest.model), "data": asdict(manifest.data)}
    )


def similarities(original: Run, randomized: Run, blocks: Blocks = in_one) -> dict[str, Similarities]:
    """Every map of a run against the original's of the same pair and output, by method.

    Args:
        blocks: how to go over the shards; the result is the same.

    Raises:
        RunError: the runs are not comparable, or a shard is damaged.
    """
    check_comparable(original, randomized)
    total: dict[str, Similarities] = {}
    # Both have the same plan: the pairs of a shard are the same.
    for by_method in blocks(original, partial(_compare_shards, other=randomized.uri)):
        for method, pairs in by_method.items():
            total.setdefault(method, Similarities()).merge(pairs)
    return total


def _compare_shards(run: Run, shards: Sequence[int], other: str) -> dict[str, Similarities]:
    randomized = Run.open(other)
    committed = set(randomized.committed())
    total: dict[str, Similarities] = {}
    for shard, table in zip(shards, run.tables(kinds.SALIENCY, _COLUMNS, shards), strict=True):
        there = [shard] if shard in committed else []
        rows = [row for t in randomized.tables(kinds.SALIENCY, _COLUMNS, there) for row in _rows(t)]
        for method, pairs in _compare(_rows(table), rows).items():
            total.setdefault(method, Similarities()).merge(pairs)
    return total


def _rows(table: pa.Table) -> list[Row]:
    """Rows whose maps are numpy arrays; as Python numbers they would take most of the time."""
    maps = table["map"].combine_chunks()
    values = maps.values.to_numpy(zero_copy_only=False).astype(np.float64)
    rows: list[Row] = table.drop_columns("map").to_pylist()
    for row, (start, stop) in zip(rows, pairwise(maps.offsets.to_pylist()), strict=True):
        row["map"] = values[start:stop]
    return rows


def _compare(original: Sequence[Row], randomized: Sequence[Row]) -> dict[str, Similarities]:
    """Rows of the same shard; maps of one method and shape are correlated together."""
    others = {_key(row): row for row in randomized}
    groups: dict[tuple[str, tuple[int, ...]], list[tuple[Row, Row]]] = {}
    total: dict[str, Similarities] = {row["method"]: Similarities() for row in original}
    for row in original:
        if _key(row) not in others or not row["map_shape"]:
            total[row["method"]].missing += 1
            continue
        key = row["method"], tuple(row["map_shape"])
        groups.setdefault(key, []).append((row, others[_key(row)]))
    for (method, _), members in groups.items():
        a, b = (np.stack([pair[i]["map"] for pair in members]) for i in (0, 1))
        total[method].merge(
            Similarities(
                spearman(a, b).tolist(),
                spearman(np.abs(a), np.abs(b)).tolist(),
                [pair[1]["score_full"] for pair in members],
            )
        )
    return total


def _key(row: Mapping[str, Any]) -> tuple[int, str, int, tuple[int, ...]]:
    return row["pair"], row["method"], row["target"], tuple(row["map_shape"])


def sanity_table(original: Run, depths: Sequence[Depth], blocks: Blocks = in_one) -> pa.Table:
    """Rows of `SANITY`: by method, then depth of the cascade; depth 0 is the original against itself.

    `n` correlations of all pairs and seeds are summed up by mean and quartiles; `constant` maps, whose
    correlation is undefined, and `missing` pairs are counted apart (NaN would spoil the mean, 0 would be
    an opinion). `seed_sd` is the standard deviation of the means of the seeds, null for one seed; `abs_` is
    of the maps' absolute values; `score` the mean logit of the explained output, over the same pairs.

    Raises:
        RunError: a run is not comparable with the original, or damaged.
    """
    rows: list[Row] = []
    for depth in (Depth(0, ORIGINAL, (original,)), *depths):
        seeds = [similarities(original, run, blocks) for run in depth.runs]
        for method in sorted({method for by_method in seeds for method in by_method}):
            summary = _summary([by_method.get(method, Similarities()) for by_method in seeds])
            rows.append({"method": method, "depth": depth.number, "layer": depth.layer, **summary})
    rows.sort(key=lambda row: (row["method"], row["depth"]))
    return pa.Table.from_pylist(rows, schema=SANITY)


def _summary(seeds: Sequence[Similarities]) -> Row:
    whole = Similarities()
    for pairs in seeds:
        whole.merge(pairs)
    plain, absolute = _defined(whole.plain), _defined(whole.absolute)
    means = [float(values.mean()) for pairs in seeds if len(values := _defined(pairs.plain))]
    return {
        "seeds": len(seeds),
        "n": len(plain),
        "constant": len(whole.plain) - len(plain),
        "missing": whole.missing,
        **dict(zip(_STATISTICS, _statistics(plain), strict=True)),
        "seed_sd": float(np.std(means, ddof=1)) if len(means) > 1 else None,
        **{f"abs_{name}": value for name, value in zip(_STATISTICS, _statistics(absolute), strict=True)},
        "score": float(np.mean(whole.scores)) if whole.scores else None,
    }


def _defined(values: Sequence[float]) -> Floats:
    array = np.array(values, np.float64)
    return array[~np.isnan(array)]


def _statistics(values: Floats) -> Iterator[float | None]:
    """Mean and quartiles; None without values."""
    if not len(values):
        return iter([None] * len(_STATISTICS))
    return iter([float(values.mean()), *np.quantile(values, QUARTILES).tolist()])
