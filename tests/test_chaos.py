"""Random kill -9 of actors and of the driver, resumed until done: as if nothing had happened.

EXTREMAL_CHAOS_KILLS says how many kills (20 take about ten minutes on two cores); CI makes a few.
"""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from test_worker import compute, timeless

from jobs.options import assemble
from pipeline.shapes import make_shapes
from storage import Kind, Run

KILLS = int(os.environ.get("EXTREMAL_CHAOS_KILLS", "3"))
PAIRS = 4 * KILLS + 8  # two shards for each kill, since something must have been done in between
LIMIT_S = 300 + 60 * KILLS


def command(root: Path, out: Path) -> list[str]:
    toml = out.with_suffix(".toml")
    toml.write_text(
        f"method = 'spatial'\nbatch = 2\nshard_size = 2\n"
        f"[dataset]\nname = 'shapes'\nroot = '{root}'\nsplit = 'test'\n"
        "[network]\nname = 'shapes_cnn'\nweights = 'random'\nresize = 64\n"
        "[spatial]\nareas = [0.1, 0.3]\n[spatial.mask]\nstep = 8\nsigma = 8.0\n"
        "[spatial.schedule]\nsteps = 100\n"
    )
    return [
        sys.executable,
        "-m",
        "jobs.cli",
        "run",
        "--config",
        str(toml),
        "--actors",
        "2",
        "--out",
        str(out),
    ]


def start(arguments: list[str]) -> "subprocess.Popen[str]":
    environment = {**os.environ, "RAY_ADDRESS": "", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        arguments,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def actors_below(pid: int) -> list[int]:
    """Processes of the actors of a driver."""
    lines = subprocess.check_output(["ps", "-eo", "pid=,ppid=,args="], text=True).splitlines()
    parents, actors = {}, []
    for line in lines:
        process, parent, arguments = line.split(None, 2)
        parents[int(process)] = int(parent)
        if arguments.startswith("ray::ShardActor"):
            actors.append(int(process))

    def ancestors(process: int) -> list[int]:
        found = []
        while process in parents:
            process = parents[process]
            found.append(process)
        return found

    return [actor for actor in actors if pid in ancestors(actor)]


@pytest.mark.timeout(LIMIT_S)
def test_a_run_killed_at_random_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    root = tmp_path / "shapes"
    make_shapes(root, train=1, test=PAIRS // 2)
    chance = random.Random(0)
    out = tmp_path / "chaos"
    process, killed, done = start(command(root, out)), {"driver": 0, "actor": 0}, -1
    deadline = time.monotonic() + LIMIT_S
    while sum(killed.values()) < KILLS:
        assert time.monotonic() < deadline, killed
        if process.poll() is not None:
            assert killed["driver"], process.communicate()[0]
            process = start(command(root, out))
        time.sleep(chance.uniform(0, 1))
        actors, run = actors_below(process.pid), Run.find(str(out))
        if not actors or run is None or len(run.committed()) <= done:
            continue  # something must have been done since the last kill, or it would never end
        done = len(run.committed())
        assert run.missing(), f"it was over after {killed}"
        if chance.random() < 0.25 or killed["driver"] * 4 < sum(killed.values()):
            process.kill()
            process.wait()
            killed["driver"] += 1
        else:
            with suppress(ProcessLookupError):  # it may have been let go meanwhile
                os.kill(chance.choice(actors), signal.SIGKILL)
                killed["actor"] += 1
    if process.poll() is not None:
        process = start(command(root, out))
    text = process.communicate(timeout=LIMIT_S)[0]
    assert process.returncode == 0, text
    assert killed["driver"] >= 1
    assert killed["actor"] >= 1
    chaos = Run.open(str(out))
    calm = compute(assemble(out.with_suffix(".toml"), None, {}, "cpu"), tmp_path / "calm")
    assert chaos.table(Kind.SPATIAL, ["pair"])["pair"].to_pylist() == list(range(PAIRS))
    assert list(chaos.verify()) == []
    for kind in (Kind.SPATIAL, Kind.POINTS, Kind.FAILURES):
        assert timeless(chaos, kind).equals(timeless(calm, kind)), "every byte but the timings"
