"""Score against area: what is left of the score with only the mask kept, and with it deleted (seeds EP-8).

Scores are logits, whose scale differs from pair to pair. Normalised they are

    (score - score_perturbed) / (score_full - score_perturbed),

0 on the wholly perturbed image and 1 on the whole image. A pair whose whole image scores no higher than the
perturbed one has no such scale: it is counted as `flat` and is in the raw numbers alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from extremal.pipeline.aggregates.over_shards import Blocks, in_one
from extremal.storage import Run, RunError, kinds

Floats = npt.NDArray[np.floating[Any]]

_GAMES = {"preserve": "score_preserve", "delete": "score_delete"}
_COLUMNS = ["areas", "score_full", "score_perturbed", *_GAMES.values()]
_STATISTICS = ("mean", "q25", "median", "q75")

CURVES = pa.schema(
    [
        ("kept", pa.string()),
        ("area", pa.float64()),
        ("n", pa.int64()),
        *[(f"score_{name}", pa.float64()) for name in _STATISTICS],
        ("n_normalised", pa.int64()),
        ("flat", pa.int64()),
        *[(f"normalised_{name}", pa.float64()) for name in _STATISTICS],
    ]
)


@dataclass(frozen=True)
class Sweeps:
    """Scores of N pairs over A areas, float32: 8 * (A + 1) bytes a pair. Quartiles need them all.

    Attributes:
        areas: (A) wanted areas.
        preserve, delete: (N,A) logits.
        full, perturbed: (N) logits of the whole and of the wholly perturbed image.
    """

    areas: tuple[float, ...]
    preserve: Floats
    delete: Floats
    full: Floats
    perturbed: Floats

    @classmethod
    def of(cls, table: pa.Table) -> "Sweeps | None":
        """The sweeps of some rows of the spatial table; None if there are none.

        Raises:
            ValueError: rows differ in their areas.
        """
        found = {tuple(areas) for areas in table["areas"].to_pylist()}
        if len(found) > 1:
            raise ValueError(f"rows differ in their areas: {sorted(found)}")
        if not found:
            return None
        (areas,) = found
        games = (pc.list_flatten(table[c]).to_numpy().reshape(-1, len(areas)) for c in _GAMES.values())
        preserve, delete = games
        return cls(
            areas, preserve, delete, table["score_full"].to_numpy(), table["score_perturbed"].to_numpy()
        )

    @classmethod
    def merged(cls, parts: Iterable["Sweeps | None"]) -> "Sweeps | None":
        """Sweeps of several shards as one, in their order.

        Raises:
            ValueError: they differ in their areas.
        """
        known = [part for part in parts if part is not None]
        if not known:
            return None
        if len({part.areas for part in known}) > 1:
            raise ValueError(f"shards differ in their areas: {sorted({part.areas for part in known})}")
        names = ("preserve", "delete", "full", "perturbed")
        return cls(known[0].areas, *(np.concatenate([getattr(p, name) for p in known]) for name in names))


def curve_rows(sweeps: Sweeps | None) -> pa.Table:
    """Rows of `CURVES`: by what is kept, then by area; none of no pair."""
    rows: list[dict[str, Any]] = []
    if sweeps is None:
        return CURVES.empty_table()
    full, perturbed = sweeps.full.astype(np.float64), sweeps.perturbed.astype(np.float64)
    scaled = full > perturbed
    for kept, scores in (("mask", sweeps.preserve), ("rest", sweeps.delete)):
        for area, column in zip(sweeps.areas, scores.astype(np.float64).T, strict=True):
            normalised = (column[scaled] - perturbed[scaled]) / (full[scaled] - perturbed[scaled])
            row: dict[str, Any] = {"kept": kept, "area": area, "n": len(column)}
            row |= {"n_normalised": len(normalised), "flat": len(column) - len(normalised)}
            rows.append(row | _statistics("score", column) | _statistics("normalised", normalised))
    return pa.Table.from_pylist(rows, schema=CURVES)


def _statistics(prefix: str, values: Floats) -> dict[str, float | None]:
    """Mean and quartiles (linear between neighbours); None of no value."""
    found = [values.mean(), *np.percentile(values, [25, 50, 75])] if len(values) else [None] * 4
    return {f"{prefix}_{name}": value for name, value in zip(_STATISTICS, found, strict=True)}


def curves(run: Run, blocks: Blocks = in_one) -> pa.Table:
    """Scores over areas of a spatial run: rows of `CURVES`.

    `kept` is `mask` for the preservation scores and `rest` for the deletion scores. `n` pairs are in the raw
    logits (`score_mean` and so on); the `n_normalised` of them that are not `flat` in the normalised ones.

    Args:
        blocks: how to go over the shards; the result is the same, to the bit.

    Raises:
        RunError: a shard is damaged or foreign, or shards do not fit together.
    """
    return curve_rows(_merged(run, blocks(run, _gather_shards)))


def _gather_shards(run: Run, shards: Sequence[int]) -> Sweeps | None:
    return _merged(run, (Sweeps.of(table) for table in run.tables(kinds.SPATIAL, _COLUMNS, shards)))


def _merged(run: Run, parts: Iterable[Sweeps | None]) -> Sweeps | None:
    try:
        return Sweeps.merged(parts)
    except ValueError as error:
        raise RunError(f"The shards of {run.place()} do not fit together: {error}.") from error
