"""Columns of the index, of the pairs of a shard each: what filters, orders and counts need of all pairs."""

import math
from array import array
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from extremal.jobs.joined_runs import JoinedRun, Row
from extremal.jobs.report.pair_records import PairRecord, PairRecords
from extremal.jobs.studies.view import short
from extremal.storage.kinds import Sweep

Numbers: TypeAlias = "array[float]"


def _empty() -> Numbers:
    return array("d")


@dataclass
class Entries:
    """Columns of the index of some pairs in order, in few bytes a pair: those of all pairs are kept.

    Numbers are NaN where there is none.

    Attributes:
        state, hits: a letter a pair; see docs/report-data.md.
        swept: 1 where there are masks of several sizes, 0 elsewhere, where a missing a* says nothing.
        sizes: the areas or counts that a* is among, the same for all pairs.
        kept: mean over the sizes of (score - perturbed) / (full - perturbed), none if the two are the same
            or the wrong way round.
        aspect: width over height of the image.
    """

    state: str = ""
    sizes: list[float] = field(default_factory=list)
    a_star: Numbers = field(default_factory=_empty)
    kept: Numbers = field(default_factory=_empty)
    hits: dict[str, str] = field(default_factory=dict)
    distance: dict[str, Numbers] = field(default_factory=dict)
    disagreement: Numbers = field(default_factory=_empty)
    swept: str = ""
    aspect: Numbers = field(default_factory=_empty)


Span = tuple[int, Entries]  # the first pair of some entries, and they


class IndexEntries:
    """The entries of every shard, each made when it is first asked for, and kept."""

    def __init__(self, records: PairRecords) -> None:
        self._records = records
        self._entries: dict[int, Entries] = {}

    def of_shard(self, shard: int) -> Entries:
        """The entries of a shard's pairs.

        Raises:
            RunError: a shard is damaged or foreign.
        """
        if shard not in self._entries:
            self._entries[shard] = entries(self._records, shard)
        return self._entries[shard]

    def learn(self, shard: int, made: Entries) -> None:
        """Keep what another process made."""
        self._entries[shard] = made

    def spans(self, pairs: npt.ArrayLike) -> list[Span]:
        """The entries of the shards of some pairs, in order."""
        records = self._records
        return [(records.pairs_of(shard).start, self.of_shard(shard)) for shard in records.shards_of(pairs)]

    def all_spans(self) -> list[Span]:
        """The entries of all pairs."""
        return self.spans(np.arange(self._records.plan.num_rows))


def entries(records: PairRecords, shard: int) -> Entries:
    """The index of the pairs of a shard."""
    methods = records.methods
    columns = Entries(hits=dict.fromkeys(methods, ""), distance={name: _empty() for name in methods})
    swept = swept_run(records)
    for record in records.of_shard(shard):
        row = next(iter(record.rows.get(swept[0].number, [])), None) if swept else None
        columns.state += record.state
        if row and swept and not columns.sizes:
            columns.sizes = [short(size) for size in row[swept[1].sizes]]
        columns.a_star.append(_number(row["a_star"] if row else None))
        columns.kept.append(_number(_kept(row, swept[1]) if row and swept else None))
        columns.swept += "1" if row else "0"
        _add_points(columns, record, methods)
        columns.aspect.append(_number(record.size[0] / record.size[1] if record.size else None))
    return columns


def _add_points(columns: Entries, record: PairRecord, methods: list[str]) -> None:
    for name in methods:
        point = record.points.get(name)
        columns.hits[name] += point["outcome"] if point else "n"
        columns.distance[name].append(_number(point["distance"] if point else None))
    columns.disagreement.append(_number(record.disagreement()))


def swept_run(records: PairRecords) -> tuple[JoinedRun, Sweep] | None:
    """The first run with masks of several sizes, whose a* is shown, and its columns."""
    joined = records.first_with(lambda view: view.sweep_label)
    sweep = joined.run.kind.sweep if joined else None
    return (joined, sweep) if joined and sweep else None


def size_label(records: PairRecords) -> str | None:
    """What a* counts: area or channels; None without masks of several sizes."""
    swept = swept_run(records)
    return swept[0].view.sweep_label if swept else None


def _kept(row: Row, sweep: Sweep) -> float | None:
    scores = row[sweep.scores]
    scale = row["score_full"] - row["score_perturbed"]
    if not scores or not scale > 0:
        return None
    return float(sum(score - row["score_perturbed"] for score in scores) / len(scores) / scale)


def _number(value: float | None) -> float:
    """A number with the digits that a page can use."""
    return math.nan if value is None else float(f"{value:.4g}")
