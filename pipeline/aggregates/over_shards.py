"""How an aggregator goes over a run: parts of some shards each, merged in the order of the shards."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from extremal.storage import Run

T = TypeVar("T")


class Blocks(Protocol):
    """Yields `part(run, shards)` for blocks of the committed shards, in their order."""

    def __call__(self, run: Run, part: Callable[[Run, Sequence[int]], T]) -> Iterator[T]: ...


def in_one(run: Run, part: Callable[[Run, Sequence[int]], T]) -> Iterator[T]:
    """All shards as one block, in this process."""
    yield part(run, run.committed())
