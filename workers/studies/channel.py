"""The study `channel`: channel attribution of pairs."""

import math

from extremal.storage import Run
from extremal.workers.config import RunConfig
from extremal.workers.extremal.channel import ChannelResult, channel_attribution
from extremal.workers.extremal.settings import ChannelConfig
from extremal.workers.networks.cut import split_network
from extremal.workers.networks.network import Network
from extremal.workers.pointing.smooth import UNSMOOTHED
from extremal.workers.shard.rows import Item, Row, flat_rows
from extremal.workers.studies.computation import FittedSlots, Outcome, explained, pair_batch, pointed


class Channel:
    """Masks of many counts of channels, and a point of the map of a*; a `Computation`."""

    def __init__(self, network: Network, config: RunConfig, run: Run) -> None:
        self._network, self._settings = network, config.settings(ChannelConfig)
        self._wanted, self._fitted = config.slots, FittedSlots()
        self._split = split_network(network, self._settings.layer)

    @property
    def slots(self) -> int | None:
        return self._fitted.fewest

    def compute(self, items: list[Item]) -> list[Outcome]:
        batch = pair_batch(self._network, items)
        fitted = self._fitted.of(batch.shape)
        result = channel_attribution(
            self._network,
            batch.images,
            batch.targets,
            config=self._settings,
            split=self._split,
            slots=fitted.get("channel", self._wanted),
            image=batch.image,
        )
        fitted["channel"] = result.slots
        outcomes = pointed(items, "channel", _rows(result), result.saliency, UNSMOOTHED)
        return explained(self._network, batch, outcomes)


def _rows(result: ChannelResult) -> list[Row]:
    """Rows of `CHANNEL` without key, target, seed and time."""
    rows = flat_rows(
        {
            "score_full": result.score_full,
            "score_perturbed": result.score_perturbed,
            "score": result.scores,
            "score_binary": result.scores_binary,
            "count_reached": result.areas,
            "area_term": result.area_term,
            "binarity": result.binarity,
            "energy": result.energy,
            "energy_trace": result.energy_trace,
            "masks": result.masks,
            "saliency": result.saliency,
            "activations": result.activations,
            "steps": result.steps,
        }
    )
    stars = zip(result.a_star.tolist(), result.a_star_soft.tolist(), strict=True)
    for row, (a_star, soft) in zip(rows, stars, strict=True):
        row |= {
            "layer": result.config.layer,
            "counts": list(result.counts),
            "masks_shape": list(result.masks.shape[1:]),
            "energy_steps": list(result.energy_steps),
            "saliency_shape": list(result.saliency.shape[1:]),
            "a_star": None if math.isnan(a_star) else int(a_star),
            "a_star_soft": None if math.isnan(soft) else int(soft),
        }
    return rows
