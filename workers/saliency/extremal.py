"""Extremal perturbations as one of several saliency methods."""

from extremal.workers.extremal.settings import SpatialConfig
from extremal.workers.extremal.spatial import extremal_perturbation
from extremal.workers.pointing.smooth import Smooth
from extremal.workers.saliency.batch import Batch, Maps, Method


def extremal(batch: Batch) -> Maps:
    r"""Maps (B,H,W) of the input's size: the sum of the masks over the areas (protocol item 17).

    Fong et al., ICCV 2019: $`s = \sum_a m_a`$, blurred by `spatial.smooth`; see `extremal_perturbation`.
    """
    config = batch.settings(SpatialConfig)
    result = extremal_perturbation(
        batch.network,
        batch.images,
        batch.targets,
        seed=batch.seeds,
        config=config,
        slots=batch.fitted.get("extremal", batch.slots),
        image=batch.image,
    )
    batch.fitted["extremal"] = result.slots
    diagnostics = {"score_preserve": result.scores.mean(1), "steps": result.steps.sum(1).float()}
    return Maps(result.masks.sum(1), diagnostics, Smooth(config.smooth))


EXTREMAL = Method(extremal)
