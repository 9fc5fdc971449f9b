"""Runs of one dataset, joined by image and class: the first decides the pairs, the others add to them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from extremal.jobs.studies import StudyView, view_of
from extremal.pipeline.datasets.open import unreachable
from extremal.storage import Run, RunError
from extremal.storage.folder import open_root
from extremal.storage.kinds import FAILURES, PAIR, Kind
from extremal.workers.images import Preprocess

Row = dict[str, Any]
Key = tuple[str, int, str]
Region = tuple[float, float, float, float]

KEPT_TABLES = 12  # of a run: some shards of a few kinds
KEY = ("image_id", "class_id", "class_name")


class Absent(Exception):
    """A pair has no result in a run; the message says why."""


class JoinedRun:
    """One run, read by the pairs of the first; goes to other processes without what it has read.

    It shows the run as it was when this was made, whatever has been committed meanwhile.

    Attributes:
        number: its place among the runs, from 0.
        rows: (N) int64, for each pair of the first run the row of this run's plan; -1 for none.
    """

    def __init__(self, run: Run, number: int, rows: npt.NDArray[np.int64], plan: pa.Table) -> None:
        """`plan`: of this run, with `shard` at least."""
        self.run, self.number, self.rows = run, number, rows
        self._shard = plan["shard"].to_numpy()
        self._committed = frozenset(run.committed())
        self._table = lru_cache(maxsize=KEPT_TABLES)(self._read)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_table"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._table = lru_cache(maxsize=KEPT_TABLES)(self._read)

    @property
    def view(self) -> StudyView:
        """How its rows look."""
        return view_of(self.run)

    @cached_property
    def settings(self) -> Any:
        """What its study's views need of the run's settings."""
        return self.view.settings(self.run)

    @cached_property
    def preprocess(self) -> Preprocess:
        """What the run's network was shown of an image."""
        return preprocess_of(self.run)

    def region(self, size: tuple[int, int]) -> Region:
        """The part of an image (width, height) that the network saw, original pixels."""
        return self.preprocess.region(*size)

    def tables(
        self, kind: Kind, columns: Sequence[str], pairs: Sequence[int]
    ) -> Iterator[tuple[list[int], pa.Table]]:
        """The rows of some pairs, shard by shard, and the pair of each row.

        Raises:
            RunError: a shard is damaged or foreign.
        """
        number = self.run.unit.number
        wanted = np.asarray(pairs, np.int64)
        wanted = wanted[self.rows[wanted] >= 0]
        wanted = wanted[np.argsort(self.rows[wanted])]
        units = self.rows[wanted]  # ascending, in this run
        for shard in np.unique(self._shard[units]).tolist():
            if shard not in self._committed:
                continue
            table = self._table(kind, (number, *columns), shard)
            numbers = table[number].to_numpy()
            index = np.searchsorted(units, numbers).clip(max=len(units) - 1)
            rows = np.flatnonzero(units[index] == numbers)
            if len(rows):
                of_pairs = table if len(rows) == table.num_rows else table.take(rows)
                yield wanted[index[rows]].tolist(), of_pairs

    def _read(self, kind: Kind, columns: tuple[str, ...], shard: int) -> pa.Table:
        nothing = self.run.schema(kind).empty_table().select(columns)
        return next(self.run.tables(kind, columns, [shard]), nothing)

    def results(self, pair: int) -> list[Row]:
        """The whole rows of a pair, at least one.

        Raises:
            Absent: there are none.
            RunError: a shard is damaged or foreign.
        """
        place, row = self.run.place(), int(self.rows[pair])
        if row < 0:
            raise Absent(f"not among the pairs of {place}")
        if int(self._shard[row]) not in self._committed:
            raise Absent(f"not computed yet in {place}")
        if rows := self._rows(self.run.kind, pair):
            return rows
        for failure in self._rows(FAILURES, pair):
            raise Absent(f"failed ({failure['stage']}): {failure['error']}")
        raise Absent(f"without a result in {place}")

    def _rows(self, kind: Kind, pair: int) -> list[Row]:
        columns = [name for name in self.run.schema(kind).names if name != self.run.unit.number]
        return [row for _, table in self.tables(kind, columns, [pair]) for row in table.to_pylist()]


def join_runs(runs: Sequence[Run], columns: Sequence[str] | None = None) -> tuple[pa.Table, list[JoinedRun]]:
    """The pairs of the first run, and all runs joined to them by image, class and name.

    A run whose units are no pairs joins none.

    Args:
        columns: of the plan that are wanted, with KEY and `shard` among them; None = all.

    Raises:
        RunError: a plan cannot be read, or the first run has no units that can stand for pairs.
    """
    plan = pair_plan(runs[0], columns)
    joined = [JoinedRun(runs[0], 0, np.arange(plan.num_rows), plan)]
    for number, run in enumerate(runs[1:], 1):
        if run.unit == PAIR:
            other = run.plan([*KEY, "shard"])
            joined.append(JoinedRun(run, number, _rows_of(plan, other), other))
        else:
            none = np.full(plan.num_rows, -1, np.int64)
            joined.append(JoinedRun(run, number, none, run.plan(["shard"])))
    return plan, joined


def pair_plan(run: Run, columns: Sequence[str] | None = None) -> pa.Table:
    """The plan of a run as one of pairs; what its units lack of those is empty.

    Raises:
        RunError: it cannot be read, or its units have no look of pairs.
    """
    if run.unit == PAIR:
        return run.plan(columns)
    look = view_of(run).pair_of
    if look is None:
        raise RunError(f"{run.place()} has no pairs of an image and a class: give a run that has them first.")
    empty: Row = {"all_difficult": False, "difficult": False}
    rows = [
        {
            **empty,
            "pair": row[run.unit.number],
            "shard": row["shard"],
            "batch": row["batch"],
            **look(run, row),
        }
        for row in run.plan().to_pylist()
    ]
    plan = pa.Table.from_pylist(rows, schema=PAIR.plan)
    return plan if columns is None else plan.select(list(columns))


def _rows_of(plan: pa.Table, other: pa.Table) -> npt.NDArray[np.int64]:
    """For each row of `plan` the row of `other` with its key; the second of twins goes to the second."""
    rows: dict[Key, list[int]] = defaultdict(list)
    for i, key in enumerate(_keys(other)):
        rows[key].append(i)
    return np.array([rows[key].pop(0) if rows.get(key) else -1 for key in _keys(plan)], np.int64)


def _keys(plan: pa.Table) -> Iterator[Key]:
    return zip(*(plan[name].to_pylist() for name in KEY), strict=True)


def preprocess_of(run: Run) -> Preprocess:
    """What a run's network wants done to an image, from run.json."""
    model = run.manifest.model
    numbers = model.mean, model.std
    return Preprocess(model.resize, model.crop, *numbers, model.interpolation, model.antialias)


def checked_root(root: str) -> str:
    """Where the images are said to lie now.

    Raises:
        PlaceError: it is no place.
        DatasetError: it is not there.
    """
    try:
        if open_root(root).is_dir():
            return root
        error: Exception = FileNotFoundError("no such folder")
    except OSError as caught:
        error = caught
    raise unreachable(root, error)
