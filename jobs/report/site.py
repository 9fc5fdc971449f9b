"""The site of a report: every file of it by its path, made from the store when it is asked for."""

import re
from collections.abc import Iterator, Mapping, Sequence

from extremal.jobs.report.index_entries import Entries
from extremal.jobs.report.pages import PAGES
from extremal.jobs.report.pages.overview import now
from extremal.jobs.report.pages.page import SHARD, Part, SiteData
from extremal.jobs.report.pair_records import PairRecords
from extremal.pipeline.aggregates.pointing import Rule
from extremal.storage import Run


class Site:
    """All files of a report: `site[path]` is the content of one, `paths()` names them all.

    Reading a file raises KeyError if the site has none of that path, RunError if a shard that it needs is
    damaged.
    """

    def __init__(self, runs: Sequence[Run], root: str | None = None, rule: Rule | None = None) -> None:
        """The first run decides the pairs, the others add to them.

        Args:
            root: where the images lie now; None = where they were.
            rule: what counts as a hit; the protocol's by default.

        Raises:
            RunError: a run is damaged, or has no pair of the first.
            DatasetError: the root is not there.
        """
        self.data = SiteData(PairRecords(runs, root, rule or Rule()), now())
        self._pages = [page(self.data) for page in PAGES]

    @property
    def records(self) -> PairRecords:
        """What the runs say of the pairs."""
        return self.data.records

    def paths(self) -> Iterator[str]:
        """Every path; one of a thumbnail may prove unreadable."""
        for part in self.parts():
            yield from self.part_paths(part)

    def parts(self) -> list[Part]:
        """The site in parts, ordered by stage: what could not be read is known before it is told."""
        parts = dict.fromkeys(part for page in self._pages for part in page.parts())
        return sorted(parts, key=lambda part: part.stage)

    def part_paths(self, part: Part) -> Iterator[str]:
        """The paths of a part."""
        if part.name == SHARD:
            self.data.entries.of_shard(part.number)
        for page in self._pages:
            if page.part == part.name:
                yield from page.paths(part)

    def __getitem__(self, path: str) -> bytes:
        for page in self._pages:
            match = re.fullmatch(page.pattern, path, re.ASCII)
            if match:
                return page.content(path, *match.groups())
        raise KeyError(path)

    def prepare(self) -> None:
        """Compute what the pages of classes need, which takes long and may prove damaged."""
        _ = self.data.class_channels

    def learn(self, part: Part, entries: Entries | None, unreadable: Mapping[int, str]) -> None:
        """What another process found when it made a part."""
        if entries is not None:
            self.data.entries.learn(part.number, entries)
        self.records.thumbnails.lose(unreadable)
