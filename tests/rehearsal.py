"""An actor that computes nothing, for the driver's own behaviour: it sleeps, and fails as it is told.

It imports neither torch nor `workers`, which would take most of the time of every test that replaces one.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import ray

from extremal.storage import Run, kinds
from extremal.storage.kinds import PAIR

# Workers cannot import from the folder of the tests.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclass(frozen=True)
class Orders:
    """In the place of a WorkerSpec: the run, and a folder of orders."""

    run: str
    folder: str
    threads: int = 1


@dataclass(frozen=True)
class Report:
    """In the place of a Progress."""

    pairs: int
    failed: int
    slots: int | None = None


@ray.remote(max_restarts=0, max_task_retries=0)
class RehearsalActor:
    """Commits a failure row for every pair. Each order is obeyed once.

    A file `hang-3` in the folder makes the actor that gets shard 3 hang, `die-3` kills it, `raise-3` raises;
    `hang-3-always` and so on are obeyed every time. `sleep` holds the seconds that a shard takes;
    `beats` is there for a heart that beats; actors obey `no-start-1`.
    """

    def __init__(self, spec: Orders) -> None:
        self._orders = Path(spec.folder)
        self._beats = 0
        if (
            self._ordered("no-start", 1)
            or self._ordered("no-start", 2)
            or (self._orders / "no-start-always").exists()
        ):
            raise RuntimeError("as told")
        self._run = Run.open(spec.run)

    def ready(self) -> str:
        return "nothing"

    def pulse(self) -> dict[int, int]:
        self._beats += (self._orders / "beats").exists()
        return dict.fromkeys(range(1000), self._beats)

    def run_shard(self, shard: int, retry: bool) -> Iterator[Report]:
        pairs = self._run.shard_plan(shard)
        yield Report(0, 0)
        if self._ordered("hang", shard):
            time.sleep(3600)
        if self._ordered("die", shard):
            os._exit(1)
        if self._ordered("raise", shard):
            raise ValueError("as told")
        sleep = self._orders / "sleep"
        time.sleep(float(sleep.read_text()) if sleep.exists() else 0)
        yield Report(pairs.num_rows, pairs.num_rows)
        names = kinds.FAILURES.schema(PAIR).names
        row = {"stage": "rehearsal", "error_type": "", "error": ""}
        found = [{name: pair.get(name, row.get(name)) for name in names} for pair in pairs.to_pylist()]
        failures = pa.Table.from_pylist(found, schema=kinds.FAILURES.schema(PAIR))
        self._run.commit(
            shard, {kinds.FAILURES: failures, self._run.kind: self._run.kind.schema(PAIR).empty_table()}
        )
        yield Report(0, 0)

    def _ordered(self, order: str, shard: int) -> bool:
        with suppress(FileNotFoundError):
            (self._orders / f"{order}-{shard}").unlink()
            return True
        return (self._orders / f"{order}-{shard}-always").exists()
