"""What is known of every pair, from all runs, one shard of the first run at a time."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from extremal.jobs.report.joined_run import Row, Source, open_sources
from extremal.jobs.report.thumbnails import Pictures
from extremal.pipeline.aggregates.class_channels import ClassKey, class_keys
from extremal.pipeline.aggregates.pointing import CENTER, HITS, MISSES, NO_GROUND_TRUTH, SKIPPED, Rule
from extremal.pipeline.aggregates.scores import Scores, scores
from extremal.storage import Run, kinds
from extremal.storage.kinds import Kind

KEPT_CHAPTERS = 8

_TARGET = ["target", "target_name"]
_SWEEP = [*_TARGET, "score_full", "score_perturbed", "a_star", "binarity", "seconds"]
COLUMNS: dict[Kind, list[str]] = {
    kinds.SPATIAL: [*_SWEEP, "input_shape", "areas", "score_preserve", "score_delete"],
    kinds.CHANNEL: [*_SWEEP, "layer", "counts", "score", "score_binary", "saliency_shape"],
    kinds.SALIENCY: [*_TARGET, "method", "score_full", "map_shape", "insertion", "deletion", "seconds"],
    kinds.INVERSION: [
        *_TARGET,
        "layer",
        "objective",
        "channel",
        "a_star",
        "cosine",
        "cosine_masked",
        "cosine_between",
        "energy",
        "energy_masked",
        "seconds",
    ],
}
_POINTS = ["method", "x", "y", "width", "height", "energy_inside", "distance2", "all_difficult"]
_FAILURES = ["stage", "error_type", "error"]
_LETTER = {HITS: "h", MISSES: "m", SKIPPED: "s", NO_GROUND_TRUTH: "n"}

# Of a row of each kind: sizes, the score over them, and what the sizes count.
SIZES = {
    kinds.SPATIAL: ("areas", "score_preserve", "area"),
    kinds.CHANNEL: ("counts", "score_binary", "channels"),
}


@dataclass
class Known:
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
    failure: Row | None = None
    size: tuple[int, int] | None = None

    def disagreement(self) -> float | None:
        """Largest distance of two methods' points over the image's diagonal, the center left out."""
        places = [(p["x"], p["y"]) for method, p in self.points.items() if method != CENTER]
        if len(places) < 2 or self.size is None:
            return None
        return max(math.dist(a, b) for a, b in combinations(places, 2)) / math.hypot(*self.size)


class Book:
    """The runs of a report as they are when it is made. Only the plan and a few shards are held at a time.

    Other processes that get it see the same runs, whatever has been committed meanwhile.

    Attributes:
        plan: of the first run. pictures: its images.
        classes: the classes of the pairs, sorted. class_of: (N) index of each pair's class.
        rule: what counts as a hit.
    """

    def __init__(self, runs: Sequence[Run], root: str | None, rule: Rule) -> None:
        """`root`: where the images lie now; None = where they were.

        Raises:
            RunError: a run is damaged, or has no pair of the first.
            DatasetError: the root is not there.
        """
        self.rule = rule
        self.plan, self.sources = open_sources(runs)
        self.pictures = Pictures(runs[0], self.plan, root)
        for table in runs[0].tables(kinds.FAILURES, ["pair", "stage"]):
            failed = zip(table["pair"].to_pylist(), table["stage"].to_pylist(), strict=True)
            self.pictures.try_pairs(pair for pair, stage in failed if stage == "decode")
        self.classes, self.class_of = _classes(runs[0], self.plan)
        shards = self.plan["shard"].to_numpy()
        starts = np.flatnonzero(np.r_[True, shards[1:] != shards[:-1]]) if len(shards) else np.array([], int)
        self._starts: npt.NDArray[np.int64] = starts
        self._ends = np.r_[starts[1:], len(shards)]
        self.chapter = lru_cache(maxsize=KEPT_CHAPTERS)(self._read_chapter)

    def __getstate__(self) -> dict[str, Any]:
        _ = self.names  # the scores, which give them, stay here
        return {name: value for name, value in self.__dict__.items() if name not in ("chapter", "scores")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.chapter = lru_cache(maxsize=KEPT_CHAPTERS)(self._read_chapter)

    @property
    def run(self) -> Run:
        """The first run, which decides the pairs."""
        return self.sources[0].run

    @property
    def chapters(self) -> int:
        """Number of chapters: shards of the first run."""
        return len(self._starts)

    def pairs_of(self, chapter: int) -> range:
        """The pairs of a chapter."""
        return range(int(self._starts[chapter]), int(self._ends[chapter]))

    def chapters_of(self, pairs: npt.ArrayLike) -> list[int]:
        """The chapters of some pairs, ascending, each once."""
        return [int(chapter) for chapter in np.unique(np.searchsorted(self._starts, pairs, "right") - 1)]

    def known(self, pair: int) -> Known:
        """What is known of one pair."""
        (chapter,) = self.chapters_of(pair)
        return self.chapter(chapter)[pair - int(self._starts[chapter])]

    def first(self, *kinds: Kind) -> Source | None:
        """The first source of one of some kinds."""
        return next((source for source in self.sources if source.run.kind in kinds), None)

    @cached_property
    def scores(self) -> list[Scores]:
        """The scores of every run."""
        return [scores(source.run, self.rule) for source in self.sources]

    @cached_property
    def names(self) -> list[dict[str, str]]:
        """For every run the name in the report of each of its methods.

        A name that an earlier run took gets the run's number; the center is the same in all.
        """
        taken: set[str] = set()
        names = []
        for number, found in enumerate(self.scores, 1):
            table = found.tables.get("pointing")
            own = dict.fromkeys(table["method"].to_pylist()) if table is not None else {}
            renamed = {
                name: f"{name} ({number})" if name in taken and name != CENTER else name for name in own
            }
            taken |= {*own}
            names.append(renamed)
        return names

    @cached_property
    def methods(self) -> list[str]:
        """All names in the report, those of the first run first."""
        return list(dict.fromkeys(name for of_run in self.names for name in of_run.values()))

    def _read_chapter(self, chapter: int) -> list[Known]:
        pairs = self.pairs_of(chapter)
        rows = self.plan.slice(pairs.start, len(pairs)).to_pylist()
        found = {pair: Known(pair, row) for pair, row in zip(pairs, rows, strict=True)}
        for source in self.sources:
            self._add(source, found)
        for pair, known in found.items():
            known.size = _size(known) or self.pictures.size(pair)
        return list(found.values())

    def _add(self, source: Source, found: dict[int, Known]) -> None:
        kind, pairs = source.run.kind, list(found)
        for owners, table in source.tables(kind, COLUMNS[kind], pairs):
            for pair, row in zip(owners, table.to_pylist(), strict=True):
                found[pair].rows[source.number].append(row)
        if kind != kinds.INVERSION:
            self._add_points(source, found)
        if source.number == 0:
            _add_state(source, found)

    def _add_points(self, source: Source, found: dict[int, Known]) -> None:
        names = self.names[source.number]
        for owners, table in source.tables(kinds.POINTS, _POINTS, list(found)):
            more = zip(self.rule.outcomes(table), self.rule.distances(table), strict=True)
            for pair, row, (outcome, distance2) in zip(owners, table.to_pylist(), more, strict=True):
                distance = None if distance2 is None else round(math.sqrt(distance2), 1)
                point = {**row, "outcome": _LETTER[outcome], "distance": distance}
                found[pair].points.setdefault(names[row["method"]], point)


def _add_state(source: Source, found: dict[int, Known]) -> None:
    for owners, table in source.tables(kinds.FAILURES, _FAILURES, list(found)):
        for pair, row in zip(owners, table.to_pylist(), strict=True):
            found[pair].state, found[pair].failure = "f", {name: row[name] for name in _FAILURES}
    for known in found.values():
        if known.rows.get(source.number):  # also where a retry was stopped before it removed the failure
            known.state, known.failure = "r", None


def _size(known: Known) -> tuple[int, int] | None:
    for row in (known.plan, *known.points.values()):
        if row["width"] and row["height"]:
            return row["width"], row["height"]
    return None


def _classes(run: Run, plan: pa.Table) -> tuple[list[ClassKey], npt.NDArray[np.int64]]:
    """The classes of a plan, and the index of each pair's.

    Where the dataset knows no class it is the explained output, as in `class_keys`; of a pair without
    a result that is not known either, and its class is -1.
    """
    keys: list[Any] = list(zip(plan["class_id"].to_pylist(), plan["class_name"].to_pylist(), strict=True))
    if any(class_id < 0 for class_id, _ in keys):
        for table in run.tables(run.kind, ["pair", "class_id", "class_name", *_TARGET]):
            for pair, key in zip(table["pair"].to_pylist(), class_keys(table), strict=True):
                keys[pair] = key
    classes = sorted(set(keys))
    index = {key: i for i, key in enumerate(classes)}
    return classes, np.array([index[key] for key in keys], np.int64)


def class_label(key: ClassKey) -> str:
    """A class's name, or its number where it has none."""
    return key[1] or (f"class {key[0]}" if key[0] >= 0 else "unknown")
