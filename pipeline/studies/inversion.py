"""The study `inversion`: of pairs or channels of a channel run."""

from typing import TYPE_CHECKING, Any

from extremal.pipeline.aggregates.shown import inversion_scores
from extremal.pipeline.studies.channel import check_counts
from extremal.pipeline.studies.study import Study
from extremal.storage.manifest import Model
from extremal.workers.config import RunConfig

if TYPE_CHECKING:
    from extremal.pipeline.source import Source
    from extremal.workers.networks.network import Network

# Imported where they are called: readers of scores need no torch.


def _source(config: RunConfig, network: "Network", model: Model) -> "Source":
    from extremal.pipeline.channel_run import source

    return source(config, network, model)


def _inherited(given: dict[str, Any]) -> dict[str, Any]:
    from extremal.pipeline.channel_run import inherited

    return inherited(given)


def _located(config: RunConfig) -> RunConfig:
    from extremal.pipeline.channel_run import located

    return located(config)


INVERSION = Study(
    "inversion",
    scores=(inversion_scores,),  # it points at nothing
    maps=lambda settings: (),
    checked=check_counts,
    source=_source,
    inherited=_inherited,
    located=_located,
)
