"""What an inversion run computes of a group of pairs or channels: rows of `INVERSION`."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from extremal.storage import Run, RunError, kinds
from extremal.workers.config import InversionConfig
from extremal.workers.inversion.invert import InversionResult, channel_targets, cosine, invert, masked
from extremal.workers.inversion.parameterization import png
from extremal.workers.networks.cut import Split, split_network
from extremal.workers.networks.network import Network
from extremal.workers.shard.attribution import Found
from extremal.workers.shard.rows import KEY, Item, Row

_PAIR = ("image_id", "class_id", "class_name")  # what names a pair in the channel run as in this one
_COLUMNS = ["pair", *_PAIR, "target", "target_name", "counts", "masks_shape", "masks", "a_star"]


class Inversion:
    """The inversions of a run on one network; stands where an `Attribution` does."""

    def __init__(
        self,
        network: Network,
        config: InversionConfig,
        layer: str,
        channels_hash: str | None,
        slots: int | None,
    ) -> None:
        """
        Args:
            layer: of the channel run. channels_hash: the config_hash of that run when this one was planned.
            slots: most pictures at once, None = 16.

        Raises:
            LayerError: the network has no such layer.
            RunError: `config.channels` is not that run.
        """
        self.network, self.config, self.slots = network, config, slots
        self._split: Split = split_network(network, layer)
        self._channels = Run.open(config.channels)
        if self._channels.manifest.config_hash != channels_hash:
            raise RunError(
                f"{self._channels.place()} is another channel run than the one that was planned with. "
                "Put that one back, or give --channels where it lies now and another --out."
            )

    def explain(self, items: list[Item]) -> list[Found]:
        """The inversions of pairs of one input shape, or of channels."""
        found = self._of_pairs(items) if self.config.subject == "pairs" else self._of_channels(items)
        for one, item in zip(found, items, strict=True):
            for row in one.rows:
                row |= {key: item.row[key] for key in KEY}
                row |= {"seed": item.seed, "layer": self._split.layer}
        return found

    def _of_channels(self, items: list[Item]) -> list[Found]:
        channels = [item.row["class_id"] for item in items]
        targets = channel_targets(self.network, self._split, channels)
        # `objective` is a choice for pairs, and no part of this run's identity.
        result = self._invert(items, targets, replace(self.config, objective="dot"))
        rows = _rows(result)
        for row, channel in zip(rows, channels, strict=True):
            row |= {"target": -1, "target_name": None, "objective": "channel", "channel": channel}
            row |= {"a_star": None, "image_masked": None, "cosine_masked": None, "cosine_between": None}
            row["energy_masked"] = []
        return [_found(row) for row in rows]

    def _of_pairs(self, items: list[Item]) -> list[Found]:
        """Both inversions of each pair that the channel run has a mask of; they share seed and steps."""
        known = self._read(items)
        found = [Found([], [], LookupError(_no_mask(item))) for item in items]
        there = [i for i, row in enumerate(known) if row is not None]
        if not there:
            return found
        chosen, rows = [items[i] for i in there], [known[i] for i in there]
        images = torch.stack([item.input for item in chosen]).to(self.network.device)
        value = self._split.head(images).value.float()
        masks = torch.stack([_mask(row) for row in rows if row is not None])
        targets = torch.cat([value, masked(value, masks, self._split)])
        result = self._invert([*chosen, *chosen], targets, self.config)
        whole, part = result.activations.chunk(2)
        between = cosine(whole, part).tolist()
        both = _rows(result)
        for i, one, other, stored, alike in zip(
            there, both[: len(there)], both[len(there) :], rows, between, strict=True
        ):
            assert stored is not None
            row = one | {name: stored[name] for name in ("target", "target_name", "a_star")}
            row |= {"objective": self.config.objective, "channel": None, "cosine_between": alike}
            row |= {f"{name}_masked": other[name] for name in ("image", "cosine", "energy")}
            found[i] = _found(row | {"trace": one["trace"] + other["trace"]})
        return found

    def _invert(self, items: list[Item], targets: Tensor, config: InversionConfig) -> InversionResult:
        seeds = [item.seed for item in items]
        size = (items[0].input.shape[-2], items[0].input.shape[-1])
        return invert(self.network, self._split, targets, seeds, config=config, size=size, slots=self.slots)

    def _read(self, items: list[Item]) -> list[Row | None]:
        """The channel run's row of each pair, None where it has none; reads only the shards they lie in."""
        images = {item.row["image_id"] for item in items}
        planned = self._channels.plan_of(sorted(images))
        wanted = {_name(item.row) for item in items}
        shards = {row["shard"] for row in planned.to_pylist() if _name(row) in wanted}
        rows: dict[tuple[Any, ...], Row] = {}
        for table in self._channels.tables(kinds.CHANNEL, _COLUMNS, sorted(shards)):
            here = pa.array([image in images for image in table["image_id"].to_pylist()], pa.bool_())
            rows |= {_name(row): row for row in table.filter(here).to_pylist()}
        return [rows.get(_name(item.row)) for item in items]


def _name(row: Row) -> tuple[Any, ...]:
    return tuple(row[key] for key in _PAIR)


def _no_mask(item: Item) -> str:
    return (
        f"the channel run has no mask of {item.row['path']} [{item.row['class_name']}]: mend it there "
        "(`extremal retry`), then here"
    )


def _mask(row: Row) -> Tensor:
    """(K) the mask of a*, or of the largest count where none reaches tau: as eq. 11's map does."""
    sizes, shape = row["counts"], row["masks_shape"]
    place = len(sizes) - 1 if row["a_star"] is None else sizes.index(row["a_star"])
    return torch.tensor(row["masks"], dtype=torch.float32).view(*shape)[place]


def _rows(result: InversionResult) -> list[Row]:
    """Of each picture what its row holds, but for the key and what the subject knows."""
    cosines, energies, traces = result.cosine.tolist(), result.energy.cpu(), result.trace.cpu()
    return [
        {
            "image": png(result.pictures[i]),
            "cosine": cosines[i],
            "energy": energies[i].tolist(),
            "trace_steps": list(result.trace_steps),
            "trace": traces[i].tolist(),
        }
        for i in range(len(cosines))
    ]


def _found(row: Row) -> Found:
    numbers = [*row["trace"], *row["energy"], *row["energy_masked"]]
    if torch.tensor(numbers).isfinite().all():
        return Found([row], [])
    return Found([], [], FloatingPointError("the objective became infinite or not a number"))
