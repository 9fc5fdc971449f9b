"""What a run computes on: by default the pairs of a dataset."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from extremal.pipeline.datasets.open import open_dataset, unreachable
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.plan import Plan, plan_dataset
from extremal.storage import Run
from extremal.storage.manifest import Model
from extremal.workers.config import RunConfig
from extremal.workers.networks.network import Network


@dataclass(frozen=True)
class Source:
    """The units of a run, and where they come from.

    Attributes:
        root: folder or URI of the images. classes: of the dataset, by class_id.
        channels: the channel run that they are taken from.
        earlier: computes the fingerprint of the same units as schema 4 planned them, where that was another.
        whole_images: whether a network may refuse the images' shapes, which the plan knows.
    """

    plan: Plan
    root: str
    classes: Sequence[str]
    channels: Run | None = None
    earlier: Callable[[], str] | None = None
    whole_images: bool = False


def dataset_pairs(config: RunConfig, network: Network, model: Model) -> Source:
    """The pairs of the configuration's dataset.

    Raises:
        ConfigError, DatasetError: with the fix.
    """
    wanted = config.dataset
    if not wanted.root:
        raise ConfigError("Give the folder of the dataset: --root DIR.")
    dataset = open_dataset(
        wanted.name,
        wanted.root,
        wanted.split,
        labels=wanted.labels,
        difficult_list=wanted.difficult_list,
        target=wanted.target,
    )
    if wanted.target is not None and not 0 <= wanted.target < network.outputs:
        raise ConfigError(f"target {wanted.target}: {network.name} has outputs 0 to {network.outputs - 1}.")
    try:
        plan = plan_dataset(dataset, network.outputs, network.preprocess, config)
    except OSError as error:
        raise unreachable(dataset.root, error) from error
    return Source(plan, dataset.root, dataset.classes, whole_images=network.preprocess.crop is None)
