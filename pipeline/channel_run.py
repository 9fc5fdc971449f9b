"""The channel run that inversions are of: what they take over from it, and their plan."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from extremal.pipeline.aggregates.class_channels import class_channels
from extremal.pipeline.config import stored_tree, table_of
from extremal.pipeline.datasets.open import unreachable
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.identity import run_tree
from extremal.pipeline.plan import Plan, Row, fingerprint, lay_out, plan_pairs
from extremal.pipeline.source import Source
from extremal.pipeline.stored_config import stored_config
from extremal.storage import Run, RunError, kinds
from extremal.storage.folder import open_root
from extremal.storage.manifest import Model, canonical
from extremal.storage.trees import diff
from extremal.workers.config import RunConfig
from extremal.workers.inversion.settings import InversionConfig
from extremal.workers.networks.network import Network


def open_channels(place: str) -> Run:
    """The channel run of an inversion.

    Raises:
        ConfigError: none is named.
        RunError: there is none, it is of another kind, or not finished.
    """
    if not place:
        raise ConfigError("--method inversion needs a finished channel run: give --channels RUN.")
    run = Run.open(place)
    run.require(kinds.CHANNEL, "--channels takes one of --method channel")
    if missing := len(run.missing()):
        raise RunError(
            f"{missing} shards of {run.place()} are missing: repeat its `extremal run` command first."
        )
    return run


def source(config: RunConfig, network: Network, model: Model) -> Source:
    """The pairs or channels of a channel run. Where that lies is no identity, what it is is one.

    Raises:
        ConfigError, RunError: as `open_channels` and `check_channels`.
        DatasetError: the images cannot be reached.
    """
    settings = config.settings(InversionConfig)
    run = open_channels(settings.channels)
    check_channels(run, config, model)
    root, earlier = config.dataset.root, None
    try:
        if settings.subject == "pairs":
            plan = plan_pairs(_pairs(run), root, network.preprocess, config)
        else:
            plan = lay_out(
                kinds.CHANNEL_OF_LAYER, _channels(run, settings.per_class), lambda row: None, config
            )
            earlier = partial(_earlier_fingerprint, plan, network.side)
    except OSError as error:
        raise unreachable(root, error) from error
    return Source(
        plan,
        open_root(root).root,
        run.manifest.dataset.classes,
        channels=run,
        earlier=earlier,
    )


def check_channels(run: Run, config: RunConfig, model: Model) -> None:
    """Refuse another network, layer or dataset than the channel run's: its masks would mean nothing.

    Raises:
        ConfigError: with one line per differing key.
    """
    before = {**_seen(run_tree(run.manifest)), "model": canonical(asdict(run.manifest.model))}
    now = {**_seen(canonical(stored_tree(config))), "model": canonical(asdict(model))}
    if lines := diff(before, now):
        raise ConfigError(
            f"{run.place()} has another network, layer or dataset (its -> yours):\n  "
            + "\n  ".join(lines)
            + "\nLeave these options out: they are that run's."
        )


def _seen(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of the channels and of the pairs, however many and wherever they lie."""
    dataset = {key: value for key, value in settings["dataset"].items() if key not in ("limit", "root")}
    return {"channel": settings["channel"], "dataset": dataset}


def _pairs(run: Run) -> Iterator[Row]:
    """The channel run's pairs in its order, without number, shard and batch."""
    for batch in run.plan().drop_columns(["pair", "shard", "batch"]).to_batches(max_chunksize=4096):
        yield from batch.to_pylist()


def _channels(run: Run, per_class: int) -> Iterator[Row]:
    """The channels that are the largest of any class, raw mean or class-specific."""
    table = class_channels(run, per_class)
    lists = (*table["top_channels"].to_pylist(), *table["specific_channels"].to_pylist())
    layer = run.manifest.setting("channel", "layer")
    for channel in sorted({channel for some in lists for channel in some or ()}):
        yield {"layer": layer, "channel": channel}


def _earlier_fingerprint(plan: Plan, side: int) -> str:
    return fingerprint(_channels_as_images(plan, side))


def _channels_as_images(plan: Plan, side: int) -> Iterator[Row]:
    """A plan's channels as schema 4 wrote them: a channel's name for an image, its index for a class."""
    for row in plan.table.to_pylist():
        name, channel = f"{row['layer']}:{row['channel']}", row["channel"]
        yield {
            "image_id": name,
            "path": name,
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


def inherited(given: dict[str, Any]) -> dict[str, Any]:
    """What an inversion takes over from its channel run, for file and flags to override.

    Raises:
        ConfigError, RunError: as `open_channels`.
    """
    channels = open_channels(str(table_of(given, "inversion").get("channels") or ""))
    root, weights = table_of(given, "dataset").get("root"), table_of(given, "network").get("weights")
    stored = stored_config(channels, root, weights)
    tree = {name: asdict(getattr(stored, name)) for name in ("dataset", "network", "channel")}
    del tree["dataset"]["limit"]  # of its pairs; an inversion's is of its own
    return tree | {"seed": stored.seed}


def located(config: RunConfig) -> RunConfig:
    """The configuration with the channel run's URI: workers may run in another directory."""
    settings = config.settings(InversionConfig)
    return config.with_settings(replace(settings, channels=open_channels(settings.channels).uri))
