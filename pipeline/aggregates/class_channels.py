"""Which channels speak for a class: the mean channel mask of every class (seeds CH-6, 2.8).

    mbar_c = mean of m_{a*} over the pairs of class c,     k*_c = argmax_k mbar_c[k]

Masks of very different a* weigh the same in the mean (G13), so the histogram of a* goes with it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from extremal.pipeline.aggregates.over_shards import Blocks, in_one
from extremal.storage import Run, RunError, kinds

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
ClassKey = tuple[int, str]

CLASS = ("class_id", "class_name", "target", "target_name")  # what `class_keys` reads
COLUMNS = [
    *CLASS,
    "layer",
    "counts",
    "masks_shape",
    "masks",
    "a_star",
]

CLASS_CHANNELS = pa.schema(
    [
        ("class_id", pa.int32()),
        ("class_name", pa.string()),
        ("layer", pa.string()),
        ("n", pa.int64()),
        ("n_no_a_star", pa.int64()),
        ("mean_a_star", pa.float64()),
        ("counts", pa.list_(pa.int32())),
        ("a_star_histogram", pa.list_(pa.int64())),
        ("top_channels", pa.list_(pa.int32())),
        ("top_values", pa.list_(pa.float32())),
        ("specific_channels", pa.list_(pa.int32())),
        ("specific_values", pa.list_(pa.float32())),
        ("mean_mask", pa.list_(pa.float32())),
    ]
)


def class_keys(table: pa.Table) -> list[ClassKey]:
    """(id, name) of every row's class; the explained output's where the dataset knows no class (-1)."""
    rows = zip(*(table[name].to_pylist() for name in CLASS), strict=True)
    return [
        (class_id, class_name) if class_id >= 0 else (target, target_name or "")
        for class_id, class_name, target, target_name in rows
    ]


@dataclass
class ClassSum:
    """What one class has gathered: mask_sum (K), and how often each of the (A) counts was a*."""

    mask_sum: Floats
    histogram: Ints
    no_a_star: int = 0

    @classmethod
    def zeros(cls, counts: int, channels: int) -> "ClassSum":
        return cls(np.zeros(channels), np.zeros(counts, np.int64))

    def merge(self, other: "ClassSum") -> None:
        """Add the pairs of another part of the same class."""
        self.mask_sum += other.mask_sum
        self.histogram += other.histogram
        self.no_a_star += other.no_a_star

    def mean(self) -> Floats | None:
        """(K) mean mask in [0,1]; None if no pair has an a*."""
        n = int(self.histogram.sum())
        return self.mask_sum / n if n else None


@dataclass
class ClassSums:
    """Partial sums of some shards, by class. Those of other shards are added with `merge`.

    Stored masks are float16 in [0,1], hence multiples of 2^-24: float64 adds up to 2^29 of them exactly,
    so the sums are bit-equal whatever the order and whatever the size of the shards.
    """

    layer: str = ""
    counts: tuple[int, ...] = ()
    channels: int = 0
    classes: dict[ClassKey, ClassSum] = field(default_factory=dict)

    @classmethod
    def of(cls, table: pa.Table) -> "ClassSums":
        """Sums of the rows of a channel table.

        Raises:
            ValueError: rows differ in layer, counts or channels, or an a* is none of the counts.
        """
        if table.num_rows == 0:
            return cls()
        sums = cls(*_sweep(table))
        size = len(sums.counts)
        masks = pc.list_flatten(table["masks"]).to_numpy().reshape(-1, size, sums.channels)
        # Row by row, because rows are long: one grouped sum of them all (reduceat) is slower by a third.
        for key, mask, a_star in zip(class_keys(table), masks, table["a_star"].to_pylist(), strict=True):
            part = sums.classes.get(key)
            if part is None:
                part = sums.classes[key] = ClassSum.zeros(size, sums.channels)
            if a_star is None:
                part.no_a_star += 1
                continue
            if a_star not in sums.counts:
                raise ValueError(f"a* = {a_star} is none of the counts {sums.counts}")
            row = sums.counts.index(a_star)
            part.mask_sum += mask[row]  # in float64, as the sum is
            part.histogram[row] += 1
        return sums

    def merge(self, other: "ClassSums") -> None:
        """Add the sums of other shards.

        Raises:
            ValueError: they are of another layer, other counts or another number of channels.
        """
        if not other.classes:
            return
        if not self.classes:
            self.layer, self.counts, self.channels = other.layer, other.counts, other.channels
        mine, yours = (self.layer, self.counts, self.channels), (other.layer, other.counts, other.channels)
        if mine != yours:
            raise ValueError(f"sums of different sweeps cannot be merged: {mine} and {yours}")
        for key, part in other.classes.items():
            if key in self.classes:
                self.classes[key].merge(part)
            else:
                # A copy, because a merged part must stay what it was.
                self.classes[key] = ClassSum(part.mask_sum.copy(), part.histogram.copy(), part.no_a_star)


def _sweep(table: pa.Table) -> tuple[str, tuple[int, ...], int]:
    columns = (table[name].to_pylist() for name in ("layer", "counts", "masks_shape"))
    sweeps = {(layer, tuple(counts), shape[1]) for layer, counts, shape in zip(*columns, strict=True)}
    if len(sweeps) > 1:
        raise ValueError(f"rows differ in (layer, counts, channels): {sorted(sweeps)}")
    return sweeps.pop()


def largest(values: Floats, top: int) -> tuple[list[int], list[float]]:
    """Indices and values of the `top` largest, descending; ties go to the lowest index (2.8)."""
    order = np.argsort(-values, kind="stable")[:top]
    return order.tolist(), values[order].tolist()


def channel_rows(sums: ClassSums, top: int) -> pa.Table:
    """Rows of `CLASS_CHANNELS` from merged sums, by class."""
    means = {key: mean for key in sorted(sums.classes) if (mean := sums.classes[key].mean()) is not None}
    # Every class counts once here, however many pairs it has. With one class nothing is specific.
    overall = np.mean(list(means.values()), axis=0) if len(means) > 1 else None
    rows: list[dict[str, Any]] = []
    for key in sorted(sums.classes):
        part, mean = sums.classes[key], means.get(key)
        found = int(part.histogram.sum())
        row: dict[str, Any] = {
            "class_id": key[0],
            "class_name": key[1],
            "layer": sums.layer,
            "n": found + part.no_a_star,
            "n_no_a_star": part.no_a_star,
            "counts": list(sums.counts),
            "a_star_histogram": part.histogram.tolist(),
        }
        if mean is not None:
            row["mean_a_star"] = float(part.histogram @ np.array(sums.counts)) / found
            row["mean_mask"] = mean.tolist()
            row["top_channels"], row["top_values"] = largest(mean, top)
            if overall is not None:
                row["specific_channels"], row["specific_values"] = largest(mean - overall, top)
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=CLASS_CHANNELS)


def class_channels(run: Run, top: int = 10, blocks: Blocks = in_one) -> pa.Table:
    """Mean channel mask and most important channels of every class: rows of `CLASS_CHANNELS`, by class.

    `n` counts pairs; the `n_no_a_star` of them without an a* are in no mean. `mean_mask` (K) is the mean of
    the masks as optimized at a*. `top_channels` are its largest, k*_c first. `specific_channels` are the
    largest of the mean less the mean over the classes' means. Null where there is nothing to average.

    Args:
        run: a channel run.
        top: how many channels to list.
        blocks: how to go over the shards; the result is the same, to the bit.

    Raises:
        RunError: not a channel run, or its shards are damaged, foreign or do not fit together.
        ValueError: top is not positive.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, not {top}")
    return channel_rows(class_sums(run, blocks), top)


def class_sums(run: Run, blocks: Blocks = in_one) -> ClassSums:
    """The merged sums of all committed shards.

    Raises:
        RunError: not a channel run, or its shards are damaged, foreign or do not fit together.
    """
    run.require(kinds.CHANNEL, "the channels of a class need a channel run")
    return _merged(run, blocks(run, _sum_shards))


def _sum_shards(run: Run, shards: Sequence[int]) -> ClassSums:
    return _merged(run, (ClassSums.of(table) for table in run.tables(kinds.CHANNEL, COLUMNS, shards)))


def _merged(run: Run, parts: Iterable[ClassSums]) -> ClassSums:
    sums = ClassSums()
    try:
        for part in parts:
            sums.merge(part)
    except ValueError as error:
        raise RunError(f"The channel shards of {run.place()} do not fit together: {error}.") from error
    return sums
