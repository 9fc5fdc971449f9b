"""The study `saliency`: several methods of the same pairs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from extremal.pipeline.aggregates.shown import fidelity_scores, pointing_scores
from extremal.pipeline.config import merge, table_of
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.studies.channel import check_counts
from extremal.pipeline.studies.study import Study
from extremal.workers.config import RunConfig
from extremal.workers.saliency.config import SaliencyConfig
from extremal.workers.saliency.methods import METHODS
from extremal.workers.study_cards import STUDIES

if TYPE_CHECKING:
    from extremal.workers.networks.network import Network


def check_names(methods: Sequence[str]) -> None:
    """Refuse names that are no saliency methods.

    Raises:
        ConfigError: with those that are.
    """
    for name in methods:
        if name not in METHODS:
            raise ConfigError(
                f"There is no method {name!r} to compare. --method is {', '.join(STUDIES)}, or several of: "
                f"{', '.join(METHODS)}; separated by commas."
            )


def comparing(tree: dict[str, Any]) -> dict[str, Any]:
    """Settings whose `method` is no study but saliency methods, separated by commas, as those of this study.

    Raises:
        ConfigError: one of them is no method, or the section names others.
    """
    methods = [name.strip() for name in str(tree["method"]).split(",")]
    check_names([name for name in methods if name != "center"])
    if merge({}, table_of(tree, "saliency")).get("methods", methods) != methods:
        raise ConfigError("Methods are named twice, by method and by saliency.methods: give one of them.")
    return merge(tree, {"method": "saliency", "saliency": {"methods": methods}})


def _checked(config: RunConfig, network: "Network") -> RunConfig:
    """Refuses methods that do not work on the network; names the layers that they read."""
    from extremal.workers.saliency.check import check_methods
    from extremal.workers.saliency.layers import layers_of

    settings = config.settings(SaliencyConfig)
    check_names(settings.methods)
    check_methods(network, settings, config.read_sections())
    if "channel" in config.sections():
        check_counts(config, network)
    return config.with_settings(replace(settings, layers=layers_of(network, settings.layers)))


SALIENCY = Study(
    "saliency",
    scores=(pointing_scores, fidelity_scores),
    maps=lambda settings: settings.methods,
    checked=_checked,
)
