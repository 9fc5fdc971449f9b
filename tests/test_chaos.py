"""Random kill -9 of actors and of the driver, resumed until done: as if nothing had happened.

EXTREMAL_CHAOS_KILLS says how many kills (20 take about ten minutes on two cores); CI makes a few.
"""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from processes import actors_below, run_command, start
from runs import compute, timeless

from extremal.jobs.options import assemble
from extremal.pipeline.datasets.shapes import make_shapes
from extremal.storage import Run, kinds
from extremal.storage.verify import verify

KILLS = int(os.environ.get("EXTREMAL_CHAOS_KILLS", "3"))
PAIRS = 4 * KILLS + 8  # two shards for each kill, since something must have been done in between
LIMIT_S = 300 + 60 * KILLS


@pytest.mark.timeout(LIMIT_S)
def test_a_run_killed_at_random_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    root = tmp_path / "shapes"
    make_shapes(root, train=1, test=PAIRS // 2)
    chance = random.Random(0)
    out = tmp_path / "chaos"
    command = run_command(tmp_path / "chaos.toml", str(root), steps=100, actors=2)
    process, killed, done = start(command, out), {"driver": 0, "actor": 0}, -1
    deadline = time.monotonic() + LIMIT_S
    while sum(killed.values()) < KILLS:
        assert time.monotonic() < deadline, killed
        if process.poll() is not None:
            assert killed["driver"], process.communicate()[0]
            process = start(command, out)
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
        process = start(command, out)
    text = process.communicate(timeout=LIMIT_S)[0]
    assert process.returncode == 0, text
    assert killed["driver"] >= 1
    assert killed["actor"] >= 1
    chaos = Run.open(str(out))
    calm = compute(assemble(tmp_path / "chaos.toml", None, {}, "cpu"), tmp_path / "calm")
    assert chaos.table(kinds.SPATIAL, ["pair"])["pair"].to_pylist() == list(range(PAIRS))
    assert list(verify(chaos)) == []
    for kind in (kinds.SPATIAL, kinds.POINTS, kinds.FAILURES):
        assert timeless(chaos, kind).equals(timeless(calm, kind)), "every byte but the timings"
