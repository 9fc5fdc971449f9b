"""The channels that speak for classes, from the first run with masks of channels, and their pictures."""

from typing import Literal

from extremal.jobs.joined_runs import Row
from extremal.jobs.page_data import ChannelRecord, Example
from extremal.jobs.report.channel_results import Examples, ablation, examples, similarity
from extremal.jobs.report.pair_records import PairRecords, class_label
from extremal.jobs.report.paths import channel_path, picture_path
from extremal.jobs.studies.view import ChannelPictures
from extremal.pipeline.aggregates.class_channels import CLASS_CHANNELS, ClassKey, class_channels
from extremal.storage import Run

TOP = 10  # channels of a class
EXAMPLES = 9  # images of a channel

Channel = tuple[int, Literal["top", "specific"], float]
Picture = tuple[ChannelPictures, Run, int]  # how it is read, its run and shard


class ClassChannels:
    """What the pages of classes say beyond single pairs; computed when first asked for.

    Attributes:
        rows: of `extremal.pipeline.aggregates.class_channels.CLASS_CHANNELS` by class; none
            without such a run.
        pictures: by channel where its inversion is, at the layer of that run.
        similarity: of the classes as PNG, and what is told of it. ablation: its table, if it was computed.
    """

    def __init__(self, records: PairRecords) -> None:
        self._records = records
        joined = records.first_with(lambda view: view.channel_masks)
        run = joined.run if joined else None
        table = class_channels(run, TOP) if run else CLASS_CHANNELS.empty_table()
        rows = table.to_pylist()
        self.rows: dict[ClassKey, Row] = {(row["class_id"], row["class_name"]): row for row in rows}
        self.pictures = _channel_pictures(records, run)
        self.similarity = similarity(table, {key: i for i, key in enumerate(records.classes)})
        self.ablation = ablation(run) if run else None
        shown = sorted({channel for row in rows for channel, _, _ in _channels(row)})
        self._examples: Examples = examples(run, shown, EXAMPLES) if run else {}
        self._pair_of = _first_pairs(records, self._examples)

    def of_class(self, key: ClassKey) -> list[ChannelRecord]:
        """The channels of a class, the top ones first."""
        return [self._channel(*channel) for channel in _channels(self.rows.get(key, {}))]

    def _channel(self, channel: int, kind: Literal["top", "specific"], value: float) -> ChannelRecord:
        return {
            "channel": channel,
            "kind": kind,
            "value": float(f"{value:.4g}"),
            "picture": channel_path(channel) if channel in self.pictures else None,
            "examples": [self._example(*example) for example in self._examples.get(channel, [])],
        }

    def _example(self, image_id: str, class_name: str, activation: float) -> Example:
        records, pair = self._records, self._pair_of.get(image_id, -1)
        number = records.thumbnails.number(pair) if pair >= 0 else -1
        if pair >= 0:  # the page that it leads to has that name
            class_name = class_label(records.classes[int(records.class_of[pair])])
        return {
            "pair": pair if pair >= 0 else None,
            "class_name": class_name,
            "image": picture_path(number) if number >= 0 else None,
            "activation": float(f"{activation:.4g}"),
        }

    def png(self, channel: int) -> bytes:
        """The inversion of a channel.

        Raises:
            KeyError: there is none.
        """
        pictures, run, shard = self.pictures[channel]
        return pictures.png(run, shard, channel)


def _channels(row: Row) -> list[Channel]:
    kinds: tuple[Literal["top", "specific"], ...] = ("top", "specific")
    return [
        (channel, kind, value)
        for kind in kinds
        for channel, value in zip(
            row.get(f"{kind}_channels") or [], row.get(f"{kind}_values") or [], strict=True
        )
    ]


def _channel_pictures(records: PairRecords, channels: Run | None) -> dict[int, Picture]:
    """Of the channels of a channel run; of any where there is none."""
    by_channel: dict[int, Picture] = {}
    for joined in records.runs:
        run, pictures = joined.run, joined.view.channel_pictures
        if pictures is None or (channels is not None and not pictures.fit(run, channels)):
            continue
        for shard in run.committed():
            for channel in pictures.channels(run, shard):
                by_channel.setdefault(channel, (pictures, run, shard))
    return by_channel


def _first_pairs(records: PairRecords, of_channels: Examples) -> dict[str, int]:
    """The first pair of each image among some examples."""
    wanted = {image_id for of_channel in of_channels.values() for image_id, _, _ in of_channel}
    pairs: dict[str, int] = {}
    if wanted:
        for pair, image_id in enumerate(records.plan["image_id"].to_pylist()):
            if image_id in wanted:
                pairs.setdefault(image_id, pair)
    return pairs
