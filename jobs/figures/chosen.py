"""What is chosen for a figure: pairs of the first run, classes, and what the runs hold of them."""

from collections.abc import Sequence
from functools import cached_property
from os import PathLike

import numpy as np
import pyarrow as pa

from extremal.jobs.drawing import displayed
from extremal.jobs.joined_runs import KEY, Absent, JoinedRun, Row, checked_root, join_runs, preprocess_of
from extremal.pipeline.datasets.pairs import list_or_none
from extremal.storage import Run, RunError
from extremal.storage.files import HIDDEN
from extremal.storage.folder import open_root
from extremal.workers.errors import ImageError
from extremal.workers.images import load

Place = str | PathLike[str] | Run
Runs = Place | Sequence[Place]
Chosen = Sequence[int | str] | None
ClassKey = tuple[int, str]

SHOWN = 4  # pairs or classes of a figure for which none were chosen
MOST = 50  # of them


class FigureRuns:
    """Runs whose pairs are those of the first.

    Attributes:
        runs: as given. root: where the images lie now; None = where they were.
    """

    def __init__(self, runs: Runs, root: str | PathLike[str] | None, needs: str | None = None) -> None:
        """`needs`: the study of which one of the runs must be.

        Raises:
            RunError: a run is not there, or none is of that study.
            PlaceError, DatasetError: the root is no place, or not there.
        """
        given = [runs] if isinstance(runs, str | PathLike | Run) else runs
        self.runs = [run if isinstance(run, Run) else Run.open(str(run)) for run in given]
        if needs and not self.of_study(needs):
            there = ", ".join(f"{run.place()} ({run.kind.name})" for run in self.runs)
            raise RunError(f"This figure needs a run of kind {needs}; given: {there or 'none'}. Add one.")
        self.root = None if root is None else checked_root(str(root))

    @cached_property
    def _joined(self) -> tuple[pa.Table, list[JoinedRun]]:
        return join_runs(self.runs, ["pair", "path", *KEY, "shard"])

    def of_study(self, study: str) -> list[Run]:
        """The runs of a study, as given."""
        return [run for run in self.runs if run.kind.name == study]

    def pairs(self, wanted: Chosen = None, classes: Chosen = None) -> list[Row]:
        """Pairs of the first run's plan, in the order in which they are wanted.

        Args:
            wanted: numbers of pairs, or ids of images, each standing for all its pairs; None = the first few.
            classes: ids or names to which they are limited.

        Raises:
            RunError: there is no such pair, image or class.
        """
        plan = self._joined[0]
        if classes is not None:
            keys = list(zip(plan["class_id"].to_pylist(), plan["class_name"].to_pylist(), strict=True))
            named = set(choose(list(dict.fromkeys(keys)), classes))
            plan = plan.filter(pa.array([key in named for key in keys]))
        if wanted is None:
            return _rows(plan.slice(0, SHOWN))
        each = [wanted] if isinstance(wanted, str | int) else wanted
        pairs = [row for name in each for row in self._wanted(plan, name)]
        if not 0 < len(pairs) <= MOST:
            raise RunError(f"{len(pairs)} pairs were chosen: a figure shows 1 to {MOST}. Give their numbers.")
        return pairs

    def _wanted(self, plan: pa.Table, name: int | str) -> list[Row]:
        number = not isinstance(name, str)  # also one of numpy's
        column = plan["pair" if number else "image_id"]
        rows = _rows(plan.take(np.flatnonzero(column.to_numpy() == name)))
        if rows:
            return rows
        place = self.runs[0].place()
        if number:
            raise RunError(f"There is no pair {name} in {place}, which has {_some(plan['pair'])}.")
        raise RunError(f"There is no image {name!r} in {place}, which has {_some(plan['image_id'])}.")

    def rows(self, study: str, pair: Row) -> list[tuple[Run, Row]]:
        """The results of a pair in all runs of a study, each with its run; never none.

        Raises:
            Absent: it has no result.
            RunError: a shard is damaged.
        """
        results, reason = [], f"no {study} run was given"
        for joined in self._joined[1]:
            if joined.run.kind.name == study:
                try:
                    results += [(joined.run, row) for row in joined.results(pair["pair"])]
                except Absent as absent:
                    reason = str(absent)
        if not results:
            raise Absent(reason)
        return results

    def picture(self, run: Run, path: str, shape: Sequence[int] | None = None) -> np.ndarray:
        """An image as the network of a run saw it: (h,w,3) in 0..1.

        Args:
            shape: height and width that it must have, for masks that were made for it.

        Raises:
            Absent: it cannot be read, or has another shape.
            RunError: its place is not known without credentials.
            PlaceError: --root is no place.
        """
        preprocess = preprocess_of(run)
        try:
            picture = displayed(preprocess(load(open_root(self._root(run)), path)), preprocess)
        except (ImageError, OSError) as error:
            raise Absent(f"no image: {error}") from error
        if shape is not None and picture.shape[:2] != tuple(shape):
            raise Absent(f"no image: {path} has another shape than when it was explained")
        return picture

    def _root(self, run: Run) -> str:
        root = self.root or str(run.manifest.dataset.root)
        if HIDDEN in root:
            raise RunError(f"{root} was given with credentials, which no run stores: give --root again.")
        return root


def _some(column: pa.ChunkedArray) -> str:
    """The first and the last of what there is, for a message."""
    return f"{len(column)}, from {column[0]} to {column[-1]}" if len(column) else "none of these classes"


def _rows(table: pa.Table) -> list[Row]:
    rows: list[Row] = table.to_pylist()
    return rows


def choose(there: Sequence[ClassKey], wanted: Sequence[int | str]) -> list[ClassKey]:
    """Classes by id or by name, in the order in which they are wanted; a name may stand for several.

    Raises:
        RunError: there is no such class.
    """
    if not wanted:
        raise RunError("No class was chosen: give names or ids.")
    chosen = []
    for name in [wanted] if isinstance(wanted, str) else wanted:
        by_name = [key for key in there if key[1] == name]
        keys = by_name or [key for key in there if str(key[0]) == str(name)]
        if not keys:
            names = list_or_none([name for _, name in there])
            raise RunError(f"There is no class {name!r}. There are: {names}.")
        chosen += keys
    return chosen
