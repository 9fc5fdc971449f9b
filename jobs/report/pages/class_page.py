"""One class: data/class/NNNNN.js."""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from extremal.jobs.page_data import ClassFile, Histogram
from extremal.jobs.report.index_entries import Span, size_label
from extremal.jobs.report.pages.page import CLASS, Page, Part, grouped, script
from extremal.jobs.report.pair_records import class_label

SHOWN_PAIRS = 60


class ClassPage(Page):
    """The a* of a class, its channels and its first pairs."""

    pattern = r"data/class/(\d{5,9})\.js"
    part = CLASS

    def parts(self) -> Iterable[Part]:
        """Groups of classes."""
        return grouped(CLASS, len(self.records.classes))

    def paths(self, part: Part) -> Iterator[str]:
        return (f"data/class/{of_class:05d}.js" for of_class in part.numbers)

    def content(self, path: str, *groups: str | None) -> bytes:
        index = int(groups[0] or 0)
        if index >= len(self.records.classes):
            raise KeyError(path)
        members = np.flatnonzero(self.records.class_of == index)
        return script(path, self._file(index, members.tolist(), self.data.entries.spans(members)))

    def _file(self, index: int, members: Sequence[int], spans: Sequence[Span]) -> ClassFile:
        """`spans`: the entries of the members at least."""
        key, channels = self.records.classes[index], self.data.class_channels
        row = channels.rows.get(key, {})
        return {
            "class": index,
            "name": class_label(key),
            "pairs": [*members[:SHOWN_PAIRS]],
            "total": len(members),
            "layer": row.get("layer"),
            "a_star": self._histogram(members, spans),
            "mean_mask": [float(f"{value:.4g}") for value in row.get("mean_mask") or []] or None,
            "channels": channels.of_class(key),
        }

    def _histogram(self, members: Sequence[int], spans: Sequence[Span]) -> Histogram | None:
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
        return {"label": size_label(self.records), "sizes": sizes, "counts": bins, "none": none}
