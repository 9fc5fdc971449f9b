"""Runs that the version before schema 5 wrote: see data/schema4/README.md."""

import math
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from extremal.pipeline.config import build_config, merge, method_trees, read_toml
from extremal.workers.config import RunConfig
from extremal.workers.networks.shapes_cnn import shapes_cnn

DATA = Path(__file__).parent / "data" / "schema4"
FINISHED = ("channel", "saliency", "inversion")
UNFINISHED = ("spatial", "pictures")
STUDIES = {"pictures": "inversion"}  # of the runs that do not have the name of theirs
RUNS = (*FINISHED, *UNFINISHED)
# Of the network's last layer, as they were drawn when the runs were made.
BIAS = (
    -0.0666378215,
    0.0390589908,
    -0.0328872278,
    -0.0401414596,
    -0.0762235001,
    0.0217605866,
)


def write_weights(path: Path) -> Path:
    """Weights for shapes_cnn that are equal on every machine: small fractions of powers of two."""
    rng, state = np.random.default_rng(0), {}
    for name, blank in shapes_cnn().state_dict().items():
        if name.endswith("num_batches_tracked") or blank.ndim < 2:
            state[name] = blank
            continue
        scale = 2.0 ** -round(math.log2(blank[0].numel()) / 2)
        drawn = rng.integers(-256, 257, tuple(blank.shape)) / 256 * scale
        state[name] = torch.from_numpy(drawn.astype(np.float32))
    state["fc.bias"] = torch.tensor(BIAS)
    torch.save(state, path)
    return path


def unpack(folder: Path) -> Path:
    """The runs, what the old version made of the missing shards, the images and the weights."""
    with ZipFile(DATA / "runs.zip") as archive:
        archive.extractall(folder)
    write_weights(folder / "weights.pt")
    return folder


def toml(name: str) -> Path:
    """The settings that a run was begun with, but for places."""
    return DATA / f"{name}.toml"


def config(folder: Path, name: str, **changes: Any) -> RunConfig:
    """The configuration that continues a run below `folder`, as the command line puts it together."""
    given = read_toml(toml(name))
    places = {"dataset": {"root": str(folder / "shapes")}, "network": {"weights": str(folder / "weights.pt")}}
    if STUDIES.get(name, name) == "inversion":
        from extremal.pipeline.channel_run import inherited

        given = merge(given, {"inversion": {"channels": str(folder / "channel")}})
        given = merge(inherited(merge(given, places)), given)
    return build_config(merge(merge(merge(method_trees("fast"), given), places), changes))


def expected(folder: Path, name: str, kind: str, shard: int) -> pa.Table:
    """A shard's table as the old version computed it."""
    return pq.read_table(folder / "expected" / name / kind / f"shard-{shard:06d}.parquet")


def assert_alike(found: pa.Table, wanted: pa.Table) -> None:
    """Equal tables but for `seconds`, and for what rounding may do on another processor.

    Where the fixture was computed they are equal to the bit. Kernels of other instruction sets add in another
    order: relative errors of 1e-7 an addition, which four steps of an optimizer carry to less than 1e-4 of a
    score, one unit of float16 (1e-3), and two of 255 levels of a picture. Names, numbers and seeds are exact.
    """
    assert found.schema.names == wanted.schema.names
    assert found.num_rows == wanted.num_rows
    for name in wanted.schema.names:
        if name != "seconds":
            for mine, theirs in zip(found[name].to_pylist(), wanted[name].to_pylist(), strict=True):
                _assert_value(name, mine, theirs)


def _assert_value(name: str, mine: Any, theirs: Any) -> None:
    if isinstance(theirs, bytes):
        pictures = [np.asarray(Image.open(BytesIO(png)), np.int64) for png in (mine, theirs)]
        assert pictures[0].shape == pictures[1].shape, name
        assert abs(pictures[0] - pictures[1]).max() <= 2, name
    elif _is_real(theirs):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-3, err_msg=name)
    else:
        assert mine == theirs, name


def _is_real(value: Any) -> bool:
    return isinstance(value, float) or (
        isinstance(value, list) and any(isinstance(item, float) for item in value)
    )


def committed_bytes(run: Path) -> Mapping[str, bytes]:
    """Every file of a run's shards."""
    return {str(path.relative_to(run)): path.read_bytes() for path in run.glob("*/shard-*.parquet")}
