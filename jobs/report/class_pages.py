"""Pages of classes: hits and a* of all, and of a channel run the channels that speak for them."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from extremal.jobs.report.joined_run import Row, belongs
from extremal.jobs.report.joined_runs import Book, class_label
from extremal.jobs.report.pair_pages import Entries, size_label
from extremal.pipeline.aggregates.class_channels import CLASS_CHANNELS, ClassKey, class_channels
from extremal.storage import Run, kinds

SHOWN_PAIRS = 60
TOP = 10  # channels of a class
EXAMPLES = 9  # images of a channel

Examples = dict[int, list[tuple[str, str, float]]]  # by channel: image, class, activation
Span = tuple[int, Entries]  # the first pair of some entries, and they


class Classes:
    """What the pages of classes say beyond single pairs; computed when first asked for.

    Attributes:
        run: the first channel run, if there is one.
        channels: its rows of `extremal.pipeline.aggregates.class_channels.CLASS_CHANNELS` by class.
        picture_of: by channel the shard and run of its inversion, at the layer of that run.
    """

    def __init__(self, book: Book) -> None:
        from extremal.jobs.report import (
            added as extras,  # scipy and figures, which those who write pairs do without
        )

        self._book = book
        source = book.first(kinds.CHANNEL)
        self.run: Run | None = source.run if source else None
        table = class_channels(self.run, TOP) if self.run else CLASS_CHANNELS.empty_table()
        rows = table.to_pylist()
        self.channels: dict[ClassKey, Row] = {(row["class_id"], row["class_name"]): row for row in rows}
        self.picture_of = _channel_pictures(book, self.run)
        self.similarity = extras.similarity(table, {key: i for i, key in enumerate(book.classes)})
        self.ablation = extras.ablation(self.run) if self.run else None
        shown = sorted({channel for row in rows for channel, _, _ in _channels(row)})
        self._examples: Examples = extras.examples(self.run, shown, EXAMPLES) if self.run else {}
        self._pair_of = _first_pairs(book, self._examples)

    def listing(self, spans: Sequence[Span]) -> dict[str, Any]:
        """What `data/classes.js` holds, from the entries of all pairs."""
        gathered = self._gather(spans)
        return {
            "classes": [self._row(i, gathered[i]) for i in range(len(self._book.classes))],
            "similarity": self.similarity[1] if self.similarity else None,
            "ablation": self.ablation,
        }

    def _gather(self, spans: Sequence[Span]) -> list[Counter[Any]]:
        """Counts of each class: its pairs' states, their outcomes by method, a* found and their sum."""
        counts: list[Counter[Any]] = [Counter() for _ in self._book.classes]
        for start, entries in spans:
            classes = self._book.class_of[start : start + len(entries.state)].tolist()
            for i, (of_class, state) in enumerate(zip(classes, entries.state, strict=True)):
                count = counts[of_class]
                count[state] += 1
                for method, outcomes in entries.hits.items():
                    count[method, outcomes[i]] += 1
                count["swept"] += int(entries.swept[i])
                a_star = entries.a_star[i]
                if not math.isnan(a_star):
                    count["a_star"] += 1
                    count["a_star_sum"] += a_star
        return counts

    def _row(self, index: int, count: Counter[Any]) -> dict[str, Any]:
        key, found = self._book.classes[index], count["a_star"]
        channels = self.channels.get(key, {})
        return {
            "class": index,
            "name": class_label(key),
            "pairs": count["r"] + count["f"] + count["m"],
            "results": count["r"],
            "failed": count["f"],
            "mean_a_star": float(f"{count['a_star_sum'] / found:.4g}") if found else None,
            "no_a_star": count["swept"] - found,
            "hits": {method: [count[method, "h"], count[method, "m"]] for method in self._book.methods},
            "top": channels.get("top_channels") or [],
            "specific": channels.get("specific_channels") or [],
        }

    def page(self, index: int, spans: Sequence[Span]) -> dict[str, Any]:
        """What `data/class/NNNNN.js` holds, from the entries of its pairs at least."""
        key = self._book.classes[index]
        row = self.channels.get(key, {})
        members = np.flatnonzero(self._book.class_of == index)
        return {
            "class": index,
            "name": class_label(key),
            "pairs": members[:SHOWN_PAIRS].tolist(),
            "total": len(members),
            "layer": row.get("layer"),
            "a_star": self._histogram(members.tolist(), spans),
            "mean_mask": [float(f"{value:.4g}") for value in row.get("mean_mask") or []] or None,
            "channels": [self._channel(*channel) for channel in _channels(row)],
        }

    def _histogram(self, members: Sequence[int], spans: Sequence[Span]) -> dict[str, Any] | None:
        """How often a* was in each bin: above the size before, up to the size itself."""
        sizes = next((entries.sizes for _, entries in spans if entries.sizes), None)
        if sizes is None:
            return None
        starts = [start for start, _ in spans]
        bins, none = [0] * len(sizes), 0
        limits = np.array(sizes) * (1 + 1e-4)  # a* has four digits
        for pair in members:
            start, entries = spans[int(np.searchsorted(starts, pair, "right")) - 1]
            a_star = entries.a_star[pair - start]
            if not math.isnan(a_star):
                bins[min(int(np.searchsorted(limits, a_star)), len(sizes) - 1)] += 1
            else:
                none += int(entries.swept[pair - start])
        return {"label": size_label(self._book), "sizes": sizes, "counts": bins, "none": none}

    def _channel(self, channel: int, kind: str, value: float) -> dict[str, Any]:
        return {
            "channel": channel,
            "kind": kind,
            "value": float(f"{value:.4g}"),
            "picture": channel_path(channel) if channel in self.picture_of else None,
            "examples": [self._example(*found) for found in self._examples.get(channel, [])],
        }

    def _example(self, image_id: str, class_name: str, activation: float) -> dict[str, Any]:
        book, pair = self._book, self._pair_of.get(image_id, -1)
        number = book.pictures.number(pair) if pair >= 0 else -1
        if pair >= 0:  # the page that it leads to has that name
            class_name = class_label(book.classes[int(book.class_of[pair])])
        return {
            "pair": pair if pair >= 0 else None,
            "class_name": class_name,
            "image": picture_path(number) if number >= 0 else None,
            "activation": float(f"{activation:.4g}"),
        }

    def channel_png(self, channel: int) -> bytes:
        """The inversion of a channel.

        Raises:
            KeyError: there is none.
        """
        run, shard = self.picture_of[channel]
        for table in run.tables(kinds.INVERSION, ["channel", "image"], [shard]):
            found = table.filter(pa.array([other == channel for other in table["channel"].to_pylist()]))
            return bytes(found["image"][0].as_py())
        raise KeyError(channel)


def _channels(row: Row) -> list[tuple[int, str, float]]:
    """Channel, kind and value of a class's channels, the top ones first."""
    return [
        (channel, kind, value)
        for kind in ("top", "specific")
        for channel, value in zip(
            row.get(f"{kind}_channels") or [], row.get(f"{kind}_values") or [], strict=True
        )
    ]


def _channel_pictures(book: Book, channels: Run | None) -> dict[int, tuple[Run, int]]:
    """Run and shard of the inversion of each channel of a channel run; of any where there is none."""
    found: dict[int, tuple[Run, int]] = {}
    for source in book.sources:
        if source.run.kind != kinds.INVERSION or not belongs(source.run, channels):
            continue
        for shard in source.run.committed():
            for table in source.run.tables(kinds.INVERSION, ["channel"], [shard]):
                for channel in table["channel"].drop_null().to_pylist():
                    found.setdefault(channel, (source.run, shard))
    return found


def _first_pairs(book: Book, found: Examples) -> dict[str, int]:
    """The first pair of each image among some examples."""
    wanted = {image_id for of_channel in found.values() for image_id, _, _ in of_channel}
    pairs: dict[str, int] = {}
    if wanted:
        for pair, image_id in enumerate(book.plan["image_id"].to_pylist()):
            if image_id in wanted:
                pairs.setdefault(image_id, pair)
    return pairs


def channel_path(channel: int) -> str:
    """Where the site has the inversion of a channel."""
    return f"channels/{channel:05d}.png"


def picture_path(number: int) -> str:
    """Where the site has a picture."""
    return f"pictures/{number // 1000:03d}/{number:06d}.jpg"
