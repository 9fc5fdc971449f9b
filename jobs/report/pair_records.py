"""What the runs say of every pair, one shard of the first run at a time."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from extremal.jobs.joined_runs import JoinedRun, Row, join_runs
from extremal.jobs.page_data import Failure
from extremal.jobs.report.thumbnails import Thumbnails
from extremal.jobs.studies import StudyView
from extremal.pipeline.aggregates.class_channels import ClassKey, class_keys
from extremal.pipeline.aggregates.pointing import CENTER, HITS, MISSES, NO_GROUND_TRUTH, SKIPPED, Rule
from extremal.pipeline.aggregates.shown import Scores
from extremal.pipeline.scores import scores
from extremal.storage import Run, RunError
from extremal.storage.kinds import FAILURES, PAIR, POINTS

KEPT_SHARDS = 8

_TARGET = ("target", "target_name")
_POINTS = ("method", "x", "y", "width", "height", "energy_inside", "distance2", "all_difficult")
_FAILURES = ("stage", "error_type", "error")
_LETTER = {HITS: "h", MISSES: "m", SKIPPED: "s", NO_GROUND_TRUTH: "n"}


@dataclass
class PairRecord:
    """All that the runs say of one pair.

    Attributes:
        state: r result, f failed, m missing, in the first run.
        rows: by the number of the run: its main rows, one but for saliency runs.
        points: by the method's name in the report: x, y, outcome (letter), distance in pixels, energy.
        size: width, height of the original image, if anything tells.
    """

    pair: int
    plan: Row
    state: str = "m"
    rows: dict[int, list[Row]] = field(default_factory=lambda: defaultdict(list))
    points: dict[str, Row] = field(default_factory=dict)
    failure: Failure | None = None
    size: tuple[int, int] | None = None

    def disagreement(self) -> float | None:
        """Largest distance of two methods' points over the image's diagonal, the center left out."""
        places = [(p["x"], p["y"]) for method, p in self.points.items() if method != CENTER]
        if len(places) < 2 or self.size is None:
            return None
        return max(math.dist(a, b) for a, b in combinations(places, 2)) / math.hypot(*self.size)


class PairRecords:
    """The runs of a report as they are when it is made. Only the plan and a few shards are held at a time.

    Other processes that get it see the same runs, whatever has been committed meanwhile.

    Attributes:
        plan: the pairs of the first run. runs: all runs, joined to it. thumbnails: the images.
        classes: the classes of the pairs, sorted. class_of: (N) index of each pair's class.
        rule: what counts as a hit.
    """

    def __init__(self, runs: Sequence[Run], root: str | None, rule: Rule) -> None:
        """`root`: where the images lie now; None = where they were.

        Raises:
            RunError: a run is damaged, is given twice, or has no pair of the first.
            DatasetError: the root is not there.
        """
        self.rule = rule
        _check_places(runs)
        self.plan, self.runs = join_runs(runs)
        _check_pairs(self.runs)
        self.thumbnails = Thumbnails(runs[0], self.plan, root)
        number = runs[0].unit.number
        for table in runs[0].tables(FAILURES, [number, "stage"]):
            failures = zip(table[number].to_pylist(), table["stage"].to_pylist(), strict=True)
            self.thumbnails.try_pairs(pair for pair, stage in failures if stage == "decode")
        self.classes, self.class_of = _classes(runs[0], self.plan)
        numbers = self.plan["shard"].to_numpy()
        first = np.r_[[True] * min(1, len(numbers)), numbers[1:] != numbers[:-1]]
        self._starts: npt.NDArray[np.int64] = np.flatnonzero(first)
        self._ends = np.r_[self._starts[1:], len(numbers)]
        self.of_shard = lru_cache(maxsize=KEPT_SHARDS)(self._read_shard)

    def __getstate__(self) -> dict[str, Any]:
        _ = self.names  # the scores, which give them, stay here
        return {name: value for name, value in self.__dict__.items() if name not in ("of_shard", "scores")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.of_shard = lru_cache(maxsize=KEPT_SHARDS)(self._read_shard)

    @property
    def first(self) -> JoinedRun:
        """The run that decides the pairs."""
        return self.runs[0]

    def first_with(self, feature: Callable[[StudyView], Any]) -> JoinedRun | None:
        """The first run whose study has something to show."""
        return next((run for run in self.runs if feature(run.view)), None)

    @property
    def shards(self) -> int:
        """Number of the first run's shards; they are numbered in the plan's order here."""
        return len(self._starts)

    def pairs_of(self, shard: int) -> range:
        """The pairs of a shard."""
        return range(int(self._starts[shard]), int(self._ends[shard]))

    def shards_of(self, pairs: npt.ArrayLike) -> list[int]:
        """The shards of some pairs, ascending, each once."""
        return [int(shard) for shard in np.unique(np.searchsorted(self._starts, pairs, "right") - 1)]

    def of_pair(self, pair: int) -> PairRecord:
        """What the runs say of one pair."""
        (shard,) = self.shards_of(pair)
        return self.of_shard(shard)[pair - int(self._starts[shard])]

    @cached_property
    def scores(self) -> list[Scores]:
        """The scores of every run."""
        return [scores(joined.run, self.rule) for joined in self.runs]

    @cached_property
    def names(self) -> list[dict[str, str]]:
        """For every run the name in the report of each of its methods.

        A name that an earlier run took gets the run's number; the center is the same in all.
        """
        taken: set[str] = set()
        names = []
        for number, of_run in enumerate(self.scores, 1):
            table = of_run.tables.get("pointing")
            methods = dict.fromkeys(table["method"].to_pylist()) if table is not None else {}
            names.append(
                {name: f"{name} ({number})" if name in taken and name != CENTER else name for name in methods}
            )
            taken |= {*methods}
        return names

    @cached_property
    def methods(self) -> list[str]:
        """All names in the report, those of the first run first."""
        return list(dict.fromkeys(name for of_run in self.names for name in of_run.values()))

    def _read_shard(self, shard: int) -> list[PairRecord]:
        pairs = self.pairs_of(shard)
        rows = self.plan.slice(pairs.start, len(pairs)).to_pylist()
        records = {pair: PairRecord(pair, row) for pair, row in zip(pairs, rows, strict=True)}
        for joined in self.runs:
            self._add(joined, records)
        for pair, record in records.items():
            record.size = _size(record) or self.thumbnails.size(pair)
        return list(records.values())

    def _add(self, joined: JoinedRun, records: dict[int, PairRecord]) -> None:
        kind, view = joined.run.kind, joined.view
        there = joined.run.schema(kind).names
        columns = [name for name in (*_TARGET, *view.columns) if name in there]
        for pairs, table in joined.tables(kind, columns, list(records)):
            for pair, row in zip(pairs, table.to_pylist(), strict=True):
                records[pair].rows[joined.number].append(row)
        if view.has_points:
            self._add_points(joined, records)
        if joined.number == 0:
            _add_state(joined, records)

    def _add_points(self, joined: JoinedRun, records: dict[int, PairRecord]) -> None:
        names = self.names[joined.number]
        for pairs, table in joined.tables(POINTS, _POINTS, list(records)):
            more = zip(self.rule.outcomes(table), self.rule.distances(table), strict=True)
            for pair, row, (outcome, distance2) in zip(pairs, table.to_pylist(), more, strict=True):
                distance = None if distance2 is None else round(math.sqrt(distance2), 1)
                point = {**row, "outcome": _LETTER[outcome], "distance": distance}
                records[pair].points.setdefault(names[row["method"]], point)


def _add_state(joined: JoinedRun, records: dict[int, PairRecord]) -> None:
    for pairs, table in joined.tables(FAILURES, _FAILURES, list(records)):
        for pair, row in zip(pairs, table.to_pylist(), strict=True):
            records[pair].state = "f"
            records[pair].failure = _failure(row)
    for record in records.values():
        if record.rows.get(joined.number):  # also where a retry was stopped before it removed the failure
            record.state, record.failure = "r", None


def _failure(row: Row) -> Failure:
    return {"stage": row["stage"], "error_type": row["error_type"], "error": row["error"]}


def _size(record: PairRecord) -> tuple[int, int] | None:
    for row in (record.plan, *record.points.values()):
        if row["width"] and row["height"]:
            return row["width"], row["height"]
    return None


def _check_places(runs: Sequence[Run]) -> None:
    for place, count in Counter(run.place() for run in runs).items():
        if count > 1:
            raise RunError(f"{place} is given {count} times: give each run once.")


def _check_pairs(runs: Sequence[JoinedRun]) -> None:
    for joined in runs[1:]:
        if (joined.rows < 0).all() and joined.view.of_pairs(joined.run):
            raise RunError(
                f"{joined.run.place()} has no pair of {runs[0].run.place()}, the first run, which decides "
                "the pairs. Give runs of one dataset."
            )


def _classes(run: Run, plan: pa.Table) -> tuple[list[ClassKey], npt.NDArray[np.int64]]:
    """The classes of a plan, and the index of each pair's.

    Where the dataset knows no class it is the explained output, as in `class_keys`; of a pair without
    a result that is not known either, and its class is -1.
    """
    keys: list[Any] = list(zip(plan["class_id"].to_pylist(), plan["class_name"].to_pylist(), strict=True))
    if run.unit == PAIR and any(class_id < 0 for class_id, _ in keys):
        for table in run.tables(run.kind, ["pair", "class_id", "class_name", *_TARGET]):
            for pair, key in zip(table["pair"].to_pylist(), class_keys(table), strict=True):
                keys[pair] = key
    classes = sorted(set(keys))
    index = {key: i for i, key in enumerate(classes)}
    return classes, np.array([index[key] for key in keys], np.int64)


def class_label(key: ClassKey) -> str:
    """A class's name, or its number where it has none."""
    return key[1] or (f"class {key[0]}" if key[0] >= 0 else "unknown")
