"""Time and memory of the mean channel masks per class over the time to only read the bytes.

    python benchmarks/aggregate.py --pairs 50000 --classes 1000 --out /tmp/aggregate

Makes a synthetic channel run in --out through the store's own API (21 counts x 528 channels, float16 in
Parquet shards; one that is there already is used again), then measures by turns, each in a fresh process:

    raw        the shard files, whole, into one buffer: what the disk or its cache gives
    read       the columns that the aggregator needs, decoded by pyarrow and dropped shard by shard, with none
               of the store's checks: the floor of whatever works on Parquet
    aggregate  `class_channels` of pipeline/aggregates, from opening the run to the finished table

The ratio is aggregate over read, by the clock and by CPU time, which other work on the machine disturbs less.
All three find the files in the page cache: an uncounted `raw` comes first. Imports are not timed, but in the
peak memory, which is the resident set of the whole process: that of `raw` is hardly more than they.

The masks are like those of the paper's GoogLeNet at inception4d on ImageNet: the count's best channels near
1, the others near 0, three quarters exactly and the rest off by an exponential amount. These two numbers
give the masks the size on disk of a real run's, 9 KB a pair (0.4 of their bytes). Classes come in random
order, as in ImageNet's flat validation folder, so that nearly every pair of a shard has a class of its own.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from measure import MB, apart, command, made_up_plan, peak_mb, write_json

from extremal.pipeline.aggregates.class_channels import COLUMNS, class_channels
from extremal.storage import Run
from extremal.storage.errors import RunError
from extremal.storage.kinds import CHANNEL, PAIR
from extremal.storage.manifest import Manifest, Model, sealed

# The paper's, as in extremal.workers.config, which would bring torch into the measured processes.
COUNTS = (1, 5, 10, 20, 25, 35, 40, 50, 60, 70, 80, 90, 100, 150, 200, 250, 300, 350, 400, 450, 528)
CHANNELS = 528
SOFT = 0.25  # share of a mask's values that are not exactly 0 or 1
SOFTNESS = 0.09  # their mean distance from it
TRACE = 20  # points of the energy trace


# ---- the run ------------------------------------------------------------------------------------


def make_run(out: str, pairs: int, classes: int, shard_size: int) -> None:
    """Make a synthetic channel run, or what is missing of it, in the memory of a shard.

    Raises:
        RunError: the directory holds a run of other numbers.
    """
    numbers = {"pairs": pairs, "classes": classes, "shard_size": shard_size, "soft": [SOFT, SOFTNESS]}
    manifest = sealed(Manifest("channel", numbers, Model("synthetic")))
    run = Run.find(out)
    if run is None:
        class_ids = np.random.default_rng(0).permutation(np.arange(pairs) % classes)
        run = Run.create(out, manifest, made_up_plan(class_ids, shard_size))
    if run.manifest != manifest:
        raise RunError(f"{out} holds a run of other numbers: give another --out.")
    plan = run.plan()
    for shard in run.missing():
        run.commit(shard, {CHANNEL: _rows(plan.filter(pc.field("shard") == shard), shard)})


def _rows(plan: pa.Table, seed: int) -> pa.Table:
    """Rows of `CHANNEL` for the pairs of one shard."""
    rng = np.random.default_rng(seed)
    n, a = plan.num_rows, len(COUNTS)

    def numbers(length: int, dtype: type[np.generic] = np.float32) -> pa.Array:
        return _lists((300 * rng.random((n, length))).astype(dtype))

    columns = {
        **{name: plan[name] for name in ("pair", "image_id", "path", "class_id", "class_name")},
        "target": plan["class_id"],
        "target_name": plan["class_name"],
        "seed": rng.integers(2**63, size=n),
        "layer": ["inception4d"] * n,
        "counts": [COUNTS] * n,
        "masks_shape": [(a, CHANNELS)] * n,
        "masks": _lists(_masks(rng, n).reshape(n, -1)),
        "energy_steps": [list(range(TRACE))] * n,
        "energy_trace": numbers(a * TRACE),
        "a_star": rng.choice(COUNTS[:10], n),
        "a_star_soft": rng.choice(COUNTS[:10], n),
        "saliency_shape": [(14, 14)] * n,
        "saliency": numbers(14 * 14),
    }
    columns |= {name: rng.random(n, np.float32) for name in ("score_full", "score_perturbed", "seconds")}
    schema = CHANNEL.schema(PAIR)
    rest = [field for field in schema if field.name not in columns]
    columns |= {field.name: numbers(a, field.type.value_type.to_pandas_dtype()) for field in rest}
    return pa.table(columns, schema=schema)


def _lists(rows: npt.NDArray[np.generic]) -> pa.Array:
    """(N,L) -> N lists of L values."""
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(rows.ravel()))


def _masks(rng: np.random.Generator, n: int) -> npt.NDArray[np.float16]:
    """(N,A,K) masks in [0,1], as described above."""
    rank = rng.random((n, 1, CHANNELS)).argsort(-1)
    keep = rank < np.array(COUNTS)[:, None]
    off = np.minimum(SOFTNESS * rng.standard_exponential(keep.shape, np.float32), 1)
    off[rng.random(keep.shape, np.float32) >= SOFT] = 0
    masks: npt.NDArray[np.float16] = np.where(keep, 1 - off, off).astype(np.float16)
    return masks


# ---- the measured parts -------------------------------------------------------------------------


def shard_files(out: str) -> list[Path]:
    return sorted(Path(out, CHANNEL.name).glob("shard-*.parquet"))


def raw(out: str) -> int:
    buffer = bytearray(max(path.stat().st_size for path in shard_files(out)))
    size = 0
    for path in shard_files(out):
        with path.open("rb", buffering=0) as file:
            size += file.readinto(buffer) or 0
    return size


def read(out: str) -> int:
    size = 0
    for path in shard_files(out):
        with pq.ParquetFile(path) as file:
            size += file.read(columns=COLUMNS).nbytes
    return size


def aggregate(out: str) -> int:
    return int(class_channels(Run.open(out)).nbytes)


class Cost(TypedDict):
    """What a part took: seconds by the clock and of the CPU, MB that it returned, peak resident MB."""

    seconds: float
    cpu: float
    mb: float
    peak_mb: float


def cost(part: Callable[[str], int], out: str) -> Cost:
    """Run a part in this process, which must be a fresh one."""
    # The first conversion to numpy imports pandas where it is installed: an import like the others.
    pa.array([0]).to_numpy()
    start, cpu_start = time.perf_counter(), time.process_time()
    size = part(out)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    return {"seconds": seconds, "cpu": cpu, "mb": size / MB, "peak_mb": peak_mb()}


def measure(out: str, rounds: int) -> dict[str, float]:
    """Medians over rounds; each round has all parts, so that drift hits them alike."""
    parts = (raw, read, aggregate)
    raw(out)
    costs: dict[str, list[Cost]] = {part.__name__: [] for part in parts}
    for _ in range(rounds):
        for part in parts:
            costs[part.__name__].append(apart(cost, part, out))
    row: dict[str, float] = {
        "threads": pa.cpu_count(),
        "disk_mb": round(costs["raw"][0]["mb"], 1),
        "decoded_mb": round(costs["read"][0]["mb"], 1),
    }
    for name, taken in costs.items():
        row[f"{name}_s"] = round(statistics.median(c["seconds"] for c in taken), 2)
        row[f"{name}_cpu_s"] = round(statistics.median(c["cpu"] for c in taken), 2)
        row[f"{name}_peak_mb"] = round(max(c["peak_mb"] for c in taken))
    ratios = [a["seconds"] / r["seconds"] for a, r in zip(costs["aggregate"], costs["read"], strict=True)]
    row |= {
        "ratio": round(row["aggregate_s"] / row["read_s"], 2),
        "ratio_min": round(min(ratios), 2),
        "ratio_max": round(max(ratios), 2),
        "ratio_cpu": round(row["aggregate_cpu_s"] / row["read_cpu_s"], 2),
    }
    return row


def main() -> None:
    parser = command(__doc__, rounds=5)
    parser.add_argument("--pairs", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--shard-size", type=int, default=32, help="pairs per shard, 32 as in a run")
    parser.add_argument("--out", help="directory of the synthetic run; a temporary one if not given")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or f"{folder}/run"
        numbers = {"pairs": arguments.pairs, "classes": arguments.classes, "shard_size": arguments.shard_size}
        # Apart, because a process passes its peak on to those that it starts.
        apart(make_run, out, **numbers)
        row = {**numbers, **measure(out, arguments.rounds)}
    print(f"{row['pairs']} pairs, {row['disk_mb']} MB on disk, {row['decoded_mb']} MB decoded")
    print(f"{'part':10} {'seconds':>8} {'CPU s':>8} {'peak MB':>8}")
    for name in ("raw", "read", "aggregate"):
        print(f"{name:10} {row[f'{name}_s']:>8} {row[f'{name}_cpu_s']:>8} {row[f'{name}_peak_mb']:>8}")
    print(f"ratio {row['ratio']} ({row['ratio_min']} - {row['ratio_max']}), of CPU time {row['ratio_cpu']}")
    write_json(arguments.json, row)


if __name__ == "__main__":
    main()
