"""What figures are drawn from: runs of one dataset, joined by image and class, and the images themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from extremal.jobs.report.joined_run import checked_root, preprocess_of

from extremal.jobs.figures.drawing import displayed
from extremal.pipeline.datasets.pairs import list_or_none
from extremal.storage import Run, RunError, kinds
from extremal.storage.files import HIDDEN
from extremal.storage.folder import open_root
from extremal.storage.kinds import Kind
from extremal.workers.errors import ImageError
from extremal.workers.images import load

Row = dict[str, Any]
Place = str | PathLike[str] | Run
Runs = Place | Sequence[Place]
ClassKey = tuple[int, str]

KEY = ("image_id", "class_id", "class_name")
SHOWN = 4  # pairs or classes of a figure for which none were chosen
MOST = 50  # of them


class Absent(Exception):
    """Something that cannot be shown; the panel says why in its place."""


@dataclass(frozen=True)
class Material:
    """Runs whose pairs are those of the first. `root`: where the images lie now; None = where they were."""

    runs: tuple[Run, ...]
    root: str | None = None

    @classmethod
    def of(cls, runs: Runs, root: str | None, *needed: Kind) -> "Material":
        """Opened runs.

        Raises:
            RunError: a run is not there, or none is of one of the kinds needed.
        """
        given = [runs] if isinstance(runs, str | PathLike | Run) else runs
        opened = tuple(run if isinstance(run, Run) else Run.open(str(run)) for run in given)
        kinds = [run.kind for run in opened]
        for kind in needed:
            if kind not in kinds:
                there = ", ".join(f"{run.place()} ({run.kind.name})" for run in opened)
                raise RunError(
                    f"This figure needs a run of kind {kind.name}; given: {there or 'none'}. Add one."
                )
        return cls(opened, None if root is None else checked_root(str(root)))

    def of_kind(self, kind: Kind) -> list[Run]:
        """The runs of a kind, as given."""
        return [run for run in self.runs if run.kind == kind]

    def pairs(
        self, wanted: Sequence[int | str] | None = None, classes: Sequence[int | str] | None = None
    ) -> list[Row]:
        """Pairs of the first run's plan, in the order in which they are wanted.

        Args:
            wanted: numbers of pairs, or ids of images, each standing for all its pairs; None = the first few.
            classes: ids or names to which they are limited.

        Raises:
            RunError: there is no such pair, image or class.
        """
        plan = self.runs[0].plan(["pair", "path", *KEY])
        if classes is not None:
            keys = list(zip(plan["class_id"].to_pylist(), plan["class_name"].to_pylist(), strict=True))
            named = set(choose(list(dict.fromkeys(keys)), classes))
            plan = plan.filter(pa.array([key in named for key in keys]))
        if wanted is None:
            return _rows(plan.slice(0, SHOWN))
        each = [wanted] if isinstance(wanted, str | int) else wanted
        found = [row for one in each for row in self._wanted(plan, one)]
        if not 0 < len(found) <= MOST:
            raise RunError(f"{len(found)} pairs were chosen: a figure shows 1 to {MOST}. Give their numbers.")
        return found

    def _wanted(self, plan: pa.Table, one: int | str) -> list[Row]:
        number = not isinstance(one, str)  # also one of numpy's
        column = plan["pair" if number else "image_id"]
        found = _rows(plan.take(np.flatnonzero(column.to_numpy() == one)))
        if found:
            return found
        place = self.runs[0].place()
        if number:
            raise RunError(f"There is no pair {one} in {place}, which has {_some(plan['pair'])}.")
        raise RunError(f"There is no image {one!r} in {place}, which has {_some(plan['image_id'])}.")

    def rows(self, kind: Kind, pair: Row) -> list[tuple[Run, Row]]:
        """The results of a pair in all runs of a kind, each with its run; never none.

        Raises:
            Absent: it has no result.
            RunError: a shard is damaged.
        """
        found, reason = [], f"no {kind.name} run was given"
        for run in self.of_kind(kind):
            try:
                found += [(run, row) for row in results(run, pair)]
            except Absent as absent:
                reason = str(absent)
        if not found:
            raise Absent(reason)
        return found

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
    found: list[Row] = table.to_pylist()
    return found


def results(run: Run, pair: Row) -> list[Row]:
    """The rows of a run's main kind for the image and class of a pair, perhaps of another run.

    Raises:
        Absent: they are not there.
        RunError: the shard is damaged.
    """
    plan = run.plan_of([pair["image_id"]])
    for name in KEY:
        plan = plan.filter(pc.equal(plan[name], pair[name]))
    if not plan.num_rows:
        raise Absent(f"not among the pairs of {run.place()}")
    number, shard = plan["pair"][0].as_py(), plan["shard"][0].as_py()
    if not run.is_committed(shard):
        raise Absent(f"not computed yet in {run.place()}")
    table = run.shard_table(shard, run.kind)
    found = table.filter(pc.equal(table["pair"], number))
    if found.num_rows:
        return _rows(found)
    failures = run.shard_table(shard, kinds.FAILURES)
    for row in _rows(failures.filter(pc.equal(failures["pair"], number))):
        raise Absent(f"failed ({row['stage']}): {row['error']}")
    raise Absent(f"without a result in {run.place()}")


def choose(there: Sequence[ClassKey], wanted: Sequence[int | str]) -> list[ClassKey]:
    """Classes by id or by name, in the order in which they are wanted; a name may stand for several.

    Raises:
        RunError: there is no such class.
    """
    if not wanted:
        raise RunError("No class was chosen: give names or ids.")
    chosen = []
    for one in [wanted] if isinstance(wanted, str) else wanted:
        by_name = [key for key in there if key[1] == one]
        found = by_name or [key for key in there if str(key[0]) == str(one)]
        if not found:
            known = list_or_none([name for _, name in there])
            raise RunError(f"There is no class {one!r}. There are: {known}.")
        chosen += found
    return chosen
