"""What the driver did: the calls in summary.json, and when shards were written. No result depends on it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from extremal.storage.files import write_bytes
from extremal.storage.run import Run


def read_calls(run: Run) -> list[dict[str, Any]]:
    """What the calls of the driver wrote into summary.json, oldest first; [] if it is not readable."""
    try:
        with run.filesystem.open_input_file(f"{run.root}/summary.json") as f:
            calls = json.loads(f.read())["calls"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def write_calls(run: Run, calls: Sequence[Mapping[str, Any]]) -> None:
    """Write summary.json.

    Raises:
        OSError: the store is full or not writable.
    """
    text = json.dumps({"run": run.manifest.config_hash, "calls": list(calls)}, indent=2)
    write_bytes(run.filesystem, f"{run.root}/summary.json", text.encode())


def commit_times(run: Run) -> dict[int, float]:
    """When each committed shard was written, seconds since the epoch, by the store's clock.

    Raises:
        RunError: the directory cannot be listed.
    """
    return {shard: file.mtime.timestamp() for shard, file in run.shard_files(run.kind).items()}
