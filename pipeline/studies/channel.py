"""The study `channel`: channel attribution of pairs."""

from typing import TYPE_CHECKING

from extremal.pipeline.aggregates.shown import monotonicity_scores, pointing_scores
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.studies.study import Study
from extremal.workers.config import RunConfig
from extremal.workers.extremal.settings import ChannelConfig

if TYPE_CHECKING:
    from extremal.workers.networks.network import Network


def check_counts(config: RunConfig, network: "Network") -> RunConfig:
    """Refuse a layer that the network has not, and more channels than that has.

    Raises:
        LayerError, ConfigError: with the fix.
    """
    from extremal.workers.networks.cut import split_network

    settings = config.settings(ChannelConfig)
    split = split_network(network, settings.layer)
    if settings.counts and settings.counts[-1] > split.channels:
        raise ConfigError(
            f"channel.counts go up to {settings.counts[-1]}, but layer {settings.layer} "
            f"has {split.channels} channels. Lower the counts or leave them out."
        )
    return config


CHANNEL = Study(
    "channel",
    scores=(pointing_scores, monotonicity_scores),
    maps=lambda settings: ("channel",),
    checked=check_counts,
)
