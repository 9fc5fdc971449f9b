"""From a configuration to a run that workers can compute: checked, planned, on disk."""

import logging
import platform
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from extremal.pipeline.config import stored_tree
from extremal.pipeline.datasets.open import LAYOUTS, unreachable
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.identity import DEFAULTS_VERSION, check_identity, config_settings
from extremal.pipeline.source import Source
from extremal.pipeline.studies import STUDIES
from extremal.pipeline.whole_image import try_whole_image
from extremal.storage import Manifest, Run
from extremal.storage.errors import PlaceError
from extremal.storage.files import printable
from extremal.storage.folder import open_root
from extremal.storage.manifest import WHOLE_CONFIG, Data, DatasetRecord, Model
from extremal.storage.verify import sweep
from extremal.workers.config import NetworkConfig, RunConfig
from extremal.workers.configured_network import configured_network
from extremal.workers.networks.network import Network
from extremal.workers.shard.worker import WorkerSpec

log = logging.getLogger(__name__)

PACKAGES = ("extremal", "torch", "torchvision", "ray", "pyarrow", "numpy", "pillow")


def located_network(config: RunConfig) -> NetworkConfig:
    """The network with weights that are found from every folder, and the crop of the dataset.

    Objects of VOC and the like may lie anywhere: the pointing protocol shows the network the whole image.
    """
    network = config.network
    if network.crop is None and LAYOUTS[config.dataset.name].whole_images:
        network = replace(network, crop=0)
    if network.weights is not None and Path(network.weights).exists():
        network = replace(network, weights=str(Path(network.weights).absolute()))
    return network


def located(config: RunConfig) -> RunConfig:
    """The configuration with locations that mean the same in every folder.

    Raises:
        DatasetError, RunError: a location is none.
    """
    try:
        root = open_root(config.dataset.root).root
    except (PlaceError, OSError) as error:
        raise unreachable(config.dataset.root, error) from error
    dataset = replace(config.dataset, root=root)
    return STUDIES[config.method].located(replace(config, network=located_network(config), dataset=dataset))


def prepare(config: RunConfig, out: str) -> tuple[Run, bool]:
    """Create the run of a configuration, or find the one to continue.

    Returns:
        The run, and whether it was there before.

    Raises:
        ConfigMismatch: `out` holds a run of another configuration, of other weights or other pairs.
        ConfigError, DatasetError, NetworkError, LayerError, RunError: with the fix.
    """
    study = STUDIES[config.method]
    network = configured_network(located_network(config))
    if network.classes is not None and len(network.classes) != network.outputs:
        raise ConfigError(
            f"{network.name} names {len(network.classes)} classes, but has {network.outputs} outputs."
        )
    config = study.checked(config, network)
    model = _model(network)
    source = study.source(config, network, model)
    existing = Run.find(out)
    if existing is not None:
        check_identity(existing, config, model, _data(source, existing))
        for path in sweep(existing):
            log.warning("%s was cut off; deleted, its shard will be computed again", path)
        _warn_versions(existing)
        return existing, True
    plan = source.plan
    if plan.table.num_rows == 0:
        raise ConfigError(
            f"There is nothing to do: {config.dataset.name} at {printable(source.root)} gives no pair "
            f"for {config.network.name} (classes without a network output: {plan.excluded or 'none'})."
        )
    for name, count in plan.excluded.items():
        log.warning("%d pairs of class %s are left out: the network has no output for it", count, name)
    if source.whole_images:
        try_whole_image(
            network, zip(*(plan.table[name].to_pylist() for name in ("width", "height")), strict=True)
        )
    return Run.create(out, _manifest(config, model, source), plan.table), False


def _data(source: Source, existing: Run | None = None) -> Data:
    """The units belong to the identity: a list that changed since would not fit the committed shards."""
    before = existing is not None and existing.manifest.schema_version == WHOLE_CONFIG
    fingerprint = source.earlier() if before and source.earlier else source.plan.fingerprint
    channels = source.channels.manifest.config_hash if source.channels else None
    return Data(fingerprint, source.plan.table.num_rows, channels)


def _manifest(config: RunConfig, model: Model, source: Source) -> Manifest:
    plan = source.plan
    pairs = plan.table.num_rows
    return Manifest(
        study=config.method,
        config=stored_tree(config),
        settings=config_settings(config),
        defaults=DEFAULTS_VERSION,
        model=model,
        data=_data(source),
        unit=config.study.unit(config.own),
        rows_per_unit=config.study.rows(config.own),
        dataset=DatasetRecord(
            printable(source.root), tuple(source.classes), pairs, plan.shards, plan.excluded
        ),
        weights=config.network.weights and printable(config.network.weights),
        versions=versions(),
        channels=source.channels.place() if source.channels else "",
    )


def _warn_versions(run: Run) -> None:
    for package, now in versions().items():
        before = run.manifest.versions.get(package)
        if before != now:
            log.warning("the run began with %s %s, this is %s: last bits may differ", package, before, now)


def worker_spec(config: RunConfig, run: Run, device: str | None = None, gpu_share: float = 1.0) -> WorkerSpec:
    """What an actor needs to work on a run."""
    return WorkerSpec(located(config), run.uri, device, gpu_share)


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


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
