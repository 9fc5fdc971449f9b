"""The plan: every unit of a run, in order, with the batch and the shard it belongs to.

Neither depends on the number of workers. A batch holds pairs of one input shape; what shares a batch
decides the last bits of the result, so it is fixed here once for the run, whatever the shard size.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pyarrow as pa

from extremal.pipeline.datasets.pairs import Dataset, Pair
from extremal.pipeline.datasets.targets import class_targets
from extremal.storage.folder import Folder, open_root
from extremal.storage.kinds import PAIR, Unit
from extremal.workers.config import RunConfig
from extremal.workers.images import Preprocess, image_size

LARGEST = 2**31 - 1
CHUNK = 4096  # pairs that exist as Python objects at a time

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """A plan and what was left out of it.

    Attributes:
        table: rows of the unit's plan.
        shards: number of shards.
        excluded: pairs per class that no output of the network stands for.
        fingerprint: SHA-256 of the units, independent of shards and batches.
    """

    table: pa.Table
    shards: int
    excluded: dict[str, int]
    fingerprint: str


class _Layout:
    """Pairs come in the dataset's order and leave in the plan's: in batches of one input shape.

    A batch is laid down when it is full, and the incomplete ones at the end, in the order of their first
    pair. So no more pairs wait than `batch` for each shape, however long the dataset.
    """

    def __init__(self, unit: Unit, batch: int, shard_size: int) -> None:
        self._unit, self._batch, self._shard_size = unit, batch, shard_size
        self._open: dict[object, list[Row]] = {}
        self._rows: list[Row] = []
        self._tables = [unit.plan.empty_table()]
        self._units = self._batches = self._shard = self._filled = 0

    def add(self, shape: object, row: Row) -> None:
        members = self._open.setdefault(shape, [])
        members.append(row)
        if len(members) == self._batch:
            self._lay(members)
            members.clear()

    def finish(self) -> tuple[pa.Table, int]:
        """The plan and the number of shards."""
        for members in self._open.values():
            if members:
                self._lay(members)
        self._flush()
        return pa.concat_tables(self._tables), self._shard + 1 if self._batches else 0

    def _lay(self, members: list[Row]) -> None:
        if self._filled >= self._shard_size:
            self._shard, self._filled = self._shard + 1, 0
        for row in members:
            row |= {self._unit.number: self._units, "batch": self._batches, "shard": self._shard}
            self._units += 1
        self._rows += members
        self._batches += 1
        self._filled += len(members)
        if len(self._rows) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        self._tables.append(pa.Table.from_pylist(self._rows, schema=self._unit.plan))
        self._rows = []


def plan_dataset(dataset: Dataset, outputs: int, preprocess: Preprocess, config: RunConfig) -> Plan:
    """Lay out the pairs of a dataset. They stream through; only the plan itself, an Arrow table, grows.

    Args:
        outputs: number of the network's outputs.
        preprocess: decides the input shape of each image.

    Raises:
        DatasetError: the dataset cannot be read, or its classes do not fit the network.
    """
    mapping = class_targets(dataset, outputs)
    excluded: Counter[str] = Counter()
    plan = plan_pairs(_rows(dataset, mapping, excluded), dataset.root, preprocess, config)
    return replace(plan, excluded=dict(sorted(excluded.items())))


def plan_pairs(rows: Iterator[Row], root: str, preprocess: Preprocess, config: RunConfig) -> Plan:
    """The plan of pairs without number, batch and shard, their images below a root."""
    images = open_root(root)
    return lay_out(PAIR, rows, lambda row: _shape(row, images, preprocess), config)


def lay_out(unit: Unit, rows: Iterator[Row], shape: Callable[[Row], object], config: RunConfig) -> Plan:
    """The plan of units without number, batch and shard, as many of them as the configuration's limit.

    Args:
        shape: of a unit's input; those of one shape share batches.
    """
    layout = _Layout(unit, config.batch, config.shard_size)
    digest = hashlib.sha256()
    for chunk in _chunks(islice(rows, config.dataset.limit)):
        digest.update(json.dumps(chunk).encode())
        for row in chunk:
            layout.add(shape(row), row)
    table, shards = layout.finish()
    return Plan(table, shards, {}, digest.hexdigest())


def fingerprint(rows: Iterator[Row]) -> str:
    """The fingerprint of a plan of these rows."""
    digest = hashlib.sha256()
    for chunk in _chunks(rows):
        digest.update(json.dumps(chunk).encode())
    return digest.hexdigest()


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, CHUNK)):
        yield chunk


def _rows(dataset: Dataset, mapping: dict[int, tuple[int, ...]], excluded: Counter[str]) -> Iterator[Row]:
    for pair in dataset.pairs():
        targets = _targets(pair, mapping)
        if targets == [] and pair.known and pair.class_id in mapping:
            excluded[pair.class_name] += 1
            continue
        row = {
            "image_id": pair.image_id,
            "path": pair.path,
            "class_id": pair.class_id,
            "class_name": pair.class_name,
            "targets": targets,
            "width": pair.width,
            "height": pair.height,
            "boxes": [list(box) for box in pair.boxes],
            "rle": pair.rle,
            "all_difficult": pair.all_difficult,
            "difficult": pair.difficult,
        }
        _drop_absurd(row)
        yield row


def _drop_absurd(row: Row) -> None:
    """An annotation with impossible numbers becomes a pair that fails, and costs no other."""
    size = [value for value in (row["width"], row["height"]) if value is not None]
    numbers = [value for box in row["boxes"] for value in box]
    if any(abs(value) > LARGEST for value in numbers) or any(not 0 < value <= LARGEST for value in size):
        row |= {"targets": [], "class_name": "", "boxes": [], "rle": None, "width": None, "height": None}


def _targets(pair: Pair, mapping: dict[int, tuple[int, ...]]) -> list[int] | None:
    if pair.known and pair.class_id == -1:
        return None
    return list(mapping.get(pair.class_id, ())) if pair.known else []


def _shape(row: Row, images: Folder, preprocess: Preprocess) -> object:
    """Input shape of a row's image, None if that cannot be known before decoding."""
    if preprocess.crop is not None:
        return preprocess.input_shape(1, 1)
    size = row["width"], row["height"]
    if None in size:
        size = image_size(images, row["path"]) or (0, 0)
    return preprocess.input_shape(*size) if min(size) > 0 else None
