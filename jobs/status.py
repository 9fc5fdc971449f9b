"""The state of a run, from its files alone."""

import time
from collections import Counter

from rich.console import Console

from extremal.jobs.studies import view_of
from extremal.pipeline.progress import shorten
from extremal.storage import Run, kinds
from extremal.storage.calls import commit_times, read_calls
from extremal.storage.verify import verify

RECENT = 50  # commits that the rate is taken from


def show_status(uri: str, verify: bool, console: Console) -> bool:
    """Print what is committed, failed and missing, how fast it goes and what is slow.

    Args:
        verify: open the footer of every committed shard too.

    Returns:
        Whether every shard is committed and, if they were verified, sound.

    Raises:
        RunError: there is no run, or it is damaged.
    """
    run = Run.open(uri)
    config, model = run.manifest.config, run.manifest.model
    sizes = run.shard_sizes()
    times = commit_times(run)
    missing = [shard for shard in sizes if shard not in times]
    total = sum(sizes.values())
    left = sum(sizes[shard] for shard in missing)
    stages = Counter(run.table(kinds.FAILURES, ["stage"])["stage"].to_pylist())
    failed = ", ".join(f"{count} {stage}" for stage, count in stages.items())
    lines = [
        f"run      {run.place()}",
        f"what     {view_of(run).method(run)}, {model.name} on {config['dataset']['name']}",
        f"config   {run.manifest.config_hash[:12]}",
        f"shards   {len(sizes) - len(missing)}/{len(sizes)} committed",
        f"pairs    {total - left}/{total} done, {sum(stages.values())} failed"
        + (f" ({failed})" if failed else ""),
    ]
    if times:
        lines.append(f"pace     {_pace(sizes, times, left)}")
    slowest = _slowest(run)
    if slowest:
        lines.append(f"slowest  shards {', '.join(slowest)}, of the last call")
    if missing:
        lines.append(f"missing  shards {shorten(missing)}; run the same `extremal run` command to continue")
    if stages:
        lines.append(f"failed   `extremal retry {run.place()}` tries them again, once the cause is mended")
    console.print("\n".join(lines), soft_wrap=True)
    return not missing and not (verify and _show_damage(run, len(times), console))


def _slowest(run: Run) -> list[str]:
    """Of the last call; none if its entry in summary.json is not as we write it."""
    try:
        return [f"{part['shard']} ({part['seconds']:.0f} s)" for part in read_calls(run)[-1]["slowest"]]
    except (IndexError, KeyError, TypeError, ValueError):
        return []


def _pace(sizes: dict[int, int], times: dict[int, float], left: int) -> str:
    """Rate of the latest commits, time left at that rate, and how long ago the last one was."""
    recent = sorted(times, key=lambda shard: times[shard])[-RECENT:]
    first, last = times[recent[0]], times[recent[-1]]
    ago = f"last commit {_duration(max(0.0, time.time() - last))} ago"
    # The first of them only starts the clock.
    pairs = sum(sizes.get(shard, 0) for shard in recent[1:])
    if last <= first:
        return ago
    rate = pairs / (last - first)
    left_at_it = f", {_duration(left / rate)} left at that rate" if left and rate else ""
    return f"{rate * 3600:.0f} pairs/h over the last {len(recent) - 1} commits{left_at_it}, {ago}"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _show_damage(run: Run, committed: int, console: Console) -> bool:
    damaged = list(verify(run))
    for line in damaged:
        console.print(f"damaged  {line}", soft_wrap=True)
    console.print(f"verified {committed - len(damaged)}/{committed} committed shards are sound")
    return bool(damaged)
