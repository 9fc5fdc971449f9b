"""Pairs per hour of a whole `extremal run` over what the bare network's passes alone would give.

    python benchmarks/throughput.py --network squeezenet1_1 --pairs 24 --actors 2

Makes a folder of JPEG noise, runs the command over it, and counts from the stored rows the forward + input
gradient passes that its steps needed. The bare time of one pass is measured before and after the run, in as
many processes at once as the run had actors, with the same threads, device and batch. Everything above a
ratio of one is what masks, scores, Ray, decoding and Parquet add; the start of Ray and of the actors, which
a long run does not notice, is in `whole command` only.
"""

import math
import multiprocessing
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measure import bare, chosen_device, command, seconds, write_json
from PIL import Image

from extremal.storage import Run
from extremal.workers import load_network
from extremal.workers.extremal.slots import CPU_SLOTS
from extremal.workers.networks.precision import Precision

WIDTH, HEIGHT = 500, 375


def make_images(folder: Path, count: int) -> None:
    """Smooth noise: as large and as slow to decode as photographs."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(count):
        small = generator.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(folder / f"{i:05d}.jpg")


def bare_pass(name: str, batch: int, threads: int, device: str, precision: Precision, rounds: int) -> float:
    """Median seconds of forward + input gradient of one image in a batch."""
    torch.set_num_threads(threads)
    network = replace(load_network(name, "random"), precision=precision).to(device)
    images = torch.randn(batch, 3, 224, 224, device=device)
    times = [seconds(lambda: bare(network, images), network.device) for _ in range(rounds + 1)]
    return statistics.median(times[1:]) / batch


def bare_passes(processes: int, *arguments: object) -> list[float]:
    """`bare_pass` in several processes at once."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return pool.starmap(bare_pass, [arguments] * processes)


def passes_needed(run: Run) -> int:
    """Forward + gradient passes of one mask each, from the rows."""
    column = run.table(run.kind, ["steps"])["steps"]
    return int(sum(sum(steps) for steps in column.to_pylist()))


def main() -> None:
    parser = command(__doc__, rounds=4)
    parser.add_argument("--network", default="squeezenet1_1")
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--actors", type=int, default=torch.cuda.device_count() or 2, help="one per GPU")
    parser.add_argument("--threads", type=int, default=1, help="per actor")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--steps", type=int, help="fewer, for a quick look")
    slots = 128 if torch.cuda.is_available() else CPU_SLOTS
    parser.add_argument("--slots", type=int, default=slots, help="masks at once, and the bare batch")
    a = parser.parse_args()
    device = chosen_device()
    precision: Precision = "bf16" if device == "cuda" else "float32"
    passes_of = (a.actors, a.network, a.slots, a.threads, device, precision, a.rounds)
    with tempfile.TemporaryDirectory() as folder:
        images, out = Path(folder, "images"), Path(folder, "run")
        make_images(images, a.pairs)
        before = bare_passes(*passes_of)
        run = [sys.executable, "-m", "extremal.jobs.cli", "run", "--dataset", "folder", "--root", str(images)]
        run += ["--network", a.network, "--weights", "random", "--preset", a.preset, "--out", str(out)]
        run += ["--actors", str(a.actors), "--threads", str(a.threads), "--slots", str(a.slots)]
        # Three shards for each actor, so that decoding and writing can overlap with computing.
        shard = str(math.ceil(a.pairs / a.actors / 3))
        run += ["--batch", shard, "--shard-size", shard]
        run += ["--steps", str(a.steps)] if a.steps else []
        start = time.perf_counter()
        ended = subprocess.run(run, stderr=subprocess.PIPE, text=True, check=False)
        whole = time.perf_counter() - start
        if ended.returncode:
            sys.exit(f"the run failed:\n{ended.stderr}")
        after = bare_passes(*passes_of)
        passes = passes_needed(Run.open(str(out)))
    found = re.search(r"pairs in ([\d.]+) s", ended.stderr)
    loop = float(found.group(1)) if found else whole
    network = passes * statistics.mean(before + after) / a.actors
    row = {
        **{"network": a.network, "device": device, "precision": precision},
        **{name: getattr(a, name) for name in ("actors", "threads", "pairs")},
        "passes": passes,
        "bare_ms": round(1e3 * statistics.mean(before), 1),
        "bare_ms_after": round(1e3 * statistics.mean(after), 1),
        "network_s": round(network, 1),
        "loop_s": loop,
        "whole_command_s": round(whole, 1),
        "pairs_per_hour": round(3600 * a.pairs / loop),
        "ratio": round(loop / network, 2),
        "ratio_whole_command": round(whole / network, 2),
    }
    for name, value in row.items():
        print(f"{name:22} {value}")
    write_json(a.json, row)


if __name__ == "__main__":
    main()
