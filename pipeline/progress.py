"""Progress of a run: a bar on a terminal, otherwise a plain line now and then."""

import logging
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from extremal.pipeline.events import event

log = logging.getLogger(__name__)

LINE_EVERY_S = 10.0


def shorten(shards: Sequence[int]) -> str:
    """The first ten numbers."""
    return ", ".join(map(str, shards[:10])) + (" ..." if len(shards) > 10 else "")


class ProgressReport:
    """Counts pairs, or another unit of work, and shows done, failed, rate and the time left."""

    def __init__(self, total: int, done: int, console: Console | None = None, unit: str = "pairs") -> None:
        """`done` pairs were committed by an earlier call; the rate counts only new ones."""
        self._unit = unit
        self.total, self.done, self.failed = total, done, 0
        self._first, self._start = done, time.monotonic()
        self._last_line = self._start
        self._console = console or Console(stderr=True)
        self._bar: Progress | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(unit, total=total, completed=done, rate="")

    def __enter__(self) -> "ProgressReport":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif kind is None:
            self._line()

    def add(self, pairs: int, failed: int) -> None:
        """Count finished pairs; negative numbers take back those of a lost shard."""
        self.done += pairs
        self.failed += failed
        if self._bar:
            self._bar.update(self._task, completed=self.done, rate=self.rate_text())
        elif time.monotonic() - self._last_line > LINE_EVERY_S:
            self._line()

    def rate(self) -> float:
        """Pairs per second since the start of this call."""
        return (self.done - self._first) / max(time.monotonic() - self._start, 1e-9)

    def rate_text(self) -> str:
        """For example `failed 0, 1234 pairs/h`."""
        return f"failed {self.failed}, {self.rate() * 3600:.0f} {self._unit}/h"

    def _line(self) -> None:
        self._last_line = time.monotonic()
        rate = self.rate()
        left = (self.total - self.done) / rate if rate > 0 else float("inf")
        counts = {"done": self.done, "total": self.total, "failed": self.failed}
        left_s = round(left) if left < float("inf") else None
        per_hour = {f"{self._unit}_per_hour": round(rate * 3600)}
        event(log, logging.INFO, "progress", **counts, left_s=left_s, **per_hour)
        eta = f", {left:.0f} s left" if left < float("inf") else ""
        self._console.print(
            f"{self.done}/{self.total} {self._unit}, {self.rate_text()}{eta}", highlight=False
        )
