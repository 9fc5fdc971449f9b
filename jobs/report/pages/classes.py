"""All classes: data/classes.js, and the picture of their similarity."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from extremal.jobs.page_data import ClassesFile, ClassRow
from extremal.jobs.report.index_entries import Span
from extremal.jobs.report.pages.page import Page, Part, script
from extremal.jobs.report.pair_records import class_label


class ClassesPage(Page):
    """Hits and a* of every class, and the channels that speak for it."""

    pattern = r"data/classes\.js"

    def paths(self, part: Part) -> Iterator[str]:
        yield "data/classes.js"

    def content(self, path: str, *groups: str | None) -> bytes:
        channels = self.data.class_channels
        counts = self._counts(self.data.entries.all_spans())
        file: ClassesFile = {
            "classes": [self._row(i, count) for i, count in enumerate(counts)],
            "similarity": channels.similarity[1] if channels.similarity else None,
            "ablation": channels.ablation,
        }
        return script(path, file)

    def _counts(self, spans: Sequence[Span]) -> list[Counter[Any]]:
        """Of each class: its pairs' states, their outcomes by method, a* that were found and their sum."""
        counts: list[Counter[Any]] = [Counter() for _ in self.records.classes]
        for start, entries in spans:
            classes = self.records.class_of[start : start + len(entries.state)].tolist()
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

    def _row(self, index: int, count: Counter[Any]) -> ClassRow:
        key, stars = self.records.classes[index], count["a_star"]
        channels = self.data.class_channels.rows.get(key, {})
        return {
            "class": index,
            "name": class_label(key),
            "pairs": count["r"] + count["f"] + count["m"],
            "results": count["r"],
            "failed": count["f"],
            "mean_a_star": float(f"{count['a_star_sum'] / stars:.4g}") if stars else None,
            "no_a_star": count["swept"] - stars,
            "hits": {method: [count[method, "h"], count[method, "m"]] for method in self.records.methods},
            "top": channels.get("top_channels") or [],
            "specific": channels.get("specific_channels") or [],
        }


class SimilarityFile(Page):
    """The picture of the classes' similarity, if two of them have masks of channels."""

    pattern = r"similarity\.png"

    def paths(self, part: Part) -> Iterator[str]:
        if self.data.class_channels.similarity:
            yield "similarity.png"

    def content(self, path: str, *groups: str | None) -> bytes:
        similarity = self.data.class_channels.similarity
        if similarity is None:
            raise KeyError(path)
        return similarity[0]
