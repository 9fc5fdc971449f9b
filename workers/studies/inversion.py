"""The study `inversion`: pictures of the activations of pairs, or of channels (eq. 12)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from extremal.storage import Run, RunError, kinds
from extremal.workers.config import RunConfig
from extremal.workers.extremal.settings import ChannelConfig
from extremal.workers.inversion.invert import InversionResult, channel_targets, cosine, invert, masked
from extremal.workers.inversion.parameterization import png
from extremal.workers.inversion.settings import InversionConfig
from extremal.workers.networks.cut import Split, split_network
from extremal.workers.networks.network import Network
from extremal.workers.shard.rows import Item, Row
from extremal.workers.studies.computation import Outcome, not_finite

_PAIR = ("image_id", "class_id", "class_name")  # what names a pair in the channel run as in this one
_COLUMNS = ["pair", *_PAIR, "target", "target_name", "counts", "masks_shape", "masks", "a_star"]
# What a row holds of a channel in place of what only pairs have.
_OF_A_CHANNEL: Mapping[str, Any] = {
    "target": -1,
    "target_name": None,
    "objective": "channel",
    "a_star": None,
    "image_masked": None,
    "cosine_masked": None,
    "cosine_between": None,
    "energy_masked": [],
}


class Inversion:
    """The inversions of a run on one network; a `Computation`."""

    def __init__(self, network: Network, config: RunConfig, run: Run) -> None:
        """
        Raises:
            LayerError: the network has no such layer.
            RunError: the configuration's channel run is not the one that the run was planned with.
        """
        self.network, self.config, self.slots = network, config.settings(InversionConfig), config.slots
        self._split: Split = split_network(network, config.settings(ChannelConfig).layer)
        self._channels = Run.open(self.config.channels)
        if self._channels.manifest.config_hash != run.manifest.data.channels:
            raise RunError(
                f"{self._channels.place()} is another channel run than the one that was planned with. "
                "Put that one back, or give --channels where it lies now and another --out."
            )

    def compute(self, items: list[Item]) -> list[Outcome]:
        """The inversions of pairs of one input shape, or of channels."""
        outcomes = self._of_pairs(items) if self.config.subject == "pairs" else self._of_channels(items)
        for outcome in outcomes:
            for row in outcome.rows:
                row["layer"] = self._split.layer
        return outcomes

    def _of_channels(self, items: list[Item]) -> list[Outcome]:
        # Runs of schema 4 plan a channel as a class of that number.
        rows = (item.row for item in items)
        channels = [int(row["channel"] if "channel" in row else row["class_id"]) for row in rows]
        targets = channel_targets(self.network, self._split, channels)
        # `objective` is a choice for pairs, and no part of this run's identity.
        result = self._invert(items, targets, replace(self.config, objective="dot"))
        pictures = zip(_rows(result), channels, strict=True)
        return [_outcome({**row, **_OF_A_CHANNEL, "channel": channel}) for row, channel in pictures]

    def _of_pairs(self, items: list[Item]) -> list[Outcome]:
        """Both inversions of each pair that the channel run has a mask of; they share seed and steps."""
        stored = self._read(items)
        outcomes = [Outcome([], error=LookupError(_no_mask(item))) for item in items]
        there = [i for i, row in enumerate(stored) if row is not None]
        if not there:
            return outcomes
        chosen, rows = [items[i] for i in there], [stored[i] for i in there]
        images = torch.stack([item.input for item in chosen]).to(self.network.device)
        value = self._split.head(images).value.float()
        masks = torch.stack([_mask(row) for row in rows if row is not None])
        targets = torch.cat([value, masked(value, masks, self._split)])
        result = self._invert([*chosen, *chosen], targets, self.config)
        whole, kept = result.activations.chunk(2)
        between = cosine(whole, kept).tolist()
        both = _rows(result)
        for i, full, reduced, channel_row, alike in zip(
            there, both[: len(there)], both[len(there) :], rows, between, strict=True
        ):
            assert channel_row is not None
            row = full | {name: channel_row[name] for name in ("target", "target_name", "a_star")}
            row |= {"objective": self.config.objective, "channel": None, "cosine_between": alike}
            row |= {f"{name}_masked": reduced[name] for name in ("image", "cosine", "energy")}
            outcomes[i] = _outcome(row | {"trace": full["trace"] + reduced["trace"]})
        return outcomes

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
    index = len(sizes) - 1 if row["a_star"] is None else sizes.index(row["a_star"])
    return torch.tensor(row["masks"], dtype=torch.float32).view(*shape)[index]


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


def _outcome(row: Row) -> Outcome:
    numbers = [*row["trace"], *row["energy"], *row["energy_masked"]]
    if torch.tensor(numbers).isfinite().all():
        return Outcome([row])
    return Outcome([], error=not_finite("the objective"))
