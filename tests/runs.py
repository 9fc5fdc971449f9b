"""Small runs of the synthetic shapes, computed in this process."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from extremal.pipeline.config import build_config, merge, method_trees
from extremal.pipeline.prepare import prepare, worker_spec
from extremal.storage import Run
from extremal.storage.kinds import Kind
from extremal.workers.config import RunConfig
from extremal.workers.shard.worker import Worker

SETTINGS: dict[str, Any] = {
    "dataset": {"name": "shapes", "split": "test"},
    "network": {"name": "shapes_cnn", "weights": "random", "resize": 64},
    "spatial": {
        "areas": [0.1, 0.3],
        "mask": {"step": 8, "sigma": 8.0},
        "schedule": {"steps": 4},
        "jitter": "random",
    },
    "channel": {"layer": "block4", "counts": [1, 8, 32], "schedule": {"steps": 4}},
    "batch": 2,
    "shard_size": 4,
}


def config(root: Path | str, **changes: Any) -> RunConfig:
    tree = merge(merge(method_trees("torchray"), SETTINGS), {"dataset": {"root": str(root)}})
    return build_config(merge(tree, changes))


def compute(settings: RunConfig, out: Path | str) -> Run:
    run, _ = prepare(settings, str(out))
    worker = Worker(worker_spec(settings, run, "cpu"))
    for shard in dict.fromkeys(run.plan(["shard"])["shard"].to_pylist()):
        list(worker.run_shard(shard))
    return run


def timeless(run: Run, kind: Kind) -> pa.Table:
    table = run.table(kind)
    return table.drop_columns("seconds") if "seconds" in table.column_names else table
