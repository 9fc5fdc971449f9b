"""The driver's answers to faults, with actors that compute nothing: budgets, silence, losses, two drivers."""

import json
import logging
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from helpers import manifest, plan
from processes import LOCAL_RAY
from rehearsal import Orders, RehearsalActor
from rich.console import Console

import extremal.pipeline.driving.driver
import extremal.pipeline.driving.silence
from extremal.pipeline.driving.driver import Pool, Summary, drive, init_ray, start_ray
from extremal.pipeline.errors import DriverError
from extremal.pipeline.events import JsonFormatter
from extremal.pipeline.progress import ProgressReport
from extremal.storage import Run, kinds
from extremal.storage.verify import verify

SHARDS = 8


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    # The GPU is only a number to Ray.
    init_ray({**LOCAL_RAY, "num_gpus": 1})
    yield
    ray.shutdown()


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    folder = tmp_path / "orders"
    folder.mkdir()
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    pairs = plan([shard for shard in range(SHARDS) for _ in range(3)])
    return Run.create(str(tmp_path / "run"), manifest(kinds.SPATIAL), pairs)


def rehearse(
    run: Run, orders: Path, actors: int = 2, device: str = "cpu", gpus: float = 1.0, **options: Any
) -> Summary:
    spec: Any = Orders(run.uri, str(orders))
    progress = ProgressReport(3 * SHARDS, 0, Console(quiet=True))
    return drive(run, spec, Pool(actors, gpus, device), progress, actor=RehearsalActor, **options)


def assert_whole(run: Run) -> None:
    """Every pair once."""
    assert run.missing() == []
    assert run.table(kinds.FAILURES, ["pair"])["pair"].to_pylist() == list(range(3 * SHARDS))
    assert list(verify(run)) == []


def test_an_error_of_our_own_is_tried_again_on_a_fresh_actor(run: Run, orders: Path) -> None:
    (orders / "raise-3").touch()
    summary = rehearse(run, orders)
    assert (summary.lost_actors, summary.missing) == (0, [])
    assert summary.retries in (1, 2), "the shard, and perhaps the one that waited behind it"
    assert summary.pairs == 3 * SHARDS
    assert_whole(run)


def test_a_shard_that_always_fails_costs_no_other(
    run: Run, orders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extremal.pipeline.driving.driver, "MAX_OWN_FAILURES", 2)
    (orders / "raise-3-always").touch()
    summary = rehearse(run, orders)
    assert summary.missing == [3]
    assert "ValueError: as told" in summary.errors[3]
    assert len(run.committed()) == SHARDS - 1
    (orders / "raise-3-always").unlink()
    assert rehearse(run, orders).pairs == 3
    assert_whole(run)


def test_shards_that_all_fail_end_the_run_early(
    run: Run, orders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extremal.pipeline.driving.driver, "MAX_OWN_FAILURES", 1)
    for shard in range(SHARDS):
        (orders / f"raise-{shard}-always").touch()
    with pytest.raises(DriverError, match=r"3 shards in a row .*as told\. 8 shards are missing \(0, 1, 2"):
        rehearse(run, orders)


def test_shards_are_given_up_before_all_have_been_tried(
    run: Run, orders: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk is full: three shards have had all their attempts when most are still untouched."""
    monkeypatch.setattr(extremal.pipeline.driving.driver, "MAX_OWN_FAILURES", 2)
    caplog.set_level(logging.WARNING, "extremal.pipeline.driving.driver")
    for shard in range(SHARDS):
        (orders / f"raise-{shard}-always").touch()
    saved: list[Summary] = []
    with pytest.raises(DriverError, match="3 shards in a row"):
        rehearse(run, orders, actors=1, save=saved.append)
    failed = {getattr(record, "fields", {}).get("shard") for record in caplog.records}
    assert failed - {None} <= {0, 1, 2, 3}
    assert saved[-1].missing == list(range(SHARDS))


def test_actors_that_do_not_start_end_the_run_only_if_all_do(run: Run, orders: Path) -> None:
    (orders / "no-start-1").touch()
    assert rehearse(run, orders).missing == []
    assert_whole(run)
    (orders / "no-start-1-always").touch()
    again = Run.create(f"{run.root}-2", run.manifest, run.plan())
    with pytest.raises(DriverError, match=r"Actors do not start: RuntimeError: as told"):
        rehearse(again, orders)


def test_dying_actors_have_a_budget_of_their_own(
    run: Run, orders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extremal.pipeline.driving.driver, "MAX_OWN_FAILURES", 1)
    monkeypatch.setattr(extremal.pipeline.driving.driver, "MAX_LOST_ACTORS", 3)
    (orders / "die-0").touch()
    (orders / "die-5-always").touch()
    summary = rehearse(run, orders)
    # An actor that dies with two shards blames neither; each is then tried alone.
    assert 1 + 3 <= summary.lost_actors <= 1 + 1 + 3
    assert summary.missing == [5]
    assert "died" in summary.errors[5]


def test_a_silent_actor_is_replaced_and_named(
    run: Run, orders: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(extremal.pipeline.driving.silence, "LEAST_S", 10.0)
    monkeypatch.setattr(extremal.pipeline.driving.silence, "MOST_S", 10.0)
    (orders / "hang-2").touch()
    (orders / "hang-6-always").touch()
    caplog.set_level(logging.WARNING, "extremal.pipeline.driving.driver")
    summary = rehearse(run, orders)
    assert summary.hung_actors == 1 + extremal.pipeline.driving.driver.MAX_HUNG_ACTORS
    assert summary.missing == [6], "what hangs every time is given up, and nothing else"
    assert "no sign of life for" in summary.errors[6]
    assert "shard=2" in caplog.text


def test_a_pulse_between_reports_is_a_sign_of_life(
    run: Run, orders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of 5 s and a limit of 2 s, but a heart that beats."""
    monkeypatch.setattr(extremal.pipeline.driving.silence, "LEAST_S", 2.0)
    monkeypatch.setattr(extremal.pipeline.driving.silence, "MOST_S", 2.0)
    monkeypatch.setattr(extremal.pipeline.driving.driver, "PULSE_EVERY_S", 0.2)
    monkeypatch.setattr(extremal.pipeline.driving.driver, "POLL_S", 0.2)
    (orders / "sleep").write_text("5")
    (orders / "beats").touch()
    summary = rehearse(run, orders)
    assert (summary.hung_actors, summary.missing) == (0, [])
    assert_whole(run)


def test_two_drivers_on_one_run_are_harmless(run: Run, orders: Path) -> None:
    """In two threads of one Ray, which is all that they need to get in each other's way."""
    (orders / "sleep").write_text("0.2")
    ended: list[Summary] = []
    other = threading.Thread(target=lambda: ended.append(rehearse(run, orders, actors=1)))
    other.start()
    ended.append(rehearse(run, orders, actors=1))
    other.join()
    assert [summary.missing for summary in ended] == [[], []]
    assert_whole(run)


def test_the_summary_is_saved_while_the_run_goes_on(
    run: Run, orders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extremal.pipeline.driving.driver, "SAVE_EVERY_S", 0.5)
    (orders / "sleep").write_text("1")
    saved: list[int] = []
    rehearse(run, orders, save=lambda summary: saved.append(summary.pairs))
    assert saved[-1] == 3 * SHARDS
    assert len([pairs for pairs in saved if 0 < pairs < 3 * SHARDS]) >= 2


def test_events_are_lines_of_json(run: Run, orders: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "extremal.pipeline.driving.driver")
    (orders / "raise-1").touch()
    rehearse(run, orders)
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    events = [line["event"] for line in lines]
    assert events.count("shard committed") == SHARDS
    (failed,) = [line for line in lines if line["event"] == "shard failed"]
    assert (failed["shard"], failed["level"], failed["cause"]) == (1, "warning", "ValueError: as told")
    committed = next(line for line in lines if line["event"] == "shard committed")
    assert committed["pairs"] == 3
    assert committed["seconds"] > 0


def test_metrics_are_what_prometheus_reads(tmp_path: Path, orders: Path) -> None:
    pairs = plan([shard for shard in range(SHARDS) for _ in range(3)])
    run = Run.create(str(tmp_path / "run"), manifest(kinds.SPATIAL, of="metrics"), pairs)
    (orders / "raise-1").touch()
    rehearse(run, orders)
    wanted = {"pairs_failed_total": 3.0 * SHARDS, "shard_seconds_count": 1.0 * SHARDS, "actors_alive": 0.0}
    deadline = time.monotonic() + 60  # they are passed on every few seconds
    while (found := exported(run.manifest.config_hash[:12])) != wanted and time.monotonic() < deadline:
        time.sleep(1)
    assert found == wanted


def exported(run: str) -> dict[str, float]:
    """Our metrics of a run as this node exports them: name -> value."""
    address = f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics"  # type: ignore[no-untyped-call]
    with urllib.request.urlopen(address, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    ours = [line for line in lines if line.startswith("ray_extremal_") and f'run="{run}"' in line]
    named = {line.partition("{")[0].removeprefix("ray_extremal_"): line.rpartition(" ")[2] for line in ours}
    return {name: float(value) for name, value in named.items() if not name.endswith(("_bucket", "_sum"))}


def test_actors_may_share_a_gpu(run: Run, orders: Path) -> None:
    assert start_ray(Pool(gpus=0.5), threads=1) == 2
    assert start_ray(Pool(), threads=1) == 1
    assert start_ray(Pool(device="cpu"), threads=2) == 1
    (orders / "sleep").write_text("0.5")
    summary = rehearse(run, orders, device="cuda", gpus=0.5)
    assert summary.workers.total() == 2, "both find a place, and neither waits for the other"
    assert_whole(run)


def test_a_busy_machine_gets_more_than_one_attempt_to_start_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray gives a node 30 s, then raises a bare Exception."""
    attempts: list[int] = []

    def init(**_: object) -> None:
        attempts.append(1)
        if len(attempts) < 3:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(extremal.pipeline.driving.driver.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(extremal.pipeline.driving.driver.ray, "init", init)
    monkeypatch.setattr(extremal.pipeline.driving.driver.ray, "shutdown", lambda: None)
    assert start_ray(Pool(actors=3), threads=1) == 3
    assert len(attempts) == 3
    monkeypatch.setattr(extremal.pipeline.driving.driver, "START_ATTEMPTS", 1)
    attempts.clear()
    with pytest.raises(DriverError, match=r"could not be started .*timed out during startup"):
        start_ray(Pool(actors=3), threads=1)


def test_nothing_waits_for_an_actor_that_cannot_be_placed(run: Run, orders: Path) -> None:
    """Two CPUs and five actors: three of them stay pending, and the others do the work."""
    start = time.monotonic()
    assert rehearse(run, orders, actors=5).missing == []
    assert time.monotonic() - start < 120
    assert_whole(run)
