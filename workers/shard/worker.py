"""One device's worth of work: decode, batch, optimize, score, commit. A plain class; Ray is elsewhere."""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import pyarrow as pa
import torch

from extremal.storage import Run, RunError
from extremal.storage.folder import open_root
from extremal.storage.kinds import FAILURES, Kind
from extremal.storage.manifest import Model
from extremal.workers.config import RunConfig
from extremal.workers.configured_network import configured_network
from extremal.workers.device import chosen_device
from extremal.workers.errors import NetworkError
from extremal.workers.heartbeat import PULSE
from extremal.workers.networks.network import Network
from extremal.workers.shard.rows import Item, Row, failure
from extremal.workers.shard.units import READERS, Source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs to start: the configuration of the run and places, never weights.

    Attributes:
        config: with locations that mean the same on every machine: workers may run in another directory.
        run: URI of the run.
        device: torch device, None = a GPU if there is one.
        gpu_share: of the GPU's memory; the rest is other actors'.
    """

    config: RunConfig
    run: str
    device: str | None = None
    gpu_share: float = 1.0

    @property
    def threads(self) -> int:
        """CPU threads of torch; part of a run's identity, since sums depend on it."""
        return self.config.threads


@dataclass(frozen=True)
class Progress:
    """Pairs of a shard finished since the last report, how many of them failed, masks computed at once."""

    pairs: int
    failed: int
    slots: int | None = None


def check_weights(network: Network, model: Model) -> None:
    """Refuse a network that is not the one of a run's manifest.

    Raises:
        NetworkError: its weights are others.
    """
    stored = (network, model.weights_sha256), (network.original, model.original_sha256)
    for loaded, fingerprint in stored:
        if loaded.fingerprint != fingerprint:
            raise NetworkError(
                f"{loaded.name} has other weights here ({loaded.fingerprint[:12]}) than when the run was "
                f"planned ({fingerprint[:12]}). Give every machine the same file."
            )


class Worker:
    """Computes and commits shards of one run on one device."""

    def __init__(self, spec: WorkerSpec, network: Network | None = None) -> None:
        """Load the network (unless given) and the run.

        Raises:
            NetworkError, LayerError, RunError: with the fix.
        """
        config = spec.config
        torch.set_num_threads(spec.threads)
        # A unit's result must not depend on what ran before it on the device.
        torch.backends.cudnn.deterministic = True
        self.spec = spec
        network = network or configured_network(config.network)
        self.network = replace(network, precision=config.precision).to(chosen_device(spec.device))
        if self.network.device.type == "cuda" and spec.gpu_share < 1:
            torch.cuda.set_per_process_memory_fraction(spec.gpu_share)
        self.run = Run.open(spec.run)
        check_weights(self.network, self.run.manifest.model)
        images = open_root(config.dataset.root)
        self._source = Source(self.network, images, self.run.unit, config.seed)
        self._read = READERS[config.study.unit(config.own)]
        # Shards may be run from two threads: one decodes or writes while the other computes.
        self._device = threading.Lock()
        self.computation = config.study.computation(self.network, config, self.run)

    def run_shard(self, shard: int, retry: bool = False) -> Iterator[Progress]:
        """Compute a shard and commit it; yields after every batch, the last time once it is committed.

        Args:
            retry: the shard is committed; compute the pairs that failed in it and keep the others' rows.

        Raises:
            OSError, RunError: the store or the plan cannot be used. Errors of an image are rows instead.
        """
        torch.set_num_threads(self.spec.threads)  # OpenMP counts threads for each caller apart
        rows = self.run.shard_plan(shard).to_pylist()
        if not retry and self.run.is_committed(shard):
            # A driver that was killed left an actor behind, which finished it: its file stays as it is.
            yield Progress(len(rows), 0)
            return
        PULSE.begin(shard)
        try:
            yield from self._run(shard, rows, retry)
        finally:
            PULSE.end(shard)

    def _run(self, shard: int, rows: list[Row], retry: bool) -> Iterator[Progress]:
        tables: dict[Kind, list[Row]] = {kind: [] for kind in self.run.kinds}
        if retry:
            tables, rows = self._before(shard, rows)
        for _, batch in groupby(rows, key=lambda row: row["batch"]):
            members = list(batch)
            failed = len(tables[FAILURES])
            groups, failures = self._read(self._source, members)
            tables[FAILURES] += failures
            while not self._device.acquire(timeout=1):
                PULSE.beat()  # the other shard may hang, but this one only waits
            try:
                for items in groups:
                    self._compute(items, tables)
            finally:
                self._device.release()
            yield Progress(len(members), len(tables[FAILURES]) - failed, self.computation.slots)
        number = self.run.unit.number
        for of_kind in tables.values():
            of_kind.sort(key=lambda row: row[number])
        self.run.commit(
            shard,
            {
                kind: pa.Table.from_pylist(of_kind, schema=self.run.schema(kind))
                for kind, of_kind in tables.items()
            },
        )
        yield Progress(0, 0)

    def _before(self, shard: int, rows: list[Row]) -> tuple[dict[Kind, list[Row]], list[Row]]:
        """Tables of a committed shard without the units that failed, and the plan's rows of these."""
        run, number = self.run, self.run.unit.number
        tables = {kind: run.shard_table(shard, kind).to_pylist() for kind in run.kinds}
        again = {row[number] for row in tables[FAILURES]} - {row[number] for row in tables[run.kind]}
        # A retry that was killed may have left some without their results.
        for kind in run.kind.beside:
            tables[kind] = [row for row in tables[kind] if row[number] not in again]
        return {**tables, FAILURES: []}, [row for row in rows if row[number] in again]

    def pulse(self) -> dict[int, int]:
        """What was done so far of each shard in work: another number than before if it does not hang."""
        return dict(PULSE.beats)

    # ---- one batch ----------------------------------------------------------------------------

    def _compute(self, items: list[Item], tables: dict[Kind, list[Row]]) -> None:
        """Compute items together; if that fails, in halves, so that one bad unit stays alone."""
        start = time.perf_counter()
        try:
            outcomes = self.computation.compute(items)
        except RunError:  # of the store that an inversion reads, and of no unit
            raise
        except Exception as error:  # any error of the network belongs to a unit, not to the shard
            # The traceback would keep what filled the memory alive while the halves are computed.
            broken = error.with_traceback(None)
            broken.__context__ = broken.__cause__ = None
        else:
            seconds = (time.perf_counter() - start) / len(items)
            for item, outcome in zip(items, outcomes, strict=True):
                if outcome.error is not None:
                    tables[FAILURES].append(failure(item.row, "optimize", outcome.error))
                    continue
                unit = {name: item.row[name] for name in self.run.unit.key_names} | {"seed": item.seed}
                tables[self.run.kind] += [{"seconds": seconds, **unit, **row} for row in outcome.rows]
                for kind, rows in outcome.beside.items():
                    tables[kind] += rows
            return
        if isinstance(broken, torch.OutOfMemoryError):
            torch.cuda.empty_cache()
        if len(items) == 1:
            # A device that is broken for good fails here too, and takes its actor with it.
            torch.zeros(1, device=self.network.device).sum().item()
            tables[FAILURES].append(failure(items[0].row, "optimize", broken))
            return
        log.warning("%d pairs failed together, trying halves: %s", len(items), broken)
        half = len(items) // 2
        self._compute(items[:half], tables)
        self._compute(items[half:], tables)
