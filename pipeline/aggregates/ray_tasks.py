"""Aggregation as Ray tasks, where there is a cluster."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from extremal.pipeline.aggregates.over_shards import Blocks
from extremal.pipeline.driving.driver import Pool, start_ray
from extremal.pipeline.errors import DriverError
from extremal.storage import Run

T = TypeVar("T")

BLOCK = 64  # shards of a task


@contextmanager
def on_cluster() -> Iterator[Blocks]:
    """Blocks as tasks of the cluster of RAY_ADDRESS.

    Raises:
        DriverError: the cluster cannot be reached.
    """
    start_ray(Pool(), threads=1)
    try:
        yield as_tasks
    finally:
        ray.shutdown()


def as_tasks(run: Run, part: Callable[[Run, Sequence[int]], T]) -> Iterator[T]:
    """Blocks of BLOCK shards as Ray tasks, two waiting for each CPU, so that memory stays bounded.

    Raises:
        whatever `part` raises, and DriverError if a task is lost.
    """
    shards = run.committed()
    limit = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
    waiting: deque[Any] = deque()
    for start in range(0, len(shards), BLOCK):
        if len(waiting) >= limit:
            yield _result(waiting.popleft())
        waiting.append(_part.remote(run.uri, part, shards[start : start + BLOCK]))
    while waiting:
        yield _result(waiting.popleft())


@ray.remote(num_cpus=1)
def _part(uri: str, part: Callable[[Run, Sequence[int]], Any], shards: Sequence[int]) -> Any:
    return part(Run.open(uri), shards)


def _result(task: Any) -> Any:
    try:
        return ray.get(task)
    except RayTaskError as error:
        raise (error.cause or error) from None
    except RayError as error:
        raise DriverError(f"A task of the aggregation was lost: {error}. Try again.") from error
