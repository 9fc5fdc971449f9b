"""The driver: hands shards to Ray actors until all are committed.

The store is the truth: what counts as done is which shard files are there, so that this process may die
at any point. Rules, each learned by experiment with Ray 2.60: actors never restart themselves but are
replaced; an actor that is "unavailable" may still be running, which is harmless as commits are
idempotent; errors of our own, lost infrastructure and silence have budgets of their own; a shard goes
only to an actor that has said it is ready.
"""

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util import metrics

from extremal.pipeline.driving.signals import stoppable
from extremal.pipeline.driving.silence import Watch
from extremal.pipeline.errors import DriverError
from extremal.pipeline.events import event
from extremal.pipeline.progress import ProgressReport, shorten
from extremal.storage import Run
from extremal.workers.shard.actor import CONCURRENCY, CONCURRENT_SHARDS, ShardActor
from extremal.workers.shard.worker import WorkerSpec

log = logging.getLogger(__name__)

START_ATTEMPTS = 3
MAX_OWN_FAILURES = 3
MAX_LOST_ACTORS = 20
MAX_HUNG_ACTORS = 2
MAX_FAILED_SHARDS = 3
POLL_S = 1.0
PULSE_EVERY_S = 30.0
SAVE_EVERY_S = 60.0
SLOWEST = 5


@dataclass(frozen=True)
class Pool:
    """Who computes; no part of a run's identity.

    Attributes:
        actors: how many; None = as many as the GPUs allow, or the CPUs where there are none.
        gpus: of each actor; with a fraction several share a GPU and its memory.
        device: as in WorkerSpec.
    """

    actors: int | None = None
    gpus: float = 1.0
    device: str | None = None


@dataclass
class Summary:
    """How a call of `drive` goes, or has ended.

    Attributes:
        pairs, failed: pairs computed by this call, and how many of them cannot be.
        seconds: wall time of the dispatch loop.
        slots: least and most masks that an actor had in its network at once.
        workers: what the actors said where they are, and how many there.
        lost_actors: actors that died and were replaced.
        hung_actors: actors that fell silent and were replaced.
        retries: shards taken back from an actor that failed, died or hung.
        slowest: (seconds, shard) of the slowest shards, slowest first.
        missing: shards that were to be computed and are not.
        errors: last error of each shard that was given up.
    """

    pairs: int = 0
    failed: int = 0
    seconds: float = 0.0
    slots: tuple[int, int] | None = None
    workers: Counter[str] = field(default_factory=Counter)
    lost_actors: int = 0
    hung_actors: int = 0
    retries: int = 0
    slowest: list[tuple[float, int]] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)


@dataclass
class _Busy:
    """An actor at work: its shard, since when, and what it has reported of it so far."""

    actor: Any
    shard: int
    start: float
    pairs: int = 0
    failed: int = 0


def start_ray(pool: Pool, threads: int) -> int:
    """Connect to the cluster of RAY_ADDRESS, or start Ray on this machine.

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
            cpus = max(os.cpu_count() or 1, (pool.actors or 1) * threads)
            # `local`: another Ray may run on this machine, and would refuse these numbers.
            options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False}
            # Nothing but numbers passes through the object store.
            options["object_store_memory"] = 100 * 1024**2
        init_ray(options)
    if pool.actors is not None:
        return pool.actors
    gpus = _gpus(pool)
    return (int(_resource("GPU")) * int(1 / gpus) if gpus else 0) or max(1, int(_resource("CPU")) // threads)


def init_ray(options: dict[str, Any]) -> None:
    """`ray.init`, tried again on a machine too busy for it.

    Raises:
        DriverError: Ray cannot be started or reached.
    """
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init(**options)
            return
        # A node that is not up within Ray's 30 s, on a busy machine, is a bare Exception.
        except Exception as error:
            ray.shutdown()
            if attempt < START_ATTEMPTS and type(error) is Exception:
                event(log, logging.WARNING, "ray does not start, trying again", cause=str(error))
                continue
            address = os.environ.get("RAY_ADDRESS")
            raise DriverError(
                f"Ray could not be started or reached (RAY_ADDRESS={address}): {error}"
            ) from error


def _resource(name: str) -> float:
    return float(ray.cluster_resources().get(name, 0))  # type: ignore[no-untyped-call]


def _gpus(pool: Pool) -> float:
    """GPUs of an actor. A cluster that has none yet may grow one, but only when it is asked."""
    on_gpu = _resource("GPU") >= 1 if pool.device is None else pool.device != "cpu"
    return pool.gpus if on_gpu else 0


def drive(
    run: Run,
    spec: WorkerSpec,
    pool: Pool,
    progress: ProgressReport,
    retry: bool = False,
    save: Callable[[Summary], None] = lambda summary: None,
    actor: Any = ShardActor,
) -> Summary:
    """Compute every shard of a run that is not committed yet. Ray must be running.

    Ctrl-C and SIGTERM stop the actors and propagate; whatever is committed stays.

    Args:
        pool: with the number of actors.
        retry: compute the failed pairs of committed shards instead.
        save: called now and then with the summary so far, and at the end however it comes.
        actor: class of the actors; another one may rehearse a run without computing.

    Raises:
        DriverError: several shards in a row cannot be computed or stored.
        KeyboardInterrupt, SystemExit: it was stopped.
    """
    loop = _Loop(run, spec, pool, progress, retry, save, actor)
    with stoppable():
        try:
            loop.run()
        finally:
            loop.stop()
            loop.summary.missing = loop.missing()
            save(loop.summary)
    return loop.summary


class _Metrics:
    """What Ray exports for Prometheus."""

    def __init__(self, run: str) -> None:
        tags = {"run": run}
        names = ("run",)
        self.done = metrics.Counter("extremal_pairs_done", "Pairs committed", names)
        self.failed = metrics.Counter("extremal_pairs_failed", "Pairs committed as failures", names)
        self.actors = metrics.Gauge("extremal_actors_alive", "Actors that are ready", names)
        self.seconds = metrics.Histogram(
            "extremal_shard_seconds", "From dispatch to commit", [1, 10, 60, 300, 1800, 7200], names
        )
        for metric in (self.done, self.failed, self.actors, self.seconds):
            metric.set_default_tags(tags)

    def shard(self, busy: _Busy, seconds: float) -> None:
        self.seconds.observe(seconds)
        # Ray refuses to count nothing.
        if busy.pairs > busy.failed:
            self.done.inc(busy.pairs - busy.failed)
        if busy.failed:
            self.failed.inc(busy.failed)


class _Loop:
    """State of the dispatch: every actor is starting, idle or busy; every shard queued, busy or over."""

    def __init__(
        self,
        run: Run,
        spec: WorkerSpec,
        pool: Pool,
        progress: ProgressReport,
        retry: bool,
        save: Callable[[Summary], None],
        actor: Any,
    ) -> None:
        self._factory = actor.options(
            num_cpus=spec.threads, num_gpus=_gpus(pool), max_concurrency=CONCURRENCY
        )
        self._spec, self._retry = spec, retry
        self._queue = deque(run.with_failures() if retry else run.missing())
        self._actors = min(pool.actors or 1, len(self._queue))
        self._starting: dict[Any, Any] = {}
        self._busy: dict[Any, _Busy] = {}
        self._watch: Watch[Any] = Watch()
        self._pulses: dict[Any, Any] = {}  # questions without an answer yet, and whom they are put to
        self._suspects: set[int] = set()  # shards that an actor died with, but not alone
        self._own: Counter[int] = Counter()
        self._lost: Counter[int] = Counter()
        self._hung: Counter[int] = Counter()
        self._given_up_in_a_row = 0
        self._failed_starts = 0
        self._progress = progress
        self._save = save
        self._begin = self._saved = self._asked = time.monotonic()
        self._metrics = _Metrics(run.manifest.config_hash[:12])
        self.summary = Summary()
        for _ in range(self._actors):
            self._start_actor()

    def run(self) -> None:
        while self._busy or (self._queue and self._starting):
            waiting = [*self._starting, *self._busy, *self._pulses]
            ready, _ = ray.wait(waiting, num_returns=1, timeout=POLL_S)
            for handle in ready:
                if handle in self._starting:
                    self._started(handle)
                elif handle in self._pulses:
                    self._felt(handle)
                else:
                    self._reported(handle)
            self._tick()

    def missing(self) -> list[int]:
        """Shards that were to be computed and are not, ascending. No listing: those of NFS may lag."""
        return sorted({*self._queue, *self.summary.errors, *(busy.shard for busy in self._busy.values())})

    def stop(self) -> None:
        for actor in [*self._starting.values(), *(busy.actor for busy in self._busy.values())]:
            _kill(actor)
        self._metrics.actors.set(0)

    def _tick(self) -> None:
        """What is due whether or not somebody reported."""
        now = time.monotonic()
        self.summary.seconds = now - self._begin
        self._progress.add(0, 0)
        if now - self._asked > PULSE_EVERY_S:
            self._asked = now
            for actor in {busy.actor for busy in self._busy.values()} - set(self._pulses.values()):
                self._pulses[actor.pulse.remote()] = actor
        for stream in self._watch.silent():
            if stream in self._busy:  # not with an actor that was replaced just now
                self._fell_silent(stream)
        if now - self._saved > SAVE_EVERY_S:
            self._saved = now
            self.summary.missing = self.missing()
            self._save(self.summary)

    # ---- actors -------------------------------------------------------------------------------

    def _start_actor(self) -> None:
        actor = self._factory.remote(self._spec)
        self._starting[actor.ready.remote()] = actor

    def _started(self, handle: Any) -> None:
        actor = self._starting.pop(handle)
        try:
            place = ray.get(handle)
        except RayError as error:
            _kill(actor)
            self._failed_starts += 1
            event(log, logging.WARNING, "actor does not start", cause=_cause(error))
            if self._failed_starts < MAX_OWN_FAILURES:
                self._start_actor()
            elif not self._busy and not self._starting:
                raise DriverError(f"Actors do not start: {_cause(error)}") from error
            return
        self._failed_starts = 0
        event(log, logging.INFO, "actor ready", place=place)
        self.summary.workers[place] += 1
        self._give_work(actor)
        self._count_actors()

    def _give_work(self, actor: Any) -> None:
        """A shard, and one more to decode while it computes that one, as long as there are enough for all."""
        while self._queue and self._has_room(actor):
            shard = self._queue.popleft()
            stream = actor.run_shard.options(num_returns="streaming").remote(shard, self._retry)
            self._busy[stream] = _Busy(actor, shard, time.monotonic())
            self._watch.begin(stream)
        if not self._streams(actor):
            self._dismiss(actor)  # at the tail an idle actor only holds a GPU

    def _has_room(self, actor: Any) -> bool:
        at_work = {self._busy[stream].shard for stream in self._streams(actor)}
        if not at_work:
            return True
        if self._suspects & {*at_work, self._queue[0]}:  # a suspect works alone, so that it can be told
            return False
        return len(at_work) < CONCURRENT_SHARDS and len(self._queue) >= self._actors

    def _streams(self, actor: Any) -> list[Any]:
        return [stream for stream, busy in self._busy.items() if busy.actor is actor]

    def _replace(self, actor: Any) -> None:
        """Its device or memory may be in any state: what it failed at, a fresh one may do."""
        self._dismiss(actor)
        for stream in self._streams(actor):  # its other shard is lost with it, and not to blame
            self._forget(stream)
        if self._queue:
            self._start_actor()

    def _dismiss(self, actor: Any) -> None:
        self._pulses = {question: asked for question, asked in self._pulses.items() if asked is not actor}
        _kill(actor)
        self._count_actors()

    def _count_actors(self) -> None:
        self._metrics.actors.set(len({id(busy.actor) for busy in self._busy.values()}))

    def _felt(self, question: Any) -> None:
        actor = self._pulses.pop(question)
        try:
            beats = ray.get(question)
        except RayError:  # its shards' streams say so too, and are what counts
            return
        for stream in self._streams(actor):
            if self._busy[stream].shard in beats:
                self._watch.pulse(stream, beats[self._busy[stream].shard])

    def _fell_silent(self, stream: Any) -> None:
        actor = self._busy[stream].actor
        signs = [stream, *(question for question, asked in self._pulses.items() if asked is actor)]
        if ray.wait(signs, num_returns=1, timeout=0)[0]:
            return  # it was this process that did not listen
        limit = self._watch.limit()
        self.summary.hung_actors += 1
        cause = f"no sign of life for {limit:.0f} s: its network or its images' storage hangs"
        self._take_back(stream, cause, self._hung, MAX_HUNG_ACTORS)
        self._replace(actor)

    def _died(self, actor: Any, cause: str) -> None:
        self.summary.lost_actors += 1
        streams = self._streams(actor)
        if len(streams) == 1:
            self._take_back(streams[0], cause, self._lost, MAX_LOST_ACTORS)
        else:
            self._suspects |= {self._busy[stream].shard for stream in streams}
            event(log, logging.WARNING, "actor lost", cause=cause)
        self._replace(actor)

    # ---- shards -------------------------------------------------------------------------------

    def _reported(self, stream: Any) -> None:
        busy = self._busy[stream]
        try:
            report = ray.get(next(stream))
        except StopIteration:
            self._committed(stream)
            self._give_work(busy.actor)
        except RayTaskError as error:
            self._take_back(stream, _cause(error), self._own, MAX_OWN_FAILURES)
            if isinstance(error.cause, OSError):  # the store's trouble, not the actor's
                self._give_work(busy.actor)
            else:
                self._replace(busy.actor)
        except RayError as error:  # the actor, its node or its memory is lost
            self._died(busy.actor, _cause(error))
        else:
            self._watch.sign(stream)
            busy.pairs += report.pairs
            busy.failed += report.failed
            self._count(report.pairs, report.failed)
            if report.slots is not None:
                few, many = self.summary.slots or (report.slots, report.slots)
                self.summary.slots = min(few, report.slots), max(many, report.slots)

    def _committed(self, stream: Any) -> None:
        busy = self._over(stream)
        self._given_up_in_a_row = 0
        seconds = time.monotonic() - busy.start
        self.summary.slowest = sorted([*self.summary.slowest, (seconds, busy.shard)], reverse=True)[:SLOWEST]
        self._metrics.shard(busy, seconds)
        fields = {"shard": busy.shard, "pairs": busy.pairs, "failed": busy.failed}
        event(log, logging.INFO, "shard committed", **fields, seconds=round(seconds, 3))

    def _take_back(self, stream: Any, cause: str, budget: Counter[int], limit: int) -> None:
        """Requeue the shard of a broken stream, or give it up when its budget is spent."""
        shard = self._forget(stream)
        budget[shard] += 1
        event(
            log,
            logging.WARNING,
            "shard failed",
            shard=shard,
            attempt=f"{budget[shard]} of {limit}",
            cause=cause,
            still_running=sorted(busy.shard for busy in self._busy.values()),
        )
        if budget[shard] < limit:
            return
        self._queue.remove(shard)
        self.summary.errors[shard] = cause
        self._given_up_in_a_row += 1
        if self._given_up_in_a_row >= MAX_FAILED_SHARDS:
            missing = self.missing()
            raise DriverError(
                f"{self._given_up_in_a_row} shards in a row could not be computed, the last one: {cause}. "
                f"{len(missing)} shards are missing ({shorten(missing)}). "
                "Mend the cause and run the same command again."
            )

    def _forget(self, stream: Any) -> int:
        """Put the shard of a stream that ends without a result at the head of the queue, and return it.

        At the head, so that what fails always is found out before everything has been tried twice.
        """
        busy = self._over(stream)
        self._count(-busy.pairs, -busy.failed)
        self._queue.appendleft(busy.shard)
        self.summary.retries += 1
        return busy.shard

    def _over(self, stream: Any) -> _Busy:
        self._watch.end(stream)
        return self._busy.pop(stream)

    def _count(self, pairs: int, failed: int) -> None:
        self.summary.pairs += pairs
        self.summary.failed += failed
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
