"""The images of a run that excite a channel most, by the largest activation on the whole image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from extremal.pipeline.aggregates.over_shards import Blocks, in_one
from extremal.storage import Run, RunError, kinds

EXEMPLARS = pa.schema(
    [
        ("channel", pa.int32()),
        ("rank", pa.int32()),
        ("activation", pa.float32()),
        ("pair", pa.int64()),
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("class_id", pa.int32()),
        ("class_name", pa.string()),
    ]
)
_KEY = EXEMPLARS.names[3:]

Row = dict[str, Any]


@dataclass
class Best:
    """Of every channel the images of some shards that excite it most, at most 2 * top of them meanwhile.

    Attributes:
        found: by channel, then image: activation and the pair's key.
        least: (C) an activation below it is not among the best of its channel.
    """

    channels: tuple[int, ...]
    top: int
    found: list[dict[str, tuple[float, Row]]]
    least: npt.NDArray[np.float32]

    @classmethod
    def none(cls, channels: Sequence[int], top: int) -> "Best":
        size = len(channels)
        return cls(tuple(channels), top, [{} for _ in channels], np.full(size, -np.inf, np.float32))

    def add(self, table: pa.Table) -> None:
        """The rows of a channel table, of one layer.

        Raises:
            ValueError: rows have different numbers of channels, or one of those wanted does not exist.
        """
        if not table.num_rows:
            return
        sizes = set(pc.list_value_length(table["activations"]).to_pylist())
        if len(sizes) > 1 or max(sizes) <= max(self.channels):
            raise ValueError(f"channel {max(self.channels)} is wanted, activations are of {sorted(sizes)}")
        values = pc.list_flatten(table["activations"]).to_numpy().reshape(table.num_rows, -1)
        values = values[:, self.channels]
        keys = table.select(_KEY).to_pylist()
        for row, place in np.argwhere(values >= self.least).tolist():  # a NaN is no activation
            self._offer(place, float(values[row, place]), keys[row])

    def merge(self, other: "Best") -> None:
        """Add what was found in other shards, of the same channels and top."""
        for place, of_channel in enumerate(other.found):
            for value, key in of_channel.values():
                self._offer(place, value, key)

    def best(self, place: int) -> list[tuple[float, Row]]:
        """Activation and key of the top images of the channel at a place, descending, ties by image_id."""
        return sorted(self.found[place].values(), key=lambda one: (-one[0], one[1]["image_id"]))[: self.top]

    def _offer(self, place: int, value: float, key: Row) -> None:
        mine, image = self.found[place], key["image_id"]
        before = mine.get(image)
        # Of the pairs of one image, whose activations are the same but for rounding, one counts.
        if before is None or (-value, key["pair"]) < (-before[0], before[1]["pair"]):
            mine[image] = (value, key)
        if len(mine) >= 2 * self.top:
            kept = self.best(place)
            self.found[place] = {one[1]["image_id"]: one for one in kept}
            self.least[place] = kept[-1][0]


def exemplars(run: Run, channels: Sequence[int], top: int, blocks: Blocks = in_one) -> pa.Table:
    """The `top` images that excite each channel most: rows of `EXEMPLARS`, by channel as given, then rank.

    `activation` is the largest of the channel over its positions. An image counts once, with the pair of
    its largest value, the first of equal ones; ties go to the lowest image_id. Memory is bounded by
    channels x top; the result is the same whatever the shards and their order.

    Args:
        channels: of the run's layer, each once. top: images a channel, the first has rank 1.

    Raises:
        RunError: not a channel run, or its shards are damaged, foreign or without one of the channels.
        ValueError: top is not positive, or a channel is negative or given twice.
    """
    if top < 1 or min(channels, default=0) < 0 or len(set(channels)) < len(channels):
        raise ValueError(f"top must be at least 1 and channels distinct, not {top} and {list(channels)}")
    run.require(kinds.CHANNEL, "the images of a channel need a channel run")
    whole = Best.none(channels, top)
    if not channels:
        return EXEMPLARS.empty_table()
    try:
        for part in blocks(run, partial(_best_of_shards, channels=tuple(channels), top=top)):
            whole.merge(part)
    except ValueError as error:
        raise RunError(f"The channel shards of {run.place()} do not fit: {error}.") from error
    rows = [
        {"channel": channel, "rank": rank, "activation": value, **key}
        for place, channel in enumerate(channels)
        for rank, (value, key) in enumerate(whole.best(place), 1)
    ]
    return pa.Table.from_pylist(rows, schema=EXEMPLARS)


def _best_of_shards(run: Run, shards: Sequence[int], channels: tuple[int, ...], top: int) -> Best:
    best = Best.none(channels, top)
    for table in run.tables(kinds.CHANNEL, [*_KEY, "activations"], shards):
        best.add(table)
    return best
