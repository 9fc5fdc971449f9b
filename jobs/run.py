"""Running a configuration from its plan to the last committed shard, and what is printed on the way."""

import logging
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import ray
from rich.console import Console

from extremal.pipeline.driving.driver import Pool, Summary, drive, start_ray
from extremal.pipeline.events import event
from extremal.pipeline.prepare import prepare, versions, worker_spec
from extremal.pipeline.progress import ProgressReport, shorten
from extremal.pipeline.stored_config import stored_config
from extremal.storage import Run, kinds
from extremal.storage.calls import read_calls, write_calls
from extremal.workers.config import RunConfig
from extremal.workers.device import chosen_device

log = logging.getLogger(__name__)

COMPLETE, INCOMPLETE = 0, 1
KEPT_CALLS = 100


def execute(config: RunConfig, out: str, pool: Pool, console: Console) -> tuple[Run, int]:
    """Create or continue the run at `out` and compute what is missing.

    Returns:
        The run, and the exit code: 0 if every shard is committed and there is a result, 1 otherwise.

    Raises:
        the errors of `prepare`, ConfigError, DriverError, and KeyboardInterrupt or SystemExit when stopped.
    """
    check_device(pool)
    line = f"preparing {config.network.name} ({config.precision}) on {config.dataset.name} ..."
    console.print(line, style="dim")
    run, existed = prepare(config, out)
    sizes, missing = run.shard_sizes(), run.missing()
    pairs = sum(sizes.values())
    verb = "resuming" if existed else "starting"
    done = f"{len(sizes) - len(missing)}/{len(sizes)} shards of {pairs} pairs done"
    console.print(f"{verb} {run.place()}: {done}", soft_wrap=True)
    if not missing:
        console.print("nothing left to compute")
        return run, _conclude(run, Summary(), console)
    progress = ProgressReport(pairs, pairs - sum(sizes[shard] for shard in missing), console)
    summary = _compute(run, config, pool, progress)
    return run, _conclude(run, summary, console)


def retry(
    uri: str,
    root: str | None,
    weights: str | None,
    pool: Pool,
    console: Console,
    channels: str | None = None,
) -> int:
    """Compute the failed pairs of a run again, and no others; their rows move to the results.

    Args:
        root, weights, channels: where dataset, weights and the channel run of inversions lie now; None =
            where they were.

    Returns:
        The exit code: as of `execute`.

    Raises:
        RunError: there is no run.
        ConfigError, DriverError, and KeyboardInterrupt or SystemExit when stopped.
    """
    check_device(pool)
    run = Run.open(uri)
    config = stored_config(run, root, weights, channels)
    failed = run.table(kinds.FAILURES, [run.unit.number]).num_rows
    if not failed:
        console.print(f"no pair of {run.place()} has failed", soft_wrap=True)
        return _conclude(run, Summary(missing=run.missing()), console)
    console.print(f"retrying {failed} failed pairs of {run.place()}", soft_wrap=True)
    summary = _compute(run, config, pool, ProgressReport(failed, 0, console), again=True)
    console.print(f"{summary.pairs - summary.failed} of {summary.pairs} pairs succeeded this time")
    summary.missing = sorted({*summary.missing, *run.missing()})  # a run may be retried before its end
    return _conclude(run, summary, console)


def check_device(pool: Pool) -> None:
    """Ray would wait forever for a GPU that this machine does not have; a cluster may still grow one.

    Raises:
        DeviceError: there is none.
    """
    chosen_device(pool.device, elsewhere=bool(os.environ.get("RAY_ADDRESS")))


def _compute(
    run: Run, config: RunConfig, pool: Pool, progress: ProgressReport, again: bool = False
) -> Summary:
    spec = worker_spec(config, run, pool.device, pool.gpus)
    started_here = not ray.is_initialized()
    pool = replace(pool, actors=start_ray(pool, config.threads))
    try:
        with progress:
            return drive(run, spec, pool, progress, again, _journal(run))
    finally:
        if started_here:
            ray.shutdown()


def _journal(run: Run) -> Callable[[Summary], None]:
    """A function that writes this call's summary into the run's summary.json, after those before it."""
    before = read_calls(run)[1 - KEPT_CALLS :]
    call: dict[str, Any] = {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "versions": versions(),
    }

    def save(summary: Summary) -> None:
        call.update(
            seconds=round(summary.seconds, 1),
            pairs=summary.pairs,
            failed=summary.failed,
            pairs_per_hour=round(_rate(summary)),
            workers=dict(summary.workers),
            lost_actors=summary.lost_actors,
            hung_actors=summary.hung_actors,
            retries=summary.retries,
            slowest=[{"shard": shard, "seconds": round(s, 1)} for s, shard in summary.slowest],
            missing=len(summary.missing),
            errors={str(shard): error for shard, error in summary.errors.items()},
        )
        try:
            write_calls(run, [*before, call])
        except OSError as error:  # it is advice; the shards say for themselves what the store's trouble is
            log.warning("summary.json of %s cannot be written: %s", run.place(), error)

    return save


def _rate(summary: Summary) -> float:
    """Pairs an hour."""
    return summary.pairs / summary.seconds * 3600 if summary.seconds else 0.0


def _conclude(run: Run, summary: Summary, console: Console) -> int:
    counts = {"pairs": summary.pairs, "failed": summary.failed, "missing_shards": len(summary.missing)}
    event(log, logging.INFO, "call ended", run=run.place(), **counts, seconds=round(summary.seconds, 1))
    if summary.seconds:
        _print_work(summary, console)
    failures = run.table(kinds.FAILURES, [*run.unit.key_names, "stage", "error"])
    if failures.num_rows:
        console.print(
            f"{failures.num_rows} pairs failed (all in {run.place('failures')}), for example:", soft_wrap=True
        )
        for row in failures.slice(0, 3).to_pylist():
            console.print(f"  {run.unit.label(row)} [{row['stage']}]: {row['error']}")
        console.print(f"Mend the cause and try them again: extremal retry {run.place()}", soft_wrap=True)
    if failures.num_rows == sum(run.shard_sizes().values()):
        console.print("FAILED: there is not one result", style="bold red")
        return INCOMPLETE
    if not summary.missing:
        return COMPLETE
    shown = shorten(summary.missing)
    console.print(f"INCOMPLETE: {len(summary.missing)} shards are missing ({shown})", style="bold red")
    for shard, error in list(summary.errors.items())[:3]:
        console.print(f"  shard {shard}: {error}")
    console.print("Mend the cause and run the same command again.")
    return INCOMPLETE


def _print_work(summary: Summary, console: Console) -> None:
    slots = ""
    if summary.slots:
        few, many = summary.slots
        slots = f", {few} masks at once" if few == many else f", {few} to {many} masks at once"
    lost = f", {summary.lost_actors} actors lost and replaced" if summary.lost_actors else ""
    hung = f", {summary.hung_actors} hung and replaced" if summary.hung_actors else ""
    rate = f"{_rate(summary):.0f} pairs/h"
    console.print(f"{summary.pairs} pairs in {summary.seconds:.1f} s ({rate}{slots}){lost}{hung}")
