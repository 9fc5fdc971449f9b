"""Time, memory and size of the report of a synthetic run.

    python benchmarks/report.py --pairs 50000 --out /tmp/report-benchmark

Makes a spatial run in --out through the store's own API (six areas, three methods' points beside the center,
ground truth boxes) and its dataset, JPEGs of 500 x 375 pixels: `--images` distinct files of noise and blobs,
each under as many names as the pairs need, so that every pair has a picture of its own. One that is there is
used again. Then writes the report in fresh processes and prints wall and CPU seconds, the peak of the memory
of all of them together (proportional set size, from Linux's /proc), the number of files and their size.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from measure import MB, made_up_plan
from PIL import Image

from extremal.pipeline.config import build_config, stored_tree
from extremal.storage import Run
from extremal.storage.kinds import PAIR, POINTS, SPATIAL
from extremal.storage.manifest import Data, DatasetRecord, Manifest, Model

AREAS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
METHODS = ("center", "extremal", "grad_cam", "rise")
SIDE, CELLS, TRACE = 224, 32, 11
WIDTH, HEIGHT = 500, 375
KEY = ("pair", "image_id", "path", "class_id", "class_name")


def make_images(folder: Path, pairs: int, distinct: int) -> None:
    """`pairs` files, of which `distinct` are different: the others are hard links to them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(min(distinct, pairs)):
        coarse = rng.integers(0, 255, (12, 16, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), float)
        noisy = (smooth + rng.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)
        sink = BytesIO()
        Image.fromarray(noisy).save(sink, "JPEG", quality=85)
        (folder / f"{i:06d}.jpg").write_bytes(sink.getvalue())
    for i in range(distinct, pairs):
        os.link(folder / f"{i % distinct:06d}.jpg", folder / f"{i:06d}.jpg")


def make_run(out: str, root: str, pairs: int, classes: int, shard_size: int) -> None:
    """Make the run, or what is missing of it."""
    run = Run.find(out)
    if run is None:
        config = build_config({"dataset": {"name": "voc", "root": root}, "network": {"name": "resnet50"}})
        model = Model("resnet50", "0" * 64, resize=SIDE, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
        data, dataset = Data(pairs=pairs), DatasetRecord(root, pairs=pairs)
        manifest = Manifest("spatial", stored_tree(config), model, data, dataset=dataset)
        run = Run.create(out, manifest, _plan(pairs, classes, shard_size))
    plan = run.plan()
    for shard in run.missing():
        part = plan.filter(pc.field("shard") == shard)
        run.commit(shard, {SPATIAL: _spatial(part, shard), POINTS: _points(part, shard)})


def _plan(pairs: int, classes: int, shard_size: int) -> pa.Table:
    return made_up_plan(
        np.random.default_rng(0).integers(0, classes, pairs),
        shard_size,
        path=[f"{i:06d}.jpg" for i in range(pairs)],
        batch=np.arange(pairs) // 16,
        boxes=[[[50, 40, 300, 200]]] * pairs,
        difficult=np.arange(pairs) % 3 == 0,
    )


def _spatial(plan: pa.Table, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    n, a = plan.num_rows, len(AREAS)
    width = -(-int(SIDE * WIDTH / HEIGHT) // 7)
    y, x = np.mgrid[0:CELLS, 0:width]
    centre = rng.random((n, 1, 1, 1, 2)) * (CELLS, width)
    radius2 = np.array(AREAS)[None, :, None, None] * CELLS * width / np.pi
    blobs = ((y - centre[..., 0]) ** 2 + (x - centre[..., 1]) ** 2 < radius2).astype(np.float16)
    columns = {
        **{name: plan[name] for name in KEY},
        "target": plan["class_id"],
        "target_name": plan["class_name"],
        "seed": rng.integers(2**63, size=n),
        "input_shape": [[SIDE, int(SIDE * WIDTH / HEIGHT)]] * n,
        "areas": [AREAS] * n,
        "steps": [[100] * a] * n,
        "params_shape": [[a, CELLS, width]] * n,
        "params": list(blobs.reshape(n, -1)),
        "score_full": rng.random(n, np.float32) + 10,
        "score_perturbed": rng.random(n, np.float32),
        "energy_steps": [list(range(TRACE))] * n,
        "energy_trace": list(rng.random((n, a * TRACE), np.float32)),
        "a_star": rng.choice(np.array(AREAS, np.float32), n),
        "search_steps": [0] * n,
        "seconds": [1.0] * n,
    }
    schema = SPATIAL.schema(PAIR)
    rest = [field.name for field in schema if field.name not in columns]
    columns |= {name: list(np.sort(11 * rng.random((n, a), np.float32))) for name in rest}
    return pa.table(columns, schema=schema)


def _points(plan: pa.Table, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    each, n = len(METHODS), plan.num_rows * len(METHODS)
    repeated = plan.take(np.repeat(np.arange(plan.num_rows), each))
    x, y = rng.integers(0, WIDTH, n), rng.integers(0, HEIGHT, n)
    away = np.maximum(np.maximum(50 - x, x - 300), 0) ** 2 + np.maximum(np.maximum(40 - y, y - 200), 0) ** 2
    columns = {
        **{name: repeated[name] for name in (*KEY, "width", "height", "all_difficult", "difficult")},
        "method": METHODS * plan.num_rows,
        "x": x,
        "y": y,
        **dict.fromkeys(("distance2", "box_distance2", "plain_distance2"), away),
        "energy_inside": rng.random(n, np.float32),
    }
    schema = POINTS.schema(PAIR)
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def memory_of_session(leader: int) -> int:
    """Bytes of the processes of a session, pages that they share counted once."""
    total = 0
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(place.name)) == leader:
                rollup = (place / "smaps_rollup").read_text()
                total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        except (OSError, StopIteration):
            continue  # it ended meanwhile
    return 1024 * total


def measure(run: str, report: Path) -> dict[str, float]:
    """Write the report in a process of its own."""
    shutil.rmtree(report, ignore_errors=True)
    start = time.perf_counter()
    command = [sys.executable, "-m", "extremal.jobs.cli", "report", run, "--out", str(report)]
    process = subprocess.Popen(command, start_new_session=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, memory_of_session(process.pid))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(process.returncode)
    wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    sizes = [path.stat().st_size for path in report.rglob("*") if path.is_file()]
    return {
        "seconds": round(wall, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": round(peak / MB, 1),
        "files": len(sizes),
        "size_mb": round(sum(sizes) / MB, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=50_000)
    parser.add_argument("--images", type=int, default=200, help="distinct images")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--shard-size", type=int, default=32)
    parser.add_argument("--out", type=Path, required=True)
    wanted = parser.parse_args()
    images, run = wanted.out / "images", wanted.out / "run"
    if not images.exists():
        make_images(images, wanted.pairs, wanted.images)
    make_run(str(run), str(images), wanted.pairs, wanted.classes, wanted.shard_size)
    found = measure(str(run), wanted.out / "report")
    print(json.dumps({"pairs": wanted.pairs, "distinct_images": wanted.images, **found}))


if __name__ == "__main__":
    main()
