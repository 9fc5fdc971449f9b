"""What the benchmarks share: clocks, the bare network's pass, fresh processes, made-up plans, output."""

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import pyarrow as pa

from extremal.storage.kinds import PAIR

if TYPE_CHECKING:  # some of the measured processes do without torch
    import torch
    from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")
MB = 1e6


# ---- the command line and what it prints ----------------------------------------------------------


def command(doc: str | None, rounds: int | None = None) -> argparse.ArgumentParser:
    """A parser whose help is the benchmark's docstring, with --json and, if it repeats, --rounds."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help="the table has medians over them")
    return parser


def write_json(path: Path | None, numbers: object) -> None:
    """The numbers of `--json`, if it was given."""
    if path is not None:
        path.write_text(json.dumps(numbers, indent=2, default=str) + "\n")


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows))


# ---- time -----------------------------------------------------------------------------------------


def chosen_device(name: str | None = None) -> str:
    """A GPU if there is one."""
    import torch

    return name or ("cuda" if torch.cuda.is_available() else "cpu")


def seconds(action: Callable[[], object], device: "torch.device") -> float:
    """Wall time of one call, the device's queue emptied before and after."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def bare(forward: "Callable[[Tensor], Tensor]", inputs: "Tensor") -> None:
    """Forward pass of x (N,...) and the gradient of the first output: the unit of what is measured."""
    import torch

    x = inputs.detach().clone().requires_grad_(True)
    torch.autograd.grad(forward(x)[:, 0].sum(), x)


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


# ---- processes ------------------------------------------------------------------------------------


def apart(action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call in a process of its own, started afresh: a forked one would begin with this one's memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(action, *args, **kwargs).result()


def peak_mb() -> float:
    """Largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return peak / MB


# ---- runs that nobody computed --------------------------------------------------------------------


def made_up_plan(class_ids: "np.ndarray[Any, Any]", shard_size: int, **columns: object) -> pa.Table:
    """A plan of one pair an image, 500 x 375 pixels, in shards of so many; `columns` win."""
    n = len(class_ids)
    made: dict[str, object] = {
        "pair": np.arange(n),
        "image_id": [f"image {i:08d}" for i in range(n)],
        "path": [f"{i:08d}.jpg" for i in range(n)],
        "class_id": class_ids,
        "class_name": [f"class {i}" for i in class_ids],
        "shard": np.arange(n) // shard_size,
        "batch": np.arange(n) // 4,
        "targets": [[i] for i in class_ids],
        "width": [500] * n,
        "height": [375] * n,
        "boxes": [[]] * n,
        "rle": [None] * n,
        "all_difficult": [False] * n,
        "difficult": [False] * n,
    }
    return pa.table(made | columns, schema=PAIR.plan)
