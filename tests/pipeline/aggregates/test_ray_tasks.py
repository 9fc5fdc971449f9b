"""A cluster of three nodes in processes of this machine: one is lost without grace, one comes late."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from helpers import make_run, manifest, plan
from ray.cluster_utils import Cluster
from rehearsal import Orders, RehearsalActor
from rich.console import Console

import extremal.pipeline.aggregates.ray_tasks
from extremal.pipeline.aggregates.class_channels import class_channels
from extremal.pipeline.aggregates.monotonicity import monotonicity
from extremal.pipeline.aggregates.pointing import pointing
from extremal.pipeline.aggregates.ray_tasks import as_tasks
from extremal.pipeline.driving.driver import Pool, drive
from extremal.pipeline.progress import ProgressReport
from extremal.storage import Run, RunError, kinds
from extremal.storage.verify import verify

SHARDS = 30


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # The head does no work: the driver's own node must survive.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.usefixtures("cluster")
def test_aggregates_from_tasks_are_those_of_a_loop_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extremal.pipeline.aggregates.ray_tasks, "BLOCK", 3)
    rng = np.random.default_rng(0)
    shards = {}
    for shard in range(20):
        pairs = [
            {
                "pair": shard,
                "class_id": int(rng.integers(4)),
                "layer": "a",
                "counts": [1, 2],
                "masks_shape": [2, 50],
                "masks": rng.random(100).astype(np.float16),
                "score_binary": rng.random(2).astype(np.float32),
                "a_star": int(rng.integers(1, 3)),
            }
            for _ in range(5)
        ]
        points = [{"method": "channel", "class_id": 1, "distance2": int(d)} for d in rng.integers(0, 500, 5)]
        shards[shard] = {kinds.CHANNEL: pairs, kinds.POINTS: points}
    run = make_run(tmp_path, kinds.CHANNEL, shards)
    aggregators: list[Any] = [class_channels, pointing, monotonicity]
    for aggregate in aggregators:
        table = aggregate(run)
        assert table.num_rows > 0
        assert aggregate(run, blocks=as_tasks).equals(table)
    damaged = tmp_path / "channel/shard-000007.parquet"
    damaged.write_bytes(b"")
    with pytest.raises(RunError, match=r"shard-000007\.parquet is damaged"):
        class_channels(run, blocks=as_tasks)


def test_a_node_lost_without_grace_and_one_that_comes_late(cluster: Cluster, tmp_path: Path) -> None:
    doomed = cluster.add_node(num_cpus=1)
    run = Run.create(str(tmp_path / "run"), manifest(kinds.SPATIAL), plan(range(SHARDS)))
    orders = tmp_path / "orders"
    orders.mkdir()
    (orders / "sleep").write_text("0.5")
    spec: Any = Orders(run.uri, str(orders))
    ended: list[Any] = []
    progress = ProgressReport(SHARDS, 0, Console(quiet=True))
    # Three actors are wanted: the third one's place is the demand that the late node meets.
    pool = Pool(3, device="cpu")
    driver = threading.Thread(
        target=lambda: ended.append(drive(run, spec, pool, progress, actor=RehearsalActor))
    )
    driver.start()
    wait_for(lambda: len(run.committed()) >= 4)
    cluster.remove_node(doomed, allow_graceful=False)  # nodes may only be changed from the main thread
    cluster.add_node(num_cpus=1)
    driver.join(timeout=180)
    (summary,) = ended
    assert summary.lost_actors >= 1
    assert summary.missing == []
    assert run.table(kinds.FAILURES, ["pair"])["pair"].to_pylist() == list(range(SHARDS))
    assert list(verify(run)) == []


def wait_for(condition: Any, limit_s: float = 120) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
