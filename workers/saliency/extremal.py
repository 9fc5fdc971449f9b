"""Extremal perturbations as one of several saliency methods."""

from extremal.workers.extremal.spatial import extremal_perturbation
from extremal.workers.saliency.batch import Batch, Maps, Method


def extremal(batch: Batch) -> Maps:
    """Maps (B,H,W) of the input's size: the sum of the masks over the areas (protocol item 17)."""
    found = extremal_perturbation(
        batch.network,
        batch.images,
        batch.targets,
        seed=batch.seeds,
        config=batch.spatial,
        slots=batch.fitted.get("extremal", batch.slots),
        image=batch.image,
    )
    batch.fitted["extremal"] = found.slots
    told = {"score_preserve": found.scores.mean(1), "steps": found.steps.sum(1).float()}
    return Maps(found.masks.sum(1), told)


# Its blur is a setting of its own, spatial.smooth.
EXTREMAL = Method(extremal)
