"""Running a configuration from its plan to the last committed shard, and what is printed on the way."""

import ray
from rich.console import Console

from pipeline.config import RunConfig
from pipeline.driver import Summary, drive, start_ray
from pipeline.prepare import prepare, worker_spec
from pipeline.progress import ProgressReport
from storage import Kind, Run

COMPLETE, INCOMPLETE = 0, 1


def execute(
    config: RunConfig, out: str, actors: int | None, device: str | None, console: Console
) -> tuple[Run, int]:
    """Create or continue the run at `out` and compute what is missing.

    Returns:
        The run, and the exit code: 0 if every shard is committed and there is a result, 1 otherwise.

    Raises:
        the errors of `prepare`, DriverError, and KeyboardInterrupt or SystemExit when stopped.
    """
    line = f"preparing {config.network.name} ({config.precision}) on {config.dataset.name} ..."
    console.print(line, style="dim")
    run, existed = prepare(config, out)
    pairs, shards = run.manifest["dataset"]["pairs"], run.manifest["dataset"]["shards"]
    missing = run.missing()
    verb = "resuming" if existed else "starting"
    console.print(
        f"{verb} {run.place()}: {shards - len(missing)}/{shards} shards of {pairs} pairs done", soft_wrap=True
    )
    if not missing:
        console.print("nothing left to compute")
        return run, _conclude(run, Summary(), console)
    started_here = not ray.is_initialized()
    count = start_ray(actors, config.threads, device)
    try:
        with ProgressReport(pairs, _pairs_done(run, missing), console) as progress:
            summary = drive(run, worker_spec(config, run, device), count, progress)
    finally:
        if started_here:
            ray.shutdown()
    return run, _conclude(run, summary, console)


def _pairs_done(run: Run, missing: list[int]) -> int:
    absent = set(missing)
    return sum(shard not in absent for shard in run.plan(["shard"])["shard"].to_pylist())


def _conclude(run: Run, summary: Summary, console: Console) -> int:
    if summary.seconds:
        rate = summary.pairs / summary.seconds * 3600
        lost = f", {summary.lost_actors} actors lost and replaced" if summary.lost_actors else ""
        few, many = summary.slots or (0, 0)
        slots = f", {few} masks at once" if few == many else f", {few} to {many} masks at once"
        slots = slots if summary.slots else ""
        console.print(f"{summary.pairs} pairs in {summary.seconds:.1f} s ({rate:.0f} pairs/h{slots}){lost}")
    failures = run.table(Kind.FAILURES, ["path", "class_name", "stage", "error"]).to_pylist()
    if failures:
        console.print(
            f"{len(failures)} pairs failed (all in {run.place('failures')}), for example:", soft_wrap=True
        )
        for row in failures[:3]:
            console.print(f"  {row['path']} [{row['stage']}]: {row['error']}")
    if len(failures) == run.manifest["dataset"]["pairs"]:
        console.print("FAILED: there is not one result", style="bold red")
        return INCOMPLETE
    if not summary.missing:
        return COMPLETE
    shown = ", ".join(map(str, summary.missing[:10])) + (" ..." if len(summary.missing) > 10 else "")
    console.print(f"INCOMPLETE: {len(summary.missing)} shards are missing ({shown})", style="bold red")
    for shard, error in list(summary.errors.items())[:3]:
        console.print(f"  shard {shard}: {error}")
    console.print("Mend the cause and run the same command again.")
    return INCOMPLETE
