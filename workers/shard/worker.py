"""One device's worth of work: decode, batch, optimize, score, commit. A plain class; Ray is elsewhere."""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import pyarrow as pa
import torch

from extremal.storage import Run, RunError, kinds
from extremal.storage.folder import open_root
from extremal.storage.manifest import Model
from extremal.workers.config import ChannelConfig, InversionConfig, Precision, SaliencyConfig, SpatialConfig
from extremal.workers.errors import ImageError, NetworkError
from extremal.workers.heartbeat import PULSE
from extremal.workers.images import load
from extremal.workers.inversion.study import Inversion
from extremal.workers.networks.network import Network, load_network
from extremal.workers.shard.attribution import Attribution
from extremal.workers.shard.rows import Item, Row, check_size, failure, pair_seed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs to start: small values and paths, never weights.

    Attributes:
        network: arguments of `load_network`.
        method: the config of the method to run.
        root: folder or URI that the plan's paths are relative to.
        run: URI of the run.
        device: torch device, None = a GPU if there is one.
        threads: CPU threads of torch; part of a run's identity, since sums depend on it.
        slots: most masks at once, None = as many as fit, measured.
        gpu_share: of the GPU's memory; the rest is other actors'.
        studies: settings of `extremal` and `channel` among several saliency methods, and of the channel
            run whose masks are inverted.
        precision: of the network.
    """

    network: dict[str, Any]
    method: SpatialConfig | ChannelConfig | SaliencyConfig | InversionConfig
    root: str
    run: str
    seed: int
    threads: int
    slots: int | None = None
    precision: Precision = "float32"
    device: str | None = None
    gpu_share: float = 1.0
    studies: tuple[SpatialConfig, ChannelConfig] | None = None


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
    for found, fingerprint in stored:
        if found.fingerprint != fingerprint:
            raise NetworkError(
                f"{found.name} has other weights here ({found.fingerprint[:12]}) than when the run was "
                f"planned ({fingerprint[:12]}). Give every machine the same file."
            )


class Worker:
    """Computes and commits shards of one run on one device."""

    def __init__(self, spec: WorkerSpec, network: Network | None = None) -> None:
        """Load the network (unless given) and the run.

        Raises:
            NetworkError, LayerError, RunError: with the fix.
        """
        torch.set_num_threads(spec.threads)
        # A pair's result must not depend on what ran before it on the device.
        torch.backends.cudnn.deterministic = True
        self.spec = spec
        device = spec.device or ("cuda" if torch.cuda.is_available() else "cpu")
        network = network or load_network(**spec.network)
        self.network = replace(network, precision=spec.precision).to(device)
        if self.network.device.type == "cuda" and spec.gpu_share < 1:
            torch.cuda.set_per_process_memory_fraction(spec.gpu_share)
        self.run = Run.open(spec.run)
        self._images = open_root(spec.root)
        check_weights(self.network, self.run.manifest.model)
        # Shards may be run from two threads: one decodes or writes while the other computes.
        self._device = threading.Lock()
        self.attribution = self._attribution(spec)

    def _attribution(self, spec: WorkerSpec) -> Attribution | Inversion:
        if not isinstance(spec.method, InversionConfig):
            return Attribution(self.network, spec.method, spec.seed, spec.slots, spec.studies)
        assert spec.studies is not None
        channels = self.run.manifest.data.channels
        return Inversion(self.network, spec.method, spec.studies[1].layer, channels, spec.slots)

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
        results: list[Row] = []
        points: list[Row] = []
        failures: list[Row] = []
        if retry:
            results, points, before = (
                self.run.shard_table(shard, kind).to_pylist()
                for kind in (self.run.kind, kinds.POINTS, kinds.FAILURES)
            )
            again = {row["pair"] for row in before} - {row["pair"] for row in results}
            rows = [row for row in rows if row["pair"] in again]
            # A retry that was killed may have left some without their results.
            points = [point for point in points if point["pair"] not in again]
        for _, batch in groupby(rows, key=lambda row: row["batch"]):
            members = list(batch)
            failed = len(failures)
            groups = [self._blank(members)] if self._imageless else self._decode(members, failures)
            while not self._device.acquire(timeout=1):
                PULSE.beat()  # the other shard may hang, but this one only waits
            try:
                for items in groups:
                    self._compute(items, results, points, failures)
            finally:
                self._device.release()
            yield Progress(len(members), len(failures) - failed, self.attribution.slots)
        found = {self.run.kind: results, kinds.POINTS: points, kinds.FAILURES: failures}
        tables = {}
        for kind, rows_of_kind in found.items():
            rows_of_kind.sort(key=lambda row: row["pair"])
            tables[kind] = pa.Table.from_pylist(rows_of_kind, schema=self.run.schema(kind))
        self.run.commit(shard, tables)
        yield Progress(0, 0)

    def pulse(self) -> dict[int, int]:
        """What was done so far of each shard in work: another number than before if it does not hang."""
        return dict(PULSE.beats)

    # ---- one batch ----------------------------------------------------------------------------

    @property
    def _imageless(self) -> bool:
        """Whether the run's pairs are channels, of which there is nothing to decode."""
        method = self.spec.method
        return isinstance(method, InversionConfig) and method.subject == "channels"

    def _blank(self, rows: list[Row]) -> list[Item]:
        side = self.network.side
        blank, region = torch.zeros(3, side, side), (0.0, 0.0, float(side), float(side))
        return [Item(row, blank, region, side, side, pair_seed(self.spec.seed, row)) for row in rows]

    def _decode(self, rows: list[Row], failures: list[Row]) -> list[list[Item]]:
        """The decodable pairs of a batch, grouped by input shape; pairs of one image share its tensor."""
        groups: dict[tuple[int, ...], list[Item]] = {}
        path = ""
        for row in rows:
            if row["targets"] == []:
                message = f"no network output stands for class {row['class_name']!r} of {row['path']}"
                if not row["class_name"]:
                    message = f"the annotation of {row['path']} is missing or broken"
                elif row["class_id"] >= 0:  # a class that no output stands for is not planned
                    message = f"the annotation of {row['class_name']!r} in {row['path']} is broken"
                failures.append(failure(row, "target", LookupError(message)))
                continue
            PULSE.beat()
            try:
                if row["path"] != path:  # the pairs of an image stand side by side
                    opened = load(self._images, row["path"])
                    tensor = self.network.preprocess(opened)
                    image, path = opened, row["path"]
                check_size(row, image.size)
            except (ImageError, ValueError, MemoryError) as error:
                failures.append(failure(row, "decode", error))
                continue
            region = self.network.preprocess.region(*image.size)
            seed = pair_seed(self.spec.seed, row)
            item = Item(row, tensor, region, image.width, image.height, seed)
            groups.setdefault(tuple(tensor.shape), []).append(item)
        return list(groups.values())

    def _compute(self, items: list[Item], results: list[Row], points: list[Row], failures: list[Row]) -> None:
        """Optimize and score items together; if that fails, in halves, so that one bad pair stays alone."""
        start = time.perf_counter()
        try:
            found = self.attribution.explain(items)
        except RunError:  # of the store that an inversion reads, and of no pair
            raise
        except Exception as error:  # any error of the network belongs to a pair, not to the shard
            # The traceback would keep what filled the memory alive while the halves are computed.
            broken = error.with_traceback(None)
            broken.__context__ = broken.__cause__ = None
        else:
            seconds = (time.perf_counter() - start) / len(items)
            for item, one in zip(items, found, strict=True):
                if one.error is None:
                    results += [{"seconds": seconds, **row} for row in one.rows]
                    points += one.points
                else:
                    failures.append(failure(item.row, "optimize", one.error))
            return
        if isinstance(broken, torch.OutOfMemoryError):
            torch.cuda.empty_cache()
        if len(items) == 1:
            # A device that is broken for good fails here too, and takes its actor with it.
            torch.zeros(1, device=self.network.device).sum().item()
            failures.append(failure(items[0].row, "optimize", broken))
            return
        log.warning("%d pairs failed together, trying halves: %s", len(items), broken)
        half = len(items) // 2
        self._compute(items[:half], results, points, failures)
        self._compute(items[half:], results, points, failures)
