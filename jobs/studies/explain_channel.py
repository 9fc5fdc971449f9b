"""The channels that speak for one image's class, and its scores against their number."""

from pathlib import Path

from rich.console import Console

from extremal.jobs.drawing import Curves, Panel, curve_sheet, heat, save, sheet
from extremal.jobs.studies.explained import ExplainedImage
from extremal.workers import channel_attribution
from extremal.workers.config import RunConfig
from extremal.workers.extremal.settings import ChannelConfig


def explain(image: ExplainedImage, config: RunConfig, console: Console) -> list[Path]:
    """Write the saliency of eq. 11, and the curves."""
    settings, name = config.settings(ChannelConfig), image.name
    steps, layer = settings.schedule.steps, settings.layer
    console.print(f"optimizing channel masks of {layer} for {name}, {steps} steps ...")
    result = channel_attribution(image.network, image.x, image.targets, config=settings)
    counts, full = result.counts, float(result.score_full)
    files = image.files("channels", "channel-scores")
    a_star = None if result.a_star.isnan().item() else int(result.a_star)
    text = f"{len(result.masks[0, 0])} channels, a* = {a_star}"
    saliency = heat(image.picture, result.saliency[0].cpu().numpy())
    save(sheet([[Panel(f"{name}: {full:.1f}", image.picture), Panel(text, saliency)]]), files[0])
    masks = {"best channels, exactly": result.scores_binary[0].tolist(), "mask": result.scores[0].tolist()}
    levels = {"all channels": full, "no channel": float(result.score_perturbed)}
    save(curve_sheet(Curves(counts, masks, levels, a_star, f"channels of {layer} kept")), files[1])
    index = counts.index(a_star) if a_star in counts else len(counts) - 1
    top = result.masks[0, index].argsort(descending=True, stable=True)[:10].tolist()
    console.print(f"{name}: score {full:.2f}; a* = {a_star}; top channels {top}")
    return files
