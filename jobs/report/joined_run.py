"""The runs of a report, joined: the first decides the pairs, the others add what they hold of them."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from extremal.pipeline.datasets.open import unreachable
from extremal.pipeline.stored_masks import mask_config
from extremal.storage import Run, RunError, kinds
from extremal.storage.folder import open_root
from extremal.storage.kinds import Kind
from extremal.workers.config import MaskConfig
from extremal.workers.images import Preprocess

Row = dict[str, Any]
Key = tuple[str, int, str]
Region = tuple[float, float, float, float]

KEPT_TABLES = 12  # of a source: some shards of a few kinds
_KEY = ["image_id", "class_id", "class_name"]


class Source:
    """One run, read by the pairs of the report; goes to other processes without what it has read.

    Attributes:
        number: its place among the runs of the report, from 0.
        own: (N) its pair for each pair of the report, -1 for none.
    """

    def __init__(self, run: Run, number: int, own: npt.NDArray[np.int64], plan: pa.Table) -> None:
        self.run, self.number, self.own = run, number, own
        self._shard = plan["shard"].to_numpy()
        self._committed = frozenset(run.committed())
        self._table = lru_cache(maxsize=KEPT_TABLES)(self._read)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_table"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._table = lru_cache(maxsize=KEPT_TABLES)(self._read)

    def tables(
        self, kind: Kind, columns: Sequence[str], pairs: Sequence[int]
    ) -> Iterator[tuple[list[int], pa.Table]]:
        """The rows of some pairs, shard by shard, and the report's pair of each row.

        Raises:
            RunError: a shard is damaged or foreign.
        """
        own = {int(self.own[pair]): pair for pair in pairs if self.own[pair] >= 0}
        for shard in sorted({int(self._shard[pair]) for pair in own}):
            if shard not in self._committed:
                continue
            table = self._table(kind, ("pair", *columns), shard)
            found = [own.get(pair, -1) for pair in table["pair"].to_pylist()]
            chosen = [i for i, pair in enumerate(found) if pair >= 0]
            if chosen:
                part = table if len(chosen) == len(found) else table.take(chosen)
                yield [found[i] for i in chosen], part

    def _read(self, kind: Kind, columns: tuple[str, ...], shard: int) -> pa.Table:
        nothing = self.run.schema(kind).empty_table().select(columns)
        return next(self.run.tables(kind, columns, [shard]), nothing)

    @cached_property
    def preprocess(self) -> Preprocess:
        """What the run's network was shown of an image."""
        return preprocess_of(self.run)

    @cached_property
    def masks(self) -> MaskConfig:
        """The mask family of a spatial run."""
        return mask_config(self.run)

    def region(self, size: tuple[int, int]) -> Region:
        """The part of an image (width, height) that the network saw, original pixels."""
        return self.preprocess.region(*size)


def preprocess_of(run: Run) -> Preprocess:
    """What a run's network wants done to an image, from run.json."""
    model = run.manifest.model
    numbers = model.mean, model.std
    return Preprocess(model.resize, model.crop, *numbers, model.interpolation, model.antialias)


def subject_of(inversions: Run) -> str:
    """What an inversion run inverts: `pairs` or `channels`."""
    return str(inversions.manifest.setting("inversion", "subject"))


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


def belongs(inversions: Run, channels: Run | None) -> bool:
    """Whether inversions are of that channel run: another network's layer may have the same name."""
    return channels is None or inversions.manifest.data.channels == channels.manifest.config_hash


def open_sources(runs: Sequence[Run]) -> tuple[pa.Table, list[Source]]:
    """The plan of the first run, and all runs joined to it by image, class and name.

    Raises:
        RunError: a run has no pair of the first, unless it inverts channels; or it is given twice.
    """
    for place, count in Counter(run.place() for run in runs).items():
        if count > 1:
            raise RunError(f"{place} is given {count} times: give each run once.")
    plan = runs[0].plan()
    sources = [Source(runs[0], 0, np.arange(plan.num_rows), plan)]
    for number, run in enumerate(runs[1:], 1):
        other = run.plan([*_KEY, "shard"])
        own = _join(plan, other)
        of_channels = run.kind == kinds.INVERSION and subject_of(run) == "channels"
        if (own < 0).all() and not of_channels:
            raise RunError(
                f"{run.place()} has no pair of {runs[0].place()}, the first run, which decides the pairs. "
                "Give runs of one dataset."
            )
        sources.append(Source(run, number, own, other))
    return plan, sources


def _join(plan: pa.Table, other: pa.Table) -> npt.NDArray[np.int64]:
    """For each row of `plan` the row of `other` with its key; the second of twins goes to the second."""
    rows: dict[Key, list[int]] = defaultdict(list)
    for i, key in enumerate(_keys(other)):
        rows[key].append(i)
    found = [rows[key].pop(0) if rows.get(key) else -1 for key in _keys(plan)]
    return np.array(found, np.int64)


def _keys(plan: pa.Table) -> Iterator[Key]:
    return zip(*(plan[name].to_pylist() for name in _KEY), strict=True)
