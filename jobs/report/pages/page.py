"""What a page of the site is: some of its files, with their paths and contents."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from extremal.jobs.report.index_entries import IndexEntries
from extremal.jobs.report.pair_records import PairRecords

if TYPE_CHECKING:
    from extremal.jobs.report.class_channels import ClassChannels

GROUP = 32  # thumbnails, or pages of classes, that are written together

THUMBNAILS, SHARD, INDEX, CLASS, REST = "thumbnails", "shard", "index", "class", "rest"
# What is to be made before what: parts of a stage need those of the stages before, and none of their own.
STAGES = {THUMBNAILS: 0, SHARD: 1, INDEX: 2, CLASS: 2, REST: 3}
WHOLE = STAGES[INDEX]  # the first stage whose parts need the entries of all pairs


@dataclass(frozen=True)
class Part:
    """Files that are made together.

    Attributes:
        name, number: what it is, and which.
        items: how many thumbnails, pairs, files or pages of classes it is about.
    """

    name: str
    number: int
    items: int

    @property
    def stage(self) -> int:
        """When it is made."""
        return STAGES[self.name]

    @property
    def numbers(self) -> range:
        """Of a part of a group: those of the group."""
        return range(self.number, self.number + self.items)


@dataclass
class SiteData:
    """What pages are made of; goes to other processes without what it has read of classes.

    Attributes:
        made: when and with what the site is made.
    """

    records: PairRecords
    made: str
    entries: IndexEntries = field(init=False)

    def __post_init__(self) -> None:
        self.entries = IndexEntries(self.records)

    @cached_property
    def class_channels(self) -> "ClassChannels":
        """Which channels speak for the classes."""
        # Here, because it needs scipy and figures, which those who write pairs do without.
        from extremal.jobs.report.class_channels import ClassChannels

        return ClassChannels(self.records)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "class_channels"}


class Page(ABC):
    """Files of one sort. A new sort is a class in a file of its own, and an entry in PAGES.

    Attributes:
        pattern: regular expression of its paths, whose groups `content` is given.
        part: name of the parts with which its files are made.
    """

    pattern: ClassVar[str]
    part: ClassVar[str] = REST

    def __init__(self, data: SiteData) -> None:
        self.data = data
        self.records = data.records

    def parts(self) -> Iterable[Part]:
        """The parts in which it is made; several pages may share them."""
        return [Part(REST, 0, 1)]

    @abstractmethod
    def paths(self, part: Part) -> Iterator[str]:
        """Its paths in one of its parts. One of a thumbnail may prove unreadable."""

    @abstractmethod
    def content(self, path: str, *groups: str | None) -> bytes:
        """A file.

        Raises:
            KeyError: there is none of that path.
            RunError: a shard that it needs is damaged.
        """


class ShardPage(Page):
    """Files of pairs, made shard by shard."""

    part = SHARD

    def parts(self) -> Iterable[Part]:
        """The shards of the first run."""
        records = self.records
        return [Part(SHARD, shard, len(records.pairs_of(shard))) for shard in range(records.shards)]


def grouped(name: str, count: int) -> list[Part]:
    """Parts of GROUP items each."""
    return [Part(name, start, min(GROUP, count - start)) for start in range(0, count, GROUP)]


def script(path: str, value: Any) -> bytes:
    """A value as a script that hands it to the pages; no text in it can end the script or start a tag."""
    name = path.removeprefix("data/").removesuffix(".js")
    return f"extremal.put({_json(name)}, {_json(value)});\n".encode()


def _json(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    # A name of the store may hold half of a surrogate pair, which UTF-8 does not have.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _finite(value: Any) -> Any:
    """The value with None in the place of NaN and infinities."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
