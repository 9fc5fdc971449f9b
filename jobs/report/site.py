"""The site of a report: every file of it by its path, made from the store when it is asked for."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from extremal.jobs.report.class_pages import Classes, channel_path, picture_path
from extremal.jobs.report.joined_runs import Book
from extremal.jobs.report.overlays import strip_cells, strips
from extremal.jobs.report.overview import now, overview
from extremal.jobs.report.pair_pages import (
    CHUNK,
    PER_FILE,
    Entries,
    entries,
    index,
    inversion_path,
    pair_file,
    pair_inversions,
)
from extremal.pipeline.aggregates.pointing import Rule
from extremal.storage import Run, kinds

GROUP = 32  # pictures, or pages of classes, that are written together


@dataclass(frozen=True)
class Part:
    """Files that are made together.

    Attributes:
        stage: parts of a stage need those of the stages before, and none of their own.
        name, number: what it is, and which.
        items: how many pictures, pairs, files or pages of classes it is about.
    """

    stage: int
    name: str
    number: int
    items: int


class Site:
    """All files of a report: `site[path]` is the content of one, `paths()` names them all.

    Reading a file raises KeyError if the site has none of that path, RunError if a shard that it needs is
    damaged.
    """

    WHOLE = 2  # the first stage whose parts need the entries of all pairs

    def __init__(self, runs: Sequence[Run], root: str | None = None, rule: Rule | None = None) -> None:
        """The first run decides the pairs, the others add to them.

        Args:
            root: where the images lie now; None = where they were.
            rule: what counts as a hit; the protocol's by default.

        Raises:
            RunError: a run is damaged, or has no pair of the first.
            DatasetError: the root is not there.
        """
        self.book = Book(runs, root, rule or Rule())
        self._made = now()
        self._entries: dict[int, Entries] = {}
        self._pages = {
            page.name: page for page in (files("extremal.jobs.report") / "pages").iterdir() if page.is_file()
        }

    # ---- what there is ------------------------------------------------------------------------

    def paths(self) -> Iterator[str]:
        """Every path; one of a picture may prove unreadable."""
        for part in self.parts():
            yield from self.part_paths(part)

    def parts(self) -> list[Part]:
        """The site in parts, ordered by stage: what could not be read is known before it is told."""
        book = self.book
        pictures, pairs, classes = len(book.pictures), book.plan.num_rows, len(book.classes)
        return [
            *_grouped(0, "pictures", pictures),
            *(Part(1, "chapter", i, len(book.pairs_of(i))) for i in range(book.chapters)),
            *(Part(2, "index", i, 1) for i in range(math.ceil(pairs / CHUNK))),
            *_grouped(2, "class", classes),
            Part(3, "rest", 0, 1),
        ]

    def part_paths(self, part: Part) -> Iterator[str]:
        """The paths of a part."""
        numbers = range(part.number, part.number + part.items)
        if part.name == "pictures":
            yield from map(picture_path, numbers)
        elif part.name == "chapter":
            yield from self._chapter_paths(part.number)
        elif part.name == "index":
            yield f"data/index-{part.number:03d}.js"
        elif part.name == "class":
            yield from (f"data/class/{of_class:05d}.js" for of_class in numbers)
        else:
            yield from self._rest()

    def _chapter_paths(self, chapter: int) -> Iterator[str]:
        self.entries(chapter)
        inversions = pair_inversions(self.book)
        for known in self.book.chapter(chapter):
            if strip_cells(self.book, known):
                yield strip_path(known.pair)
            for row in known.rows.get(inversions.number, []) if inversions else []:
                yield inversion_path(known.pair)
                if row["cosine_masked"] is not None:
                    yield inversion_path(known.pair, masked=True)
            if known.pair % PER_FILE == 0:
                yield f"data/pairs/{known.pair // PER_FILE:05d}.js"

    def _rest(self) -> Iterator[str]:
        yield from (channel_path(channel) for channel in self.classes.picture_of)
        if self.classes.similarity:
            yield "similarity.png"
        yield "data/classes.js"
        yield "data/overview.js"
        yield from sorted(self._pages)

    # ---- what it holds ------------------------------------------------------------------------

    def __getitem__(self, path: str) -> bytes:
        if path in self._pages:
            return self._pages[path].read_bytes()
        for pattern, make in _ROUTES:
            match = pattern.fullmatch(path)
            if match:
                return make(self, match)
        raise KeyError(path)

    @cached_property
    def classes(self) -> Classes:
        """What the pages of classes need."""
        return Classes(self.book)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "classes"}

    def learn(self, part: Part, found: Entries | None, unreadable: Mapping[int, str]) -> None:
        """What another process found when it made a part."""
        if found is not None:
            self._entries[part.number] = found
        self.book.pictures.lose(unreadable)

    def entries(self, chapter: int) -> Entries:
        """The index of a chapter's pairs, which is kept."""
        if chapter not in self._entries:
            self._entries[chapter] = entries(self.book, chapter)
        return self._entries[chapter]

    def _spans(self, pairs: npt.ArrayLike) -> list[tuple[int, Entries]]:
        """The entries of the chapters of some pairs, with the first pair of each."""
        book = self.book
        chapters = book.chapters_of(pairs)
        return [(book.pairs_of(chapter).start, self.entries(chapter)) for chapter in chapters]

    def _index(self, match: re.Match[str]) -> bytes:
        start = int(match[1]) * CHUNK
        if start >= self.book.plan.num_rows:
            raise KeyError(match[0])
        spans = self._spans(np.arange(start, min(start + CHUNK, self.book.plan.num_rows)))
        return script(match[0], index(self.book, start, spans))

    def _pairs(self, match: re.Match[str]) -> bytes:
        start = int(match[1]) * PER_FILE
        if start >= self.book.plan.num_rows:
            raise KeyError(match[0])
        return script(match[0], pair_file(self.book, start))

    def _class(self, match: re.Match[str]) -> bytes:
        number = int(match[1])
        if number >= len(self.book.classes):
            raise KeyError(match[0])
        spans = self._spans(np.flatnonzero(self.book.class_of == number))
        return script(match[0], self.classes.page(number, spans))

    def _all_classes(self, match: re.Match[str]) -> bytes:
        return script(match[0], self.classes.listing(self._spans(np.arange(self.book.plan.num_rows))))

    def _overview(self, match: re.Match[str]) -> bytes:
        return script(match[0], overview(self.book, self._made))

    def _picture(self, match: re.Match[str]) -> bytes:
        number = int(match[1])
        if picture_path(number) != match[0]:
            raise KeyError(match[0])
        return self.book.pictures.jpeg(number)

    def _strip(self, match: re.Match[str]) -> bytes:
        pair = int(match[1])
        if strip_path(pair) != match[0] or pair >= self.book.plan.num_rows:
            raise KeyError(match[0])
        return strips(self.book, [pair])[pair]

    def _inversion(self, match: re.Match[str]) -> bytes:
        pair, column = int(match[1]), "image_masked" if match[2] else "image"
        source = pair_inversions(self.book)
        if source is None or pair >= self.book.plan.num_rows:
            raise KeyError(match[0])
        for _, table in source.tables(kinds.INVERSION, [column], [pair]):
            found = table[column][0].as_py()
            if found is not None:
                return bytes(found)
        raise KeyError(match[0])

    def _channel(self, match: re.Match[str]) -> bytes:
        return self.classes.channel_png(int(match[1]))

    def _similarity(self, match: re.Match[str]) -> bytes:
        if self.classes.similarity is None:
            raise KeyError(match[0])
        return self.classes.similarity[0]


_ROUTES: list[tuple[re.Pattern[str], Callable[[Site, re.Match[str]], bytes]]] = [
    (re.compile(pattern, re.ASCII), make)
    for pattern, make in (
        (r"data/overview\.js", Site._overview),
        (r"data/classes\.js", Site._all_classes),
        (r"data/index-(\d{3,6})\.js", Site._index),
        (r"data/pairs/(\d{5,9})\.js", Site._pairs),
        (r"data/class/(\d{5,9})\.js", Site._class),
        (r"pictures/\d{3,6}/(\d{6,9})\.jpg", Site._picture),
        (r"strips/\d{3,6}/(\d{6,9})\.png", Site._strip),
        (r"inversions/(\d{6,9})(-masked)?\.png", Site._inversion),
        (r"channels/(\d{5,9})\.png", Site._channel),
        (r"similarity\.png", Site._similarity),
    )
]


def _grouped(stage: int, name: str, count: int) -> list[Part]:
    return [Part(stage, name, start, min(GROUP, count - start)) for start in range(0, count, GROUP)]


def strip_path(pair: int) -> str:
    """Where the site has the maps of a pair."""
    return f"strips/{pair // 1000:03d}/{pair:06d}.png"


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
