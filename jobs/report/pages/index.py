"""The index of all pairs, for the gallery: data/index-NNN.js."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from extremal.jobs.page_data import IndexFile
from extremal.jobs.report.index_entries import Entries, Span
from extremal.jobs.report.pages.page import INDEX, Page, Part, script
from extremal.jobs.report.pair_records import PairRecords

CHUNK = 5000  # pairs of a file


class IndexPage(Page):
    """CHUNK pairs a file, in plan order."""

    pattern = r"data/index-(\d{3,6})\.js"
    part = INDEX

    def parts(self) -> Iterable[Part]:
        """The files, one by one."""
        return [Part(INDEX, i, 1) for i in range(math.ceil(self.records.plan.num_rows / CHUNK))]

    def paths(self, part: Part) -> Iterator[str]:
        yield f"data/index-{part.number:03d}.js"

    def content(self, path: str, *groups: str | None) -> bytes:
        start = int(groups[0] or 0) * CHUNK
        stop = min(start + CHUNK, self.records.plan.num_rows)
        if start >= stop:
            raise KeyError(path)
        return script(
            path, index(self.records, range(start, stop), self.data.entries.spans(np.arange(start, stop)))
        )


def index(records: PairRecords, pairs: range, spans: Sequence[Span]) -> IndexFile:
    """A file of the index.

    Args:
        spans: the entries of the shards over the pairs, with the first pair of each.
    """
    first = spans[0][0]
    here = slice(pairs.start - first, pairs.stop - first)

    def letters(column: Callable[[Entries], str]) -> str:
        return "".join(column(entries) for _, entries in spans)[here]

    def numbers(column: Callable[[Entries], Iterable[float]]) -> list[Any]:
        return [*chain.from_iterable(column(entries) for _, entries in spans)][here]

    def hits(method: str) -> str:
        return letters(lambda entries: entries.hits[method])

    def distances(method: str) -> list[Any]:
        return numbers(lambda entries: entries.distance[method])

    return {
        "start": pairs.start,
        "class": records.class_of[pairs.start : pairs.stop].tolist(),
        "image": records.plan["image_id"].slice(pairs.start, len(pairs)).to_pylist(),
        "state": letters(lambda entries: entries.state),
        "a_star": numbers(lambda entries: entries.a_star),
        "kept": numbers(lambda entries: entries.kept),
        "hits": {method: hits(method) for method in records.methods},
        "distance": {method: distances(method) for method in records.methods},
        "disagreement": numbers(lambda entries: entries.disagreement),
        "picture": [records.thumbnails.number(pair) for pair in pairs],
        "swept": letters(lambda entries: entries.swept),
        "aspect": numbers(lambda entries: entries.aspect),
    }
