"""The plan: every pair of a run, in order, with the batch and the shard it belongs to.

Neither depends on the number of workers. A batch holds pairs of one input shape; what shares a batch
decides the last bits of the result, so it is fixed here once for the run, whatever the shard size.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from os.path import isfile  # unlike Path's it takes any name, however long
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from pipeline.config import RunConfig
from pipeline.pairs import Dataset, Pair
from pipeline.targets import class_targets
from storage.schema import PLAN
from workers.images import Preprocess

LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Plan:
    """A plan and what was left out of it.

    Attributes:
        table: rows of `storage.schema.PLAN`.
        shards: number of shards.
        excluded: pairs per class that no output of the network stands for.
        fingerprint: SHA-256 of the pairs, independent of shards and batches.
    """

    table: pa.Table
    shards: int
    excluded: dict[str, int]
    fingerprint: str


def make_plan(dataset: Dataset, outputs: int, preprocess: Preprocess, config: RunConfig) -> Plan:
    """Lay out a run.

    Args:
        outputs: number of the network's outputs.
        preprocess: decides the input shape of each image.

    Raises:
        DatasetError: the dataset cannot be read, or its classes do not fit the network.
    """
    mapping = class_targets(dataset, outputs)
    excluded: Counter[str] = Counter()
    rows = list(islice(_rows(dataset, mapping, excluded), config.dataset.limit))
    for row in rows:
        _drop_absurd(row)
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
    groups: dict[object, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(_shape(row, Path(dataset.root), preprocess), []).append(row)

    ordered: list[dict[str, Any]] = []
    shard, batches, filled = 0, 0, 0
    for group in groups.values():
        for start in range(0, len(group), config.batch):
            members = group[start : start + config.batch]
            if filled >= config.shard_size:
                shard, filled = shard + 1, 0
            for row in members:
                ordered.append({**row, "pair": len(ordered), "batch": batches, "shard": shard})
            batches += 1
            filled += len(members)
    table = pa.Table.from_pylist(ordered, schema=PLAN)
    return Plan(table, shard + 1 if ordered else 0, dict(sorted(excluded.items())), digest)


def _rows(
    dataset: Dataset, mapping: dict[int, tuple[int, ...]], excluded: Counter[str]
) -> Iterator[dict[str, Any]]:
    for pair in dataset.pairs():
        targets = _targets(pair, mapping)
        if targets == [] and pair.known and pair.class_id in mapping:
            excluded[pair.class_name] += 1
            continue
        yield {
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


def _drop_absurd(row: dict[str, Any]) -> None:
    """An annotation with impossible numbers becomes a pair that fails, and costs no other."""
    numbers = [value for box in row["boxes"] for value in box]
    size = [value for value in (row["width"], row["height"]) if value is not None]
    if any(abs(value) > LARGEST for value in numbers) or any(not 0 < value <= LARGEST for value in size):
        row |= {"targets": [], "class_name": "", "boxes": [], "rle": None, "width": None, "height": None}


def _targets(pair: Pair, mapping: dict[int, tuple[int, ...]]) -> list[int] | None:
    if pair.known and pair.class_id == -1:
        return None
    return list(mapping.get(pair.class_id, ())) if pair.known else []


def _shape(row: dict[str, Any], root: Path, preprocess: Preprocess) -> object:
    """Input shape of a row's image, None if that cannot be known before decoding."""
    if preprocess.crop is not None:
        return preprocess.input_shape(1, 1)
    size = row["width"], row["height"]
    if None in size:
        if not isfile(root / row["path"]):
            return None
        try:
            with Image.open(root / row["path"]) as image:
                size = image.size
        except Exception:  # decoders raise nearly anything; the worker will say what is wrong
            return None
    return preprocess.input_shape(*size) if min(size) > 0 else None
