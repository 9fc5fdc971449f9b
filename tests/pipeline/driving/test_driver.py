"""The driver on a real Ray: number of actors, killed actors, killed drivers, resume, refusal."""

import hashlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pytest
import ray
from processes import (
    EXTREMAL,
    LOCAL_RAY,
    LOOPBACK,
    actors_below,
    listening,
    run_command,
    start,
    wait_for_a_shard,
)
from rich.console import Console
from runs import compute, config, timeless
from typer.testing import CliRunner

from extremal.jobs.cli.app import app
from extremal.pipeline.datasets.shapes import make_shapes
from extremal.pipeline.driving.driver import Pool, drive, init_ray
from extremal.pipeline.errors import DriverError
from extremal.pipeline.prepare import prepare, worker_spec
from extremal.pipeline.progress import ProgressReport
from extremal.storage import ConfigMismatch, Run, kinds
from extremal.storage.calls import read_calls
from extremal.storage.verify import verify
from extremal.workers.config import DatasetConfig

PAIRS, SHARDS = 12, 6
SLOW = {"spatial": {"schedule": {"steps": 60}}, "shard_size": 2}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    make_shapes(root, train=1, test=PAIRS // 2)
    return root


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    init_ray(LOCAL_RAY)
    yield
    ray.shutdown()


def progress(total: int) -> ProgressReport:
    return ProgressReport(total, 0, Console(quiet=True))


def hashes(run: Run) -> dict[str, str]:
    """SHA-256 of every shard file."""
    files = sorted(Path(run.root).glob("*/shard-*.parquet"))
    return {str(f.relative_to(run.root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def assert_whole(run: Run) -> None:
    """Every pair once, as a result."""
    assert run.table(run.kind, ["pair"])["pair"].to_pylist() == list(range(PAIRS))
    assert run.table(kinds.POINTS).num_rows == 2 * PAIRS
    assert len(run.committed()) == SHARDS


@pytest.mark.usefixtures("cluster")
def test_same_rows_whatever_the_number_of_actors(shapes: Path, tmp_path: Path) -> None:
    runs = []
    for actors in (1, 2):
        settings = config(shapes, shard_size=2)
        run, _ = prepare(settings, str(tmp_path / f"run{actors}"))
        summary = drive(run, worker_spec(settings, run, "cpu"), Pool(actors), progress(PAIRS))
        assert (summary.pairs, summary.missing, summary.lost_actors) == (PAIRS, [], 0)
        assert_whole(run)
        runs.append(run)
    for kind in (kinds.SPATIAL, kinds.POINTS):
        assert timeless(runs[0], kind).equals(timeless(runs[1], kind))


@pytest.mark.usefixtures("cluster")
def test_a_killed_actor_is_replaced_and_nothing_is_lost(shapes: Path, tmp_path: Path) -> None:
    settings = config(shapes, **SLOW)
    run, _ = prepare(settings, str(tmp_path / "run"))

    def kill_one() -> None:
        while not run.committed():
            time.sleep(0.05)
        os.kill(actors_below(os.getpid())[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    summary = drive(run, worker_spec(settings, run, "cpu"), Pool(2), progress(PAIRS))
    killer.join()
    assert summary.lost_actors == 1
    assert summary.missing == []
    assert summary.pairs == PAIRS
    assert_whole(run)


@pytest.mark.usefixtures("cluster")
def test_an_unwritable_store_ends_the_run_with_its_cause(shapes: Path, tmp_path: Path) -> None:
    settings = config(shapes, shard_size=2)
    run, _ = prepare(settings, str(tmp_path / "run"))
    points = Path(run.root) / "points"
    points.rmdir()
    points.write_text("a file where the folder should be")
    with pytest.raises(DriverError, match=r"3 shards in a row could not be computed.*NotADirectoryError"):
        drive(run, worker_spec(settings, run, "cpu"), Pool(1), progress(PAIRS))
    assert run.committed() == []


def test_another_configuration_in_the_same_place_is_refused(shapes: Path, tmp_path: Path) -> None:
    prepare(config(shapes), str(tmp_path / "run"))
    run, existed = prepare(config(shapes), str(tmp_path / "run"))
    assert existed
    with pytest.raises(ConfigMismatch, match=r"config\.spatial\.schedule\.steps: 4 -> 5"):
        prepare(config(shapes, spatial={"schedule": {"steps": 5}}), run.uri)
    with pytest.raises(ConfigMismatch, match=r"config\.seed: 0 -> 7"):
        prepare(config(shapes, seed=7, dataset={"root": str(tmp_path / "other")}), run.uri)


@pytest.fixture
def command(shapes: Path, tmp_path: Path) -> list[str]:
    """`extremal run` of a run of several seconds, in a process of its own."""
    return run_command(tmp_path / "run.toml", str(shapes))


def test_killed_driver_resumes_without_loss_or_duplicates(command: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(command, out)
    run = wait_for_a_shard(out, process)
    process.kill()  # SIGKILL: nothing can be cleaned up
    process.communicate()
    time.sleep(2)  # an orphaned actor may commit one more shard before Ray ends it
    before = hashes(run)
    assert 0 < len(run.committed()) < SHARDS
    again = start(command, out)
    text = again.communicate(timeout=300)[0]
    assert again.returncode == 0, text
    assert "resuming" in text
    assert_whole(run)
    after = hashes(run)
    assert {name: after[name] for name in before} == before
    calls = read_calls(run)
    assert calls[-1]["missing"] == 0
    done_before = sum(run.shard_sizes()[int(Path(name).stem[6:])] for name in before if "points" in name)
    assert 0 < calls[-1]["pairs"] <= PAIRS - done_before
    assert calls[-1]["workers"].keys() == {f"cpu on {socket.gethostname()}"}
    assert {"started", "host", "versions", "pairs_per_hour", "retries", "slowest"} <= calls[-1].keys()
    finished = CliRunner().invoke(app, [*command[len(EXTREMAL) :], "--out", str(out)])
    assert "nothing left to compute" in finished.output
    assert finished.exit_code == 0
    assert hashes(run) == after


@pytest.mark.usefixtures("cluster")
def test_failed_pairs_are_tried_again(shapes: Path, tmp_path: Path) -> None:
    """By the command: the run knows where its images and its network are."""
    images = tmp_path / "images"
    images.mkdir()
    for i, path in enumerate(sorted(shapes.rglob("*.jpg"))[:3]):
        (images / f"{i}.jpg").write_bytes(path.read_bytes())
    good = (images / "1.jpg").read_bytes()
    (images / "1.jpg").write_bytes(b"")
    run = compute(replace(config(shapes), dataset=DatasetConfig("folder", str(images))), tmp_path / "run")
    kept = run.table(kinds.SPATIAL)
    assert kept.num_rows == 2
    (images / "1.jpg").write_bytes(good)
    ended = CliRunner().invoke(app, ["retry", run.uri, "--actors", "1", "--device", "cpu"])
    assert ended.exit_code == 0, ended.output
    assert "1 of 1 pairs succeeded this time" in ended.output
    assert run.table(kinds.FAILURES).num_rows == 0
    assert list(verify(run)) == []
    assert run.table(kinds.SPATIAL).filter(pc.field("path") != "1.jpg").equals(kept)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_how_to_resume_and_listened_on_loopback_alone(
    command: list[str], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "run"
    process = start(command, out)
    wait_for_a_shard(out, process)
    if Path("/proc/net/tcp").exists():
        found = listening(process.pid)
        assert found, "Ray does listen somewhere"
        assert found <= LOOPBACK
    process.send_signal(number)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == code, text
    assert "run the same command to resume" in text
    assert "Traceback" not in text
