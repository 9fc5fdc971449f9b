"""The state of a run, from its files alone."""

from collections import Counter

from rich.console import Console

from storage import Kind, Run


def show_status(uri: str, console: Console) -> bool:
    """Print what is committed, failed and missing.

    Returns:
        Whether every shard is committed.

    Raises:
        RunError: there is no run, or it is damaged.
    """
    run = Run.open(uri)
    config, model = run.manifest["config"], run.manifest["model"]
    shards = Counter(run.plan(["shard"])["shard"].to_pylist())
    missing = run.missing()
    total = sum(shards.values())
    pairs = total - sum(shards[shard] for shard in missing)
    stages = Counter(run.table(Kind.FAILURES, ["stage"])["stage"].to_pylist())
    failed = ", ".join(f"{count} {stage}" for stage, count in stages.items())
    lines = [
        f"run      {run.place()}",
        f"what     {config['method']}, {model['name']} on {config['dataset']['name']}",
        f"config   {run.manifest['config_hash'][:12]}",
        f"shards   {len(shards) - len(missing)}/{len(shards)} committed",
        f"pairs    {pairs}/{total} done, {sum(stages.values())} failed" + (f" ({failed})" if failed else ""),
    ]
    if missing:
        shown = ", ".join(map(str, missing[:10])) + (" ..." if len(missing) > 10 else "")
        lines.append(f"missing  shards {shown}; run the same `extremal run` command to continue")
    console.print("\n".join(lines))
    return not missing
