"""A million images without their computation: planning, dispatch, resuming, and how actors add up.

    python benchmarks/scale.py                     # 1,281,167 pairs, 20,000 shards
    python benchmarks/scale.py --pairs 100000 --shards 2000

Four measurements (--parts), each in a process of its own, on a local Ray with actors that compute nothing:

    plan        an ImageNet list of --pairs pairs (its images do not exist) to a run on disk, and the same
                list planned again and compared, as a resumed command does
    dispatch    the driver's loop over as many pairs in --shards shards, whose actors answer at once and
                write nothing
    listing     what a resume does with --shards committed shards: list them and look at their ends
    actors      1, 2, 4 and 8 actors that sleep --sleep seconds a shard: the sleep over the time that a
                shard takes them, once all have started

Times are of the whole part, by the clock; memory is the peak resident set of the process, torch's own
included.
"""

import logging
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from measure import apart, command, made_up_plan, peak_mb, write_json
from rich.console import Console

from extremal.pipeline.config import build_config, merge, method_trees
from extremal.pipeline.datasets.pairs import Dataset
from extremal.pipeline.driving.driver import Pool, drive
from extremal.pipeline.plan import Plan, plan_dataset
from extremal.pipeline.progress import ProgressReport
from extremal.storage import Run
from extremal.storage.kinds import PAIR
from extremal.storage.manifest import Data, Manifest, Model
from extremal.storage.verify import sweep
from extremal.workers.config import RunConfig
from extremal.workers.images import Preprocess

IMAGENET_TRAIN = 1_281_167
ROUNDS = 20  # shards of every actor in `actors`


# Ray's workers cannot import this file.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclass(frozen=True)
class Report:
    """In the place of a worker's Progress."""

    pairs: int
    failed: int = 0
    slots: int | None = None


@dataclass(frozen=True)
class Idle:
    """In the place of a WorkerSpec: seconds that a shard takes."""

    seconds: float
    threads: int = 0


@ray.remote(max_restarts=0, max_task_retries=0)
class IdleActor:
    """Sleeps for each shard, one after the other as a worker computes them."""

    def __init__(self, spec: Idle) -> None:
        self._seconds = spec.seconds
        self._device = threading.Lock()

    def ready(self) -> str:
        return "nothing"

    def pulse(self) -> dict[int, int]:
        return {}

    def run_shard(self, shard: int, retry: bool) -> Iterator[Report]:
        with self._device:
            time.sleep(self._seconds)
        yield Report(1)


# ---- the measured parts -------------------------------------------------------------------------


def measure_plan(folder: str, pairs: int) -> dict[str, float]:
    labels = Path(folder, "labels.csv")
    with labels.open("w") as file:
        file.write("file,label\n")
        file.writelines(f"train/{i % 1000:04d}/{i:08d}.JPEG,{i % 1000}\n" for i in range(pairs))
    start = time.perf_counter()
    plan = _plan(folder)
    planned = time.perf_counter()
    Run.create(f"{folder}/run", _manifest(plan.fingerprint), plan.table)
    written = time.perf_counter()
    shards, fingerprint = plan.shards, plan.fingerprint
    assert plan.table.num_rows == pairs
    del plan
    assert _plan(folder).fingerprint == fingerprint
    again = time.perf_counter()
    return {
        "pairs": pairs,
        "shards": shards,
        "plan_s": planned - start,
        "write_s": written - planned,
        "plan_again_s": again - written,
        "plan_mb": Path(folder, "run/plan.parquet").stat().st_size / 1e6,
    }


def _plan(folder: str) -> Plan:
    from extremal.pipeline.datasets.open import open_dataset

    dataset: Dataset = open_dataset("imagenet", folder)
    preprocess = Preprocess(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return plan_dataset(dataset, 1000, preprocess, _config(folder))


def _config(folder: str) -> RunConfig:
    settings = {"dataset": {"name": "imagenet", "root": folder}, "network": {"name": "resnet50"}}
    return build_config(merge(method_trees("fast"), settings))


def _manifest(fingerprint: str) -> Manifest:
    return Manifest("spatial", {}, Model("none"), Data(fingerprint))


def _run_of(folder: str, shards: int, pairs_each: int = 1) -> Run:
    """A run of `shards` shards, nothing committed."""
    plan = made_up_plan(np.zeros(shards * pairs_each, int), pairs_each)
    return Run.create(folder, _manifest(""), plan)


def measure_dispatch(folder: str, pairs: int, shards: int) -> dict[str, float]:
    run = _run_of(folder, shards, pairs // shards)
    with _ray():
        start = time.perf_counter()
        _drive(run, actors=2, seconds=0)
        seconds = time.perf_counter() - start
    counts = {"pairs": run.plan(["pair"]).num_rows, "shards": shards}
    return {**counts, "seconds": seconds, "ms_per_shard": 1e3 * seconds / shards}


def measure_listing(folder: str, shards: int) -> dict[str, float]:
    run = _run_of(folder, shards)
    run.commit(0, {run.kind: run.kind.schema(PAIR).empty_table()})
    first = Path(folder, run.kind.name, "shard-000000.parquet")
    for shard in range(1, shards):
        first.with_name(f"shard-{shard:06d}.parquet").write_bytes(first.read_bytes())
    start = time.perf_counter()
    assert Run.open(folder).missing() == []
    listed = time.perf_counter()
    assert sweep(Run.open(folder)) == []
    swept = time.perf_counter()
    return {"shards": shards, "list_s": listed - start, "ends_s": swept - listed}


def measure_actors(folder: str, actors: int, seconds: float) -> dict[str, float]:
    """Seconds that a shard takes an actor once all are at work."""
    run = _run_of(folder, ROUNDS * actors)
    with _ray():
        ends = _drive(run, actors, seconds)
    # From the third report of each to its last but two, on average over the actors.
    first, last = ends[2 * actors : 3 * actors], ends[-3 * actors : -2 * actors]
    each = (statistics.mean(last) - statistics.mean(first)) / (ROUNDS - 5)
    return {"actors": actors, "shard_s": each, "efficiency": seconds / each}


class _Clock(ProgressReport):
    """Notes when each shard is reported."""

    def __init__(self) -> None:
        super().__init__(0, 0, Console(quiet=True))
        self.ends: list[float] = []

    def add(self, pairs: int, failed: int) -> None:
        self.ends += [time.perf_counter()] * pairs


def _drive(run: Run, actors: int, seconds: float) -> list[float]:
    """Times of the reports, one for each shard."""
    clock = _Clock()
    spec: Any = Idle(seconds)
    drive(run, spec, Pool(actors, device="cpu"), clock, actor=IdleActor)
    return clock.ends


@contextmanager
def _ray() -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=8,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=10**8,
    )
    yield
    ray.shutdown()


# ---- running them -------------------------------------------------------------------------------


def part(measure: Callable[..., dict[str, float]], arguments: tuple[Any, ...]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        row = measure(folder, *arguments)
    return {**row, "peak_mb": peak_mb()}


def shown(measure: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """In a process of its own, so that the peak memory is the part's."""
    row = apart(part, measure, arguments)
    numbers = [f"{k} {v:,.0f}" if v >= 100 else f"{k} {v:.3g}" for k, v in row.items()]
    print(f"{measure.__name__.removeprefix('measure_'):9} {'  '.join(numbers)}", flush=True)
    return row


def main() -> None:
    parser = command(__doc__)
    names = ["plan", "dispatch", "listing", "actors"]
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    parser.add_argument("--pairs", type=int, default=IMAGENET_TRAIN)
    parser.add_argument("--shards", type=int, default=20_000)
    parser.add_argument("--sleep", type=float, default=2.0, help="seconds of a shard in `actors`")
    a = parser.parse_args()
    parts: dict[str, Callable[[], list[dict[str, float]]]] = {
        "plan": lambda: [shown(measure_plan, a.pairs)],
        "dispatch": lambda: [shown(measure_dispatch, a.pairs, a.shards)],
        "listing": lambda: [shown(measure_listing, a.shards)],
        "actors": lambda: [shown(measure_actors, actors, a.sleep) for actors in (1, 2, 4, 8)],
    }
    rows = {name: parts[name]() for name in a.parts}
    write_json(a.json, rows)


if __name__ == "__main__":
    main()
