"""From a configuration to a run that workers can compute: checked, planned, on disk."""

import logging
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from extremal.pipeline.config import RunConfig, build_config, merge
from extremal.pipeline.datasets.open import Dataset, open_dataset, unreachable
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.inversion import check_channels, inversion_rows, open_channels
from extremal.pipeline.plan import Plan, lay_out, make_plan
from extremal.storage import ConfigMismatch, Manifest, Run
from extremal.storage.files import HIDDEN, printable
from extremal.storage.folder import open_root
from extremal.storage.manifest import Data, DatasetRecord, Model, canonical, diff
from extremal.storage.verify import sweep
from extremal.workers.config import InversionConfig
from extremal.workers.images import MAX_INPUT
from extremal.workers.networks.cut import split_network
from extremal.workers.networks.network import Network, load_network
from extremal.workers.saliency.check import check_methods
from extremal.workers.saliency.layers import layers_of
from extremal.workers.saliency.methods import METHODS
from extremal.workers.shard.worker import WorkerSpec

log = logging.getLogger(__name__)

# Their objects may lie anywhere: the pointing protocol shows the network the whole image.
WHOLE_IMAGE = {"voc", "coco", "shapes"}
PACKAGES = ("extremal", "torch", "torchvision", "ray", "pyarrow", "numpy", "pillow")


def network_arguments(config: RunConfig) -> dict[str, Any]:
    """Arguments of `extremal.workers.load_network` for a configuration."""
    wanted = config.network
    crop = wanted.crop
    if crop is None and config.dataset.name in WHOLE_IMAGE:
        crop = 0
    weights = wanted.weights
    if weights is not None and Path(weights).exists():
        weights = str(Path(weights).absolute())
    return {
        "name": wanted.name,
        "weights": weights,
        "resize": wanted.resize,
        "crop": crop,
        "mean": wanted.mean,
        "std": wanted.std,
        "randomized": wanted.randomized,
        "randomize_seed": wanted.randomize_seed,
    }


def prepare(config: RunConfig, out: str) -> tuple[Run, bool]:
    """Create the run of a configuration, or find the one to continue.

    Returns:
        The run, and whether it was there before.

    Raises:
        ConfigMismatch: `out` holds a run of another configuration, of other weights or other pairs.
        ConfigError, DatasetError, NetworkError, LayerError, RunError: with the fix.
    """
    network = load_network(**network_arguments(config))
    if network.classes is not None and len(network.classes) != network.outputs:
        raise ConfigError(
            f"{network.name} names {len(network.classes)} classes, but has {network.outputs} outputs."
        )
    _check_method(config, network)
    config = _with_layers(config, network)
    model = _model(network)
    inverts = config.method == "inversion"
    source = _inverted(config, network, model) if inverts else _explained(config, network)
    plan = source.plan
    # The pairs belong to the identity: a list that changed since would not fit the committed shards.
    data = Data(plan.fingerprint, plan.table.num_rows, **source.identity)
    existing = Run.find(out)
    if existing is not None:
        check_identity(existing, config.identity(), model, data)
        for path in sweep(existing):
            log.warning("%s was cut off; deleted, its shard will be computed again", path)
        _warn_versions(existing)
        return existing, True
    if plan.table.num_rows == 0:
        raise ConfigError(
            f"There is nothing to do: {config.dataset.name} at {printable(source.root)} gives no pair "
            f"for {config.network.name} (classes without a network output: {plan.excluded or 'none'})."
        )
    for name, count in plan.excluded.items():
        log.warning("%d pairs of class %s are left out: the network has no output for it", count, name)
    if not inverts:  # the channel run has shown it its images
        _try_shape(network, plan.table)
    manifest = Manifest(
        study=config.method,
        config=config.identity(),
        model=model,
        data=data,
        rows_per_unit=len(config.saliency.methods) if config.method == "saliency" else 1,
        dataset=DatasetRecord(
            printable(source.root), tuple(source.classes), plan.table.num_rows, plan.shards, plan.excluded
        ),
        weights=config.network.weights and printable(config.network.weights),
        versions=versions(),
        channels=source.manifest.get("channels", ""),
    )
    return Run.create(out, manifest, plan.table), False


def check_identity(run: Run, config: dict[str, Any], model: Model, data: Data) -> None:
    """Refuse to continue a run with another identity.

    Raises:
        ConfigMismatch: with one line per differing key.
    """
    stored = {
        "config": run.manifest.config,
        "model": asdict(run.manifest.model),
        "data": asdict(run.manifest.data),
    }
    mine = canonical({"config": config, "model": asdict(model), "data": asdict(data)})
    if lines := diff(canonical(stored), mine):
        raise ConfigMismatch(
            f"{run.place()} holds a run with another configuration (stored -> yours):\n  "
            + "\n  ".join(lines)
            + "\nRepeat the stored options to resume it, or choose another --out."
        )


def _with_layers(config: RunConfig, network: Network) -> RunConfig:
    """The configuration with the layers that the saliency methods read by name, as the run records them."""
    if config.method != "saliency":
        return config
    layers = layers_of(network, config.saliency.layers)
    return replace(config, saliency=replace(config.saliency, layers=layers))


@dataclass(frozen=True)
class _Source:
    """What a run computes on, where that lies, and what run.json says of it besides."""

    plan: Plan
    root: str
    classes: Sequence[str]
    identity: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)


def _explained(config: RunConfig, network: Network) -> _Source:
    """The pairs of a dataset."""
    dataset = _open(config)
    if config.dataset.target is not None and not 0 <= config.dataset.target < network.outputs:
        raise ConfigError(
            f"target {config.dataset.target}: {network.name} has outputs 0 to {network.outputs - 1}."
        )
    try:
        plan = make_plan(dataset, network.outputs, network.preprocess, config)
    except OSError as error:
        raise unreachable(dataset.root, error) from error
    return _Source(plan, dataset.root, dataset.classes)


def _inverted(config: RunConfig, network: Network, model: Model) -> _Source:
    """The pairs or channels of a channel run. Where that lies is no identity, what it is is one."""
    channels = open_channels(config.inversion.channels)
    check_channels(channels, config, model)
    rows = inversion_rows(channels, config.inversion, network.side)
    try:
        plan = lay_out(rows, config.dataset.root, network.preprocess, config)
    except OSError as error:
        raise unreachable(config.dataset.root, error) from error
    return _Source(
        plan,
        open_root(config.dataset.root).root,
        channels.manifest.dataset.classes,
        {"channels": channels.manifest.config_hash},
        {"channels": channels.place()},
    )


def _open(config: RunConfig) -> Dataset:
    wanted = config.dataset
    if not wanted.root:
        raise ConfigError("Give the folder of the dataset: --root DIR.")
    return open_dataset(
        wanted.name,
        wanted.root,
        wanted.split,
        labels=wanted.labels,
        difficult_list=wanted.difficult_list,
        target=wanted.target,
    )


def _check_method(config: RunConfig, network: Network) -> None:
    if config.method == "saliency":
        check_names(config.saliency.methods)
        check_methods(network, config.saliency, config.spatial, config.channel)
    if "channel" not in config.sections():
        return
    split = split_network(network, config.channel.layer)
    if config.channel.counts and config.channel.counts[-1] > split.channels:
        raise ConfigError(
            f"channel.counts go up to {config.channel.counts[-1]}, but layer {config.channel.layer} "
            f"has {split.channels} channels. Lower the counts or leave them out."
        )


def check_names(methods: Sequence[str]) -> None:
    """Refuse names that are no saliency methods.

    Raises:
        ConfigError: with those that are.
    """
    for name in methods:
        if name not in METHODS:
            raise ConfigError(
                f"There is no method {name!r} to compare. --method is spatial, channel, or several of: "
                f"{', '.join(METHODS)}; separated by commas."
            )


def _warn_versions(run: Run) -> None:
    for package, now in versions().items():
        before = run.manifest.versions.get(package)
        if before != now:
            log.warning("the run began with %s %s, this is %s: last bits may differ", package, before, now)


def stored_config(run: Run, root: str | None, weights: str | None, channels: str | None = None) -> RunConfig:
    """The configuration of a run, from its run.json.

    Args:
        root, weights, channels: where dataset, weights and the channel run of inversions lie now; None =
            where they were.

    Raises:
        ConfigError: run.json holds no configuration of this version, or a place without its credentials.
    """
    root, weights = root or run.manifest.dataset.root, weights or run.manifest.weights
    channels = channels or run.manifest.channels
    for flag, place in (("--root", root), ("--weights", weights), ("--channels", channels)):
        if place and HIDDEN in place:
            raise ConfigError(f"{place} was given with credentials, which no run stores: give {flag} again.")
    there = {
        "dataset": {"root": root},
        "network": {"weights": weights},
        "inversion": {"channels": channels},
    }
    return build_config(merge(run.manifest.config, there))


def worker_spec(config: RunConfig, run: Run, device: str | None = None, gpu_share: float = 1.0) -> WorkerSpec:
    """What an actor needs to work on a run."""
    method = getattr(config, config.method)
    if isinstance(method, InversionConfig):  # workers may run in another directory
        method = replace(method, channels=open_channels(config.inversion.channels).uri)
    return WorkerSpec(
        network=network_arguments(config),
        method=method,
        studies=(config.spatial, config.channel),
        root=open_root(config.dataset.root).root,  # workers may run in another directory
        run=run.uri,
        seed=config.seed,
        threads=config.threads,
        slots=config.slots,
        precision=config.precision,
        device=device,
        gpu_share=gpu_share,
    )


def _model(network: Network) -> Model:
    preprocess = network.preprocess
    return Model(
        network.name,
        network.fingerprint,
        network.original.fingerprint,
        tuple(network.randomized),
        preprocess.resize,
        preprocess.crop,
        preprocess.mean,
        preprocess.std,
        preprocess.interpolation,
        preprocess.antialias,
    )


def _try_shape(network: Network, table: pa.Table) -> None:
    """One forward pass of the first input shape: a network for squares only should say so now."""
    sizes = zip(table["width"].to_pylist(), table["height"].to_pylist(), strict=True)
    shapes = (network.preprocess.input_shape(w, h) for w, h in sizes if w and h)
    # An annotation that lies about its image must not decide for the others.
    shape = next((shape for shape in shapes if math.prod(shape) <= MAX_INPUT), None)
    if network.preprocess.crop is not None or shape is None:
        return
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, *shape, device=network.device))
    except Exception as error:
        raise ConfigError(
            f"{network.name} does not take whole images ({shape[0]}x{shape[1]}): {error}. "
            "Give --crop (for example --crop 224) to show it the central square."
        ) from error


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
