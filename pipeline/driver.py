"""The driver: hands shards to Ray actors until all are committed.

The store is the truth: what counts as done is which shard files are there, so that this process may die
at any point. Rules, each learned by experiment with Ray 2.60: actors never restart themselves but are
replaced; an actor that is "unavailable" may still be running, which is harmless as commits are
idempotent; errors of our own and lost infrastructure have budgets of their own; a shard goes only to an
actor that has said it is ready.
"""

import logging
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NoReturn

import ray
from ray.exceptions import RayError, RayTaskError

from pipeline.progress import ProgressReport
from storage import Run
from workers.actor import CONCURRENT_SHARDS, ShardActor
from workers.worker import WorkerSpec

log = logging.getLogger(__name__)

MAX_OWN_FAILURES = 3
MAX_LOST_ACTORS = 20
MAX_FAILED_SHARDS = 3
POLL_S = 1.0


class DriverError(Exception):
    """The run cannot go on; the message says why and what to do."""


@dataclass
class Summary:
    """How a call of `drive` ended.

    Attributes:
        pairs: pairs computed by this call.
        seconds: wall time of the dispatch loop.
        slots: least and most masks that an actor had in its network at once.
        lost_actors: actors that died and were replaced.
        missing: shards that are still not committed.
        errors: last error of each shard that was given up.
    """

    pairs: int = 0
    seconds: float = 0.0
    slots: tuple[int, int] | None = None
    lost_actors: int = 0
    missing: list[int] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)


@dataclass
class _Busy:
    """An actor at work: its shard, and what it has reported of it so far."""

    actor: Any
    shard: int
    pairs: int = 0
    failed: int = 0


def start_ray(actors: int | None, threads: int, device: str | None = None) -> int:
    """Connect to the cluster of RAY_ADDRESS, or start Ray on this machine.

    Args:
        actors: wanted number; None = one per GPU, or as many as the CPUs allow.
        device: as in WorkerSpec.

    Returns:
        The number of actors.

    Raises:
        DriverError: the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray 2.x warns on every actor without GPUs that it will stop hiding devices from them; they use none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not ray.is_initialized():
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if not os.environ.get("RAY_ADDRESS"):
            cpus = max(os.cpu_count() or 1, (actors or 1) * threads)
            # `local`: another Ray may run on this machine, and would refuse these numbers.
            options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False}
            # Nothing but numbers passes through the object store.
            options["object_store_memory"] = 100 * 1024**2
        try:
            ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            raise DriverError(
                f"Ray could not be started or reached (RAY_ADDRESS={os.environ.get('RAY_ADDRESS')}): {error}"
            ) from error
    if actors is not None:
        return actors
    return int(_gpus(device) * _resource("GPU")) or max(1, int(_resource("CPU")) // threads)


def _resource(name: str) -> float:
    return float(ray.cluster_resources().get(name, 0))  # type: ignore[no-untyped-call]


def _gpus(device: str | None) -> int:
    """GPUs of an actor. A cluster that has none yet may grow one, but only when it is asked."""
    if device is not None:
        return int(device != "cpu")
    return int(_resource("GPU") >= 1)


def drive(run: Run, spec: WorkerSpec, actors: int, progress: ProgressReport) -> Summary:
    """Compute every shard of a run that is not committed yet. Ray must be running.

    Ctrl-C and SIGTERM stop the actors and propagate; whatever is committed stays.

    Raises:
        DriverError: several shards in a row cannot be computed or stored.
        KeyboardInterrupt, SystemExit: it was stopped.
    """
    todo = run.missing()
    loop = _Loop(spec, min(actors, len(todo)), todo, progress)
    with _stoppable():
        try:
            loop.run()
        finally:
            loop.stop()
    loop.summary.missing = run.missing()
    return loop.summary


class _Loop:
    """State of the dispatch: every actor is starting, idle or busy; every shard queued, busy or over."""

    def __init__(
        self, spec: WorkerSpec, actors: int, shards: Iterable[int], progress: ProgressReport
    ) -> None:
        self._factory = ShardActor.options(  # type: ignore[attr-defined]
            num_cpus=spec.threads, num_gpus=_gpus(spec.device), max_concurrency=CONCURRENT_SHARDS
        )
        self._spec = spec
        self._actors = actors
        self._queue = deque(shards)
        self._starting: dict[Any, Any] = {}
        self._busy: dict[Any, _Busy] = {}
        self._own: Counter[int] = Counter()
        self._lost: Counter[int] = Counter()
        self._progress = progress
        self._failed_starts = 0
        self.summary = Summary()
        for _ in range(actors):
            self._start_actor()

    def run(self) -> None:
        start = time.monotonic()
        while self._busy or (self._queue and self._starting):
            waiting = [*self._starting, *self._busy]
            ready, _ = ray.wait(waiting, num_returns=1, timeout=POLL_S)
            for handle in ready:
                if handle in self._starting:
                    self._started(handle)
                else:
                    self._reported(handle)
            self._progress.add(0, 0)
        self.summary.seconds = time.monotonic() - start

    def stop(self) -> None:
        for actor in [*self._starting.values(), *(busy.actor for busy in self._busy.values())]:
            _kill(actor)

    # ---- actors -------------------------------------------------------------------------------

    def _start_actor(self) -> None:
        actor = self._factory.remote(self._spec)
        self._starting[actor.ready.remote()] = actor

    def _started(self, handle: Any) -> None:
        actor = self._starting.pop(handle)
        try:
            device = ray.get(handle)
        except RayError as error:
            _kill(actor)
            self._failed_starts += 1
            if self._failed_starts >= MAX_OWN_FAILURES and not self._busy:
                raise DriverError(f"Actors do not start: {_cause(error)}") from error
            self._start_actor()
            return
        self._failed_starts = 0
        log.info("actor ready on %s", device)
        self._give_work(actor)

    def _give_work(self, actor: Any) -> None:
        """A shard, and one more to decode while it computes that one, as long as there are enough for all."""
        while self._queue and len(self._streams(actor)) < self._wanted():
            shard = self._queue.popleft()
            stream = actor.run_shard.options(num_returns="streaming").remote(shard)
            self._busy[stream] = _Busy(actor, shard)
        if not self._streams(actor):
            _kill(actor)  # at the tail an idle actor only holds a GPU

    def _wanted(self) -> int:
        return CONCURRENT_SHARDS if len(self._queue) >= self._actors else 1

    def _streams(self, actor: Any) -> list[Any]:
        return [stream for stream, busy in self._busy.items() if busy.actor is actor]

    def _replace(self, actor: Any) -> None:
        """Its device or memory may be in any state: what it failed at, a fresh one may do."""
        _kill(actor)
        for stream in self._streams(actor):  # its other shard is lost with it, and not to blame
            self._forget(stream)
        if self._queue:
            self._start_actor()

    # ---- shards -------------------------------------------------------------------------------

    def _reported(self, stream: Any) -> None:
        busy = self._busy[stream]
        try:
            report = ray.get(next(stream))
        except StopIteration:
            del self._busy[stream]
            self._give_work(busy.actor)
        except RayTaskError as error:
            self._take_back(stream, _cause(error), self._own, MAX_OWN_FAILURES)
            if isinstance(error.cause, OSError):  # the store's trouble, not the actor's
                self._give_work(busy.actor)
            else:
                self._replace(busy.actor)
        except RayError as error:  # the actor, its node or its memory is lost
            self.summary.lost_actors += 1
            self._take_back(stream, _cause(error), self._lost, MAX_LOST_ACTORS)
            self._replace(busy.actor)
        else:
            busy.pairs += report.pairs
            busy.failed += report.failed
            self._count(report.pairs, report.failed)
            if report.slots is not None:
                few, many = self.summary.slots or (report.slots, report.slots)
                self.summary.slots = min(few, report.slots), max(many, report.slots)

    def _take_back(self, stream: Any, cause: str, budget: Counter[int], limit: int) -> None:
        """Requeue the shard of a broken stream, or give it up when its budget is spent."""
        busy = self._forget(stream)
        budget[busy.shard] += 1
        log.warning("shard %d failed (%d of %d): %s", busy.shard, budget[busy.shard], limit, cause)
        if budget[busy.shard] < limit:
            return
        self._queue.remove(busy.shard)
        self.summary.errors[busy.shard] = cause
        if len(self.summary.errors) >= MAX_FAILED_SHARDS:
            raise DriverError(
                f"{len(self.summary.errors)} shards could not be computed, the last one: {cause}. "
                "Mend the cause and run the same command again."
            )

    def _forget(self, stream: Any) -> _Busy:
        """Put the shard of a stream that ends without a result back into the queue."""
        busy = self._busy.pop(stream)
        self._count(-busy.pairs, -busy.failed)
        self._queue.append(busy.shard)
        return busy

    def _count(self, pairs: int, failed: int) -> None:
        self.summary.pairs += pairs
        self._progress.add(pairs, failed)


def _kill(actor: Any) -> None:
    ray.kill(actor, no_restart=True)


def _cause(error: Exception) -> str:
    """The last line of a Ray error: the error that the worker raised."""
    cause = getattr(error, "cause", None)
    if cause is not None:
        return f"{type(cause).__name__}: {cause}"
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turn SIGTERM into SystemExit, so that `finally` runs. Ray installs its own handler before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
