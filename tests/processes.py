"""Real processes: a small `extremal run` of its own, and what lives below it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from extremal.storage import Run

# Arguments of `init_ray` for a Ray that tests share in their process.
LOCAL_RAY: dict[str, Any] = {
    "address": "local",
    "num_cpus": 2,
    "include_dashboard": False,
    "log_to_driver": False,
    "object_store_memory": 10**8,
}
# As /proc/net has them: 127.0.0.1, the same in IPv6, and ::1.
LOOPBACK = {"0100007F", "0" * 16 + "FFFF0000" + "0100007F", "0" * 24 + "01000000"}
EXTREMAL = [sys.executable, "-m", "extremal.jobs.cli"]


def run_command(
    toml: Path,
    root: str,
    dataset: str = "shapes",
    steps: int = 150,
    actors: int = 1,
    method: str = "spatial",
) -> list[str]:
    """`extremal run`, without --out, of several seconds in shards of two pairs; writes its config."""
    toml.write_text(
        f"method = '{method}'\nbatch = 2\nshard_size = 2\n"
        f"[dataset]\nname = '{dataset}'\nroot = '{root}'\nsplit = 'test'\n"
        "[network]\nname = 'shapes_cnn'\nweights = 'random'\nresize = 64\n"
        "[spatial]\nareas = [0.1, 0.3]\n[spatial.mask]\nstep = 8\nsigma = 8.0\n"
        f"[spatial.schedule]\nsteps = {steps}\n[saliency.rise]\nmasks = {2 * steps}\n"
    )
    return [*EXTREMAL, "run", "--config", str(toml), "--actors", str(actors)]


def start(command: Sequence[str], out: Path | str) -> "subprocess.Popen[str]":
    # A shell that runs the tests in the background ignores Ctrl-C, which children would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    environment = {**os.environ, "RAY_ADDRESS": "", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--out", str(out)],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def wait_for_a_shard(out: Path | str, process: "subprocess.Popen[str]") -> Run:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        run = Run.find(str(out))
        if run is not None and run.committed():
            return run
        time.sleep(0.05)
    pytest.fail(f"no shard was committed: {process.communicate()[0]}")


def below(pid: int) -> dict[int, str]:
    """A process and all that descend from it: process -> its command line."""
    lines = subprocess.check_output(["ps", "-ww", "-eo", "pid=,ppid=,args="], text=True).splitlines()
    table = {int(process): (int(parent), args) for process, parent, args in (x.split(None, 2) for x in lines)}
    found = {pid}
    while more := {process for process, (parent, _) in table.items() if parent in found} - found:
        found |= more
    return {process: table[process][1] for process in found if process in table}


def actors_below(pid: int) -> list[int]:
    """Processes of the actors of a driver; another Ray on the machine is none of ours."""
    return [process for process, args in below(pid).items() if args.startswith("ray::ShardActor")]


def listening(pid: int) -> set[str]:
    """Local addresses, as /proc/net has them, on which a process and those below it accept connections."""
    sockets = set()
    for process in below(pid):
        with suppress(OSError):
            for descriptor in Path(f"/proc/{process}/fd").iterdir():
                with suppress(OSError):
                    sockets.add(os.readlink(descriptor).removeprefix("socket:[").rstrip("]"))
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    entries = [line.split() for table in tables for line in table]
    return {entry[1].split(":")[0] for entry in entries if entry[3] == "0A" and entry[9] in sockets}
