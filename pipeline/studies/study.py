"""What the pipeline must know of a study; needs no torch, for who only reads its scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from extremal.pipeline.aggregates.shown import Aggregate
from extremal.storage.manifest import Model
from extremal.workers.config import RunConfig

if TYPE_CHECKING:
    from extremal.pipeline.source import Source
    from extremal.workers.networks.network import Network


def _dataset_pairs(config: RunConfig, network: "Network", model: Model) -> "Source":
    from extremal.pipeline.source import dataset_pairs

    return dataset_pairs(config, network, model)


def _as_it_is(config: RunConfig, network: "Network") -> RunConfig:
    return config


@dataclass(frozen=True)
class Study:
    """A study from its configuration to its scores.

    Attributes:
        scores: what `extremal score` adds up, in order.
        maps: by its settings, the names of the maps that its points are of.
        checked: refuses a network on which it cannot work, and returns the configuration as the run
            records it, with what it found out about the network.
        source: its units.
        inherited: settings that it takes over from another run, for file and flags to override.
        located: the configuration with locations of its own that mean the same in every folder.
    """

    name: str
    scores: Sequence[Aggregate]
    maps: Callable[[Any], Sequence[str]]
    checked: "Callable[[RunConfig, Network], RunConfig]" = _as_it_is
    source: "Callable[[RunConfig, Network, Model], Source]" = _dataset_pairs
    inherited: Callable[[dict[str, Any]], dict[str, Any]] = lambda given: {}
    located: Callable[[RunConfig], RunConfig] = lambda config: config
