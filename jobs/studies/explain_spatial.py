"""Masks of one image over areas, and its scores against the area."""

from pathlib import Path

from rich.console import Console

from extremal.jobs.drawing import Curves, Panel, curve_sheet, overlay, save, sheet
from extremal.jobs.studies.explained import ExplainedImage
from extremal.workers import extremal_perturbation
from extremal.workers.config import RunConfig
from extremal.workers.extremal.settings import SpatialConfig


def explain(image: ExplainedImage, config: RunConfig, console: Console) -> list[Path]:
    """Write the masks as overlays, and the curves."""
    settings, name = config.settings(SpatialConfig), image.name
    areas = settings.areas
    console.print(f"optimizing {len(areas)} masks for {name}, {settings.schedule.steps} steps ...")
    result = extremal_perturbation(image.network, image.x, image.targets, seed=config.seed, config=settings)
    scores = result.scores[0].tolist()
    masks = zip(areas, scores, result.masks[0], strict=True)
    shown = [
        Panel(f"area {area:g}: {score:.1f}", overlay(image.picture, mask.cpu().numpy()))
        for area, score, mask in masks
    ]
    files = image.files("masks", "scores")
    full, perturbed = float(result.score_full), float(result.score_perturbed)
    save(sheet([[Panel(f"{name}: {full:.1f}", image.picture), *shown]]), files[0])
    a_star = None if result.a_star.isnan().item() else float(result.a_star)
    levels = {"whole image": full, "fully perturbed": perturbed}
    games = {"preserve": scores, "delete": result.scores_deleted[0].tolist()}
    save(curve_sheet(Curves(areas, games, levels, a_star, "area kept")), files[1])
    reached = "no area reaches the full score" if a_star is None else f"a* = {a_star:g}"
    console.print(f"{name}: score {full:.2f}, fully perturbed {perturbed:.2f}; {reached}")
    return files
