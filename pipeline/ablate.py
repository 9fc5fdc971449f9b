"""Do the channels of a class carry it? They are set to zero at the layer of a channel run (seeds E7).

The channels of a class are the largest of its mean mask (`raw`), or of that less the mean over classes
(`specific`, 2.8), as in aggregates/class_channels.py. For a pair they are chosen without its own mask,

    mbar_c without i = (sum of class c - m_i) / (n_c - 1),

or the check would find what the mask of that image was optimized to find. A class with one mask has then
nothing to choose from: its pairs are counted as alone.

An image of a class has a high logit of that class, which has more to lose than others, by whatever channels:
so the excess of the own drop over the others' is compared with random sets too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from extremal.pipeline.aggregates.ablation import ABLATION_PAIRS, NULLS, Ablation
from extremal.pipeline.aggregates.class_channels import (
    CLASS,
    ClassKey,
    ClassSums,
    class_keys,
    class_sums,
    largest,
)
from extremal.pipeline.aggregates.over_shards import Blocks, in_one
from extremal.pipeline.datasets.open import unreachable
from extremal.pipeline.progress import ProgressReport
from extremal.storage import Run, kinds
from extremal.storage.folder import Folder
from extremal.workers.errors import ImageError
from extremal.workers.extremal.ablation import Ablated, Subject, ablate
from extremal.workers.images import load
from extremal.workers.networks.cut import Split
from extremal.workers.networks.network import Network
from extremal.workers.shard.rows import check_size

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Row = dict[str, Any]

BATCH = 16  # pairs decoded and passed through the head at once
_COLUMNS = ["pair", "image_id", "path", "seed", *CLASS, "masks", "a_star"]


class Channels:
    """The top channels of classes, chosen without one pair, and the outputs of the other classes."""

    def __init__(self, sums: ClassSums, outputs: Mapping[ClassKey, set[int]], k: int) -> None:
        """outputs: those explained of each class. k: how many channels, fewer than there are."""
        self._sums, self._k = sums, k
        means = {key: mean for key, part in sums.classes.items() if (mean := part.mean()) is not None}
        self._means = means
        self._total = np.sum([means[key] for key in sorted(means)], axis=0)
        everything = set[int]().union(*outputs.values())
        self._others = {key: np.array(sorted(everything - own), np.int64) for key, own in outputs.items()}

    def others(self, key: ClassKey) -> Ints:
        """Outputs explained of other classes, less those explained of this one."""
        return self._others[key]

    def chosen(self, key: ClassKey, own: Floats | None) -> dict[str, Ints]:
        """(k) channels of a class by choice, without the mask `own` (K) of a pair; {} if it has no other.

        Args:
            own: None for a pair without an a*, which is in no mean.
        """
        part = self._sums.classes[key]
        n = int(part.histogram.sum()) - (own is not None)
        if n < 1:
            return {}
        mean = (part.mask_sum - own if own is not None else part.mask_sum) / n
        found = {"raw": mean}
        if len(self._means) > 1:
            found["specific"] = mean - (self._total - self._means[key] + mean) / len(self._means)
        return {name: np.array(largest(values, self._k)[0], np.int64) for name, values in found.items()}


@dataclass(frozen=True)
class AblationSettings:
    """Which channels are set to zero.

    Attributes:
        k: the so many largest of a class. draws: random sets of as many, for every pair.
    """

    k: int = 10
    draws: int = 20


def ablate_run(
    run: Run,
    network: Network,
    split: Split,
    images: Folder,
    settings: AblationSettings,
    progress: ProgressReport,
    blocks: Blocks = in_one,
) -> Ablation:
    """Set the top channels of every committed pair's class to zero, and random sets of as many.

    Args:
        split: the network, on its device, cut at the run's layer.
        images: where the plan's paths lie. progress: of all committed pairs.

    Raises:
        RunError: not a channel run, or its shards are damaged, foreign or do not fit together.
        DatasetError: the storage of the images fails.
    """
    sums = class_sums(run, blocks)
    stage = _Stage(network, split, images, Channels(sums, _outputs(run), settings.k), settings.draws)
    found = Ablation(ABLATION_PAIRS.empty_table())
    tables, shards = [found.pairs], run.committed()
    for shard, table in zip(shards, run.tables(kinds.CHANNEL, _COLUMNS, shards), strict=True):
        rows = _rows(table, sums, run.shard_plan(shard).to_pylist())
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            before = found.failed.total()
            made = stage.compute(batch, found)
            tables.append(pa.Table.from_pylist(made, schema=ABLATION_PAIRS))
            progress.add(len(batch), found.failed.total() - before)
    found.pairs = pa.concat_tables(tables)
    return found


def _outputs(run: Run) -> dict[ClassKey, set[int]]:
    """The outputs explained of every class."""
    outputs: dict[ClassKey, set[int]] = {}
    for table in run.tables(kinds.CHANNEL, CLASS):
        for key, target in zip(class_keys(table), table["target"].to_pylist(), strict=True):
            outputs.setdefault(key, set()).add(target)
    return outputs


def _rows(table: pa.Table, sums: ClassSums, planned: Sequence[Row]) -> list[Row]:
    """Rows with what was planned of their pair; `key` is the class, `own` the (K) mask of a*, or None."""
    if not table.num_rows:
        return []
    plan = {row["pair"]: row for row in planned}
    masks = pc.list_flatten(table["masks"]).to_numpy().reshape(-1, len(sums.counts), sums.channels)
    keys, kept = class_keys(table), table.drop_columns("masks").to_pylist()
    return [
        {
            **plan[row["pair"]],
            **row,
            "key": key,
            "own": None if (a := row["a_star"]) is None else mask[sums.counts.index(a)].astype(np.float64),
        }
        for row, key, mask in zip(kept, keys, masks, strict=True)
    ]


@dataclass(frozen=True)
class _Stage:
    """What pairs are ablated with."""

    network: Network
    split: Split
    images: Folder
    channels: Channels
    draws: int

    def compute(self, rows: Sequence[Row], found: Ablation) -> list[Row]:
        """Rows of `ABLATION_PAIRS` of a batch; what cannot be computed is counted in `found`."""
        groups: dict[tuple[int, ...], list[tuple[Row, Tensor, Subject]]] = {}
        for row in rows:
            chosen = self.channels.chosen(row["key"], row["own"])
            if not chosen:
                found.alone[row["key"]] += 1
                continue
            try:
                x = self._decode(row)
            except OSError as error:  # of the storage, and of no image
                raise unreachable(self.images.show(), error) from error
            except (ImageError, ValueError, MemoryError) as error:
                _failed(row, error, found)
                continue
            subject = Subject(row["target"], self.channels.others(row["key"]), chosen, row["seed"])
            groups.setdefault(tuple(x.shape), []).append((row, x, subject))
        made = [one for members in groups.values() for one in self._ablate(members, found)]
        return sorted(made, key=lambda one: (one["pair"], one["choice"]))

    def _decode(self, row: Row) -> Tensor:
        image = load(self.images, row["path"])
        check_size(row, image.size)
        return self.network.preprocess(image)

    def _ablate(self, members: Sequence[tuple[Row, Tensor, Subject]], found: Ablation) -> list[Row]:
        """Together; if that fails each alone, so that one bad pair costs no other."""
        rows, inputs, subjects = zip(*members, strict=True)
        try:
            results = ablate(self.split, torch.stack(inputs).to(self.network.device), subjects, self.draws)
        except Exception as error:  # whatever the network's code raises
            if len(members) > 1:
                return [row for member in members for row in self._ablate([member], found)]
            # A device that is broken for good fails here too, and ends the command.
            torch.zeros(1, device=self.network.device).sum().item()
            _failed(rows[0], error, found)
            return []
        done = zip(rows, subjects, results, strict=True)
        return [made for row, subject, one in done for made in _pair_rows(row, subject, one)]


def _failed(row: Row, error: Exception, found: Ablation) -> None:
    found.failed[row["key"]] += 1
    found.errors.append(f"{row['path']}: {str(error) or type(error).__name__}")


def _pair_rows(row: Row, subject: Subject, one: Ablated) -> Iterator[Row]:
    for choice, drops in one.chosen.items():
        made: Row = {
            "pair": row["pair"],
            "image_id": row["image_id"],
            "class_id": row["key"][0],
            "class_name": row["key"][1],
            "target": subject.target,
            "choice": choice,
            "channels": subject.chosen[choice],
            "score_full": one.full,
            "n_others": len(subject.others),
            "drop_own": drops.own[0],
            "drop_others": None if np.isnan(drops.others[0]) else drops.others[0],
        }
        for null, drawn in zip(NULLS, (one.random, one.matched[choice]), strict=True):
            made |= {f"{null}_own": drawn.own, f"{null}_others": drawn.others}
        yield made
