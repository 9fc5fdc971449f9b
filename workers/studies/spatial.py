"""The study `spatial`: extremal perturbations of pairs."""

import math

from extremal.storage import Run
from extremal.workers.config import RunConfig
from extremal.workers.extremal.settings import SpatialConfig
from extremal.workers.extremal.spatial import SpatialResult, extremal_perturbation
from extremal.workers.networks.network import Network
from extremal.workers.pointing.smooth import Smooth
from extremal.workers.shard.rows import Item, Row, flat_rows
from extremal.workers.studies.computation import FittedSlots, Outcome, explained, pair_batch, pointed


class Spatial:
    """Masks of many areas, and a point of their sum; a `Computation`."""

    def __init__(self, network: Network, config: RunConfig, run: Run) -> None:
        self._network, self._settings = network, config.settings(SpatialConfig)
        self._wanted, self._fitted = config.slots, FittedSlots()

    @property
    def slots(self) -> int | None:
        return self._fitted.fewest

    def compute(self, items: list[Item]) -> list[Outcome]:
        batch = pair_batch(self._network, items)
        fitted = self._fitted.of(batch.shape)
        result = extremal_perturbation(
            self._network,
            batch.images,
            batch.targets,
            seed=batch.seeds,
            config=self._settings,
            slots=fitted.get("extremal", self._wanted),
            image=batch.image,
        )
        fitted["extremal"] = result.slots
        smooth = Smooth(self._settings.smooth)
        outcomes = pointed(items, "extremal", _rows(result), result.masks.sum(1), smooth)
        return explained(self._network, batch, outcomes)


def _rows(result: SpatialResult) -> list[Row]:
    """Rows of `SPATIAL` without key, target, seed and time."""
    rows = flat_rows(
        {
            "score_full": result.score_full,
            "score_perturbed": result.score_perturbed,
            "score_preserve": result.scores,
            "score_delete": result.scores_deleted,
            "area_reached": result.areas,
            "area_term": result.area_term,
            "binarity": result.binarity,
            "energy": result.energy,
            "energy_trace": result.energy_trace,
            "params": result.params,
            "steps": result.steps,
            "search_steps": result.search_steps,
        }
    )
    for row, a_star in zip(rows, result.a_star.tolist(), strict=True):
        row |= {
            "input_shape": list(result.masks.shape[-2:]),
            "areas": list(result.config.areas),
            "params_shape": list(result.params.shape[1:]),
            "energy_steps": list(result.energy_steps),
            "a_star": None if math.isnan(a_star) else a_star,
        }
    return rows
