"""Inversion runs: what they take over from their channel run, their plan, and their mean cosines."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from extremal.pipeline.aggregates.class_channels import class_channels
from extremal.pipeline.config import RunConfig
from extremal.pipeline.errors import ConfigError
from extremal.storage import Run, RunError, kinds
from extremal.storage.manifest import Model, diff
from extremal.workers.config import InversionConfig

Row = dict[str, Any]

COSINES = pa.schema(
    [
        ("layer", pa.string()),
        ("objective", pa.string()),
        ("n", pa.int64()),
        ("cosine", pa.float64()),
        ("n_masked", pa.int64()),
        ("cosine_masked", pa.float64()),
        ("cosine_between", pa.float64()),
    ]
)
_MEANS = ("cosine", "cosine_masked", "cosine_between")


def open_channels(place: str) -> Run:
    """The channel run of an inversion.

    Raises:
        ConfigError: none is named.
        RunError: there is none, it is of another kind, or not finished.
    """
    if not place:
        raise ConfigError("--method inversion needs a finished channel run: give --channels RUN.")
    run = Run.open(place)
    if run.kind != kinds.CHANNEL:
        raise RunError(
            f"{run.place()} holds {run.kind.name} results; --channels takes one of --method channel."
        )
    if missing := len(run.missing()):
        raise RunError(
            f"{missing} shards of {run.place()} are missing: repeat its `extremal run` command first."
        )
    return run


def check_channels(run: Run, config: RunConfig, model: Model) -> None:
    """Refuse another network, layer or dataset than the channel run's: its masks would mean nothing.

    Raises:
        ConfigError: with one line per differing key.
    """
    stored, mine = run.manifest.config, config.identity()
    before = {"channel": stored["channel"], "dataset": _pairs(stored), "model": asdict(run.manifest.model)}
    now = {"channel": mine["channel"], "dataset": _pairs(mine), "model": asdict(model)}
    if lines := diff(before, now):
        raise ConfigError(
            f"{run.place()} has another network, layer or dataset (its -> yours):\n  "
            + "\n  ".join(lines)
            + "\nLeave these options out: they are that run's."
        )


def _pairs(config: Mapping[str, Any]) -> Row:
    return {key: value for key, value in config["dataset"].items() if key != "limit"}


def inversion_rows(run: Run, config: InversionConfig, side: int) -> Iterator[Row]:
    """Rows of the plan, without shard and batch: the channel run's pairs in its order, or channels.

    A channel has no image: its name stands for one, its index for a class, and no output for that.

    Args:
        side: of the network's square input, which the picture of a channel fills.

    Raises:
        RunError: the channel run is damaged.
    """
    if config.subject == "channels":
        yield from _channel_rows(run, config.per_class, side)
        return
    for batch in run.plan().drop_columns(["pair", "shard", "batch"]).to_batches(max_chunksize=4096):
        yield from batch.to_pylist()


def _channel_rows(run: Run, per_class: int, side: int) -> Iterator[Row]:
    table = class_channels(run, per_class)
    lists = (*table["top_channels"].to_pylist(), *table["specific_channels"].to_pylist())
    layer = run.manifest.setting("channel", "layer")
    for channel in sorted({channel for some in lists for channel in some or ()}):
        yield {
            "image_id": f"{layer}:{channel}",
            "path": f"{layer}:{channel}",
            "class_id": channel,
            "class_name": f"channel {channel}",
            "targets": [],
            "width": side,
            "height": side,
            "boxes": [],
            "rle": None,
            "all_difficult": False,
            "difficult": False,
        }


def mean_cosines(run: Run) -> pa.Table:
    """Rows of `COSINES`: how near the pictures come to what they invert, and to each other.

    Means over `n` pairs or channels; the masked over the `n_masked` of them that have a masked picture.

    Raises:
        RunError: a shard is damaged.
    """
    table = run.table(kinds.INVERSION, ["layer", "objective", *_MEANS])
    if not table.num_rows:
        return COSINES.empty_table()
    # One run has one layer and one objective.
    row: Row = {name: table[name][0].as_py() for name in ("layer", "objective")}
    for name in _MEANS:
        values = table[name].drop_null().to_pylist()
        # fsum, so that the order of the rows decides no bit.
        row[name] = math.fsum(values) / len(values) if values else None
    row |= {"n": table.num_rows, "n_masked": table.num_rows - table["cosine_masked"].null_count}
    return pa.Table.from_pylist([row], schema=COSINES)
