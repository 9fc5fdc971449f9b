"""Explaining one image, without Ray or a run: masks as PNG overlays and the score-vs-area plot."""

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from extremal.jobs.figures.drawing import Curves, Panel, curve_sheet, displayed, heat, overlay, save, sheet
from extremal.jobs.studies import STUDIES
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.prepare import located
from extremal.workers import channel_attribution, decode, extremal_perturbation
from extremal.workers.config import RunConfig
from extremal.workers.device import chosen_device
from extremal.workers.errors import ImageError
from extremal.workers.extremal.settings import ChannelConfig, SpatialConfig
from extremal.workers.networks.configured import configured_network
from extremal.workers.networks.network import Network


@dataclass(frozen=True)
class Pair:
    """What is explained of one image.

    Attributes:
        x: (1,3,H,W), the network's input, on its device. targets: (1,) the output.
        name: of the output's class. picture: (H,W,3), the input as it is shown.
    """

    network: Network
    x: Tensor
    targets: Tensor
    name: str
    picture: np.ndarray


def explain(path: Path, config: RunConfig, out: Path, device: str | None, console: Console) -> list[Path]:
    """Write the pictures of one image into `out`.

    Returns:
        The files written.

    Raises:
        ImageError, NetworkError, LayerError, ConfigError: with the fix.
        OSError: `out` cannot be written.
    """
    at_once = {name: view.explain for name, view in STUDIES.items() if view.explain is not None}
    if config.method not in at_once:
        raise ConfigError(f"explain draws the masks of --method {' or '.join(at_once)}; others need a run.")
    network = replace(configured_network(located(config).network), precision=config.precision)
    network = network.to(chosen_device(device))
    image = decode(path)
    try:
        x = network.preprocess(image)[None].to(network.device)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    target = _target(network, x, config.dataset.target)
    name = network.classes[target] if network.classes else f"output {target}"
    out.mkdir(parents=True, exist_ok=True)
    targets = torch.tensor([target], device=network.device)
    pair = Pair(network, x, targets, name, displayed(x[0], network.preprocess))
    module, _, function = at_once[config.method].partition(":")
    files: list[Path] = getattr(import_module(module), function)(pair, config, out / path.stem, console)
    return files


def _target(network: Network, x: Tensor, wanted: int | None) -> int:
    with torch.no_grad():
        logits = network.original(x.clone())[0]  # a network may work in place on its input
    if wanted is None:
        return int(logits.argmax())
    if not 0 <= wanted < len(logits):
        raise ConfigError(f"--target {wanted}: {network.name} has outputs 0 to {len(logits) - 1}.")
    return wanted


def spatial_pictures(pair: Pair, config: RunConfig, stem: Path, console: Console) -> list[Path]:
    """Optimize the masks of the areas; draw them, and the scores. Returns the files, named after `stem`."""
    settings, name, picture = config.settings(SpatialConfig), pair.name, pair.picture
    areas = settings.areas
    console.print(f"optimizing {len(areas)} masks for {name}, {settings.schedule.steps} steps ...")
    result = extremal_perturbation(pair.network, pair.x, pair.targets, seed=config.seed, config=settings)
    scores = result.scores[0].tolist()
    masks = zip(areas, scores, result.masks[0], strict=True)
    shown = [Panel(f"area {a:g}: {s:.1f}", overlay(picture, mask.cpu().numpy())) for a, s, mask in masks]
    files = [stem.with_name(f"{stem.name}-{kind}.png") for kind in ("masks", "scores")]
    full, perturbed = float(result.score_full), float(result.score_perturbed)
    save(sheet([[Panel(f"{name}: {full:.1f}", picture), *shown]]), files[0])
    a_star = None if result.a_star.isnan().item() else float(result.a_star)
    levels = {"whole image": full, "fully perturbed": perturbed}
    games = {"preserve": scores, "delete": result.scores_deleted[0].tolist()}
    save(curve_sheet(Curves(areas, games, levels, a_star, "area kept")), files[1])
    reached = "no area reaches the full score" if a_star is None else f"a* = {a_star:g}"
    console.print(f"{name}: score {full:.2f}, fully perturbed {perturbed:.2f}; {reached}")
    return files


def channel_pictures(pair: Pair, config: RunConfig, stem: Path, console: Console) -> list[Path]:
    """Optimize the masks of channels; draw their map, and the scores. Returns the files, named after `stem`."""
    settings, name, picture = config.settings(ChannelConfig), pair.name, pair.picture
    steps = settings.schedule.steps
    console.print(f"optimizing channel masks of {settings.layer} for {name}, {steps} steps ...")
    result = channel_attribution(pair.network, pair.x, pair.targets, config=settings)
    counts, full = result.counts, float(result.score_full)
    files = [stem.with_name(f"{stem.name}-{kind}.png") for kind in ("channels", "channel-scores")]
    a_star = None if result.a_star.isnan().item() else int(result.a_star)
    text = f"{len(result.masks[0, 0])} channels, a* = {a_star}"
    saliency = heat(picture, result.saliency[0].cpu().numpy())
    save(sheet([[Panel(f"{name}: {full:.1f}", picture), Panel(text, saliency)]]), files[0])
    masks = {"best channels, exactly": result.scores_binary[0].tolist(), "mask": result.scores[0].tolist()}
    levels = {"all channels": full, "no channel": float(result.score_perturbed)}
    label = f"channels of {settings.layer} kept"
    save(curve_sheet(Curves(counts, masks, levels, a_star, label)), files[1])
    index = counts.index(a_star) if a_star in counts else len(counts) - 1
    top = result.masks[0, index].argsort(descending=True, stable=True)[:10].tolist()
    console.print(f"{name}: score {full:.2f}; a* = {a_star}; top channels {top}")
    return files
