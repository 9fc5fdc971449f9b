"""Explaining one image, without Ray or a run: masks as PNG overlays and the score-vs-area plot."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from jobs.pictures import heat, overlay, save_curves, save_sheet
from pipeline.config import ConfigError, RunConfig
from workers import channel_attribution, decode, extremal_perturbation, load_network
from workers.images import ImageError
from workers.networks import Network


def explain(
    path: Path, network_arguments: dict[str, object], config: RunConfig, out: Path, console: Console
) -> list[Path]:
    """Write the pictures of one image into `out`.

    Returns:
        The files written.

    Raises:
        ImageError, NetworkError, LayerError, ConfigError: with the fix.
        OSError: `out` cannot be written.
    """
    if config.method not in ("spatial", "channel"):
        raise ConfigError("explain draws the masks of --method spatial or channel; others need a run.")
    network = load_network(**network_arguments)  # type: ignore[arg-type]
    network = replace(network, precision=config.precision)
    network = network.to("cuda" if torch.cuda.is_available() else "cpu")
    image = decode(path)
    try:
        x = network.preprocess(image)[None].to(network.device)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    target = _target(network, x, config.dataset.target)
    name = network.classes[target] if network.classes else f"output {target}"
    out.mkdir(parents=True, exist_ok=True)
    picture = displayed(x[0], network)
    targets = torch.tensor([target], device=network.device)
    make = _spatial if config.method == "spatial" else _channel
    return make(network, x, targets, config, out / path.stem, picture, name, console)


def _target(network: Network, x: Tensor, wanted: int | None) -> int:
    with torch.no_grad():
        logits = network.original(x.clone())[0]  # a network may work in place on its input
    if wanted is None:
        return int(logits.argmax())
    if not 0 <= wanted < len(logits):
        raise ConfigError(f"--target {wanted}: {network.name} has outputs 0 to {len(logits) - 1}.")
    return wanted


def displayed(x: Tensor, network: Network) -> np.ndarray:
    """A network input (3,h,w) as a picture (h,w,3) in 0..1."""
    mean, std = (x.new_tensor(v)[:, None, None] for v in (network.preprocess.mean, network.preprocess.std))
    return np.asarray((x * std + mean).clamp(0, 1).permute(1, 2, 0).cpu().numpy())


def _spatial(
    network: Network,
    x: Tensor,
    targets: Tensor,
    config: RunConfig,
    stem: Path,
    picture: np.ndarray,
    name: str,
    console: Console,
) -> list[Path]:
    steps = config.spatial.schedule.steps
    console.print(f"optimizing {len(config.spatial.areas)} masks for {name}, {steps} steps ...")
    result = extremal_perturbation(network, x, targets, seed=config.seed, config=config.spatial)
    areas, scores = config.spatial.areas, result.scores[0].tolist()
    shown = [overlay(picture, mask.cpu().numpy()) for mask in result.masks[0]]
    texts = [f"area {a:g}: {s:.1f}" for a, s in zip(areas, scores, strict=True)]
    files = [stem.with_name(f"{stem.name}-{kind}.png") for kind in ("masks", "scores")]
    full, perturbed = float(result.score_full), float(result.score_perturbed)
    save_sheet(files[0], [[picture, *shown]], [[f"{name}: {full:.1f}", *texts]])
    a_star = None if result.a_star.isnan().item() else float(result.a_star)
    save_curves(
        files[1],
        areas,
        {"preserve": scores, "delete": result.scores_deleted[0].tolist()},
        {"whole image": full, "fully perturbed": perturbed},
        a_star,
        "area kept",
    )
    reached = "no area reaches the full score" if a_star is None else f"a* = {a_star:g}"
    console.print(f"{name}: score {full:.2f}, fully perturbed {perturbed:.2f}; {reached}")
    return files


def _channel(
    network: Network,
    x: Tensor,
    targets: Tensor,
    config: RunConfig,
    stem: Path,
    picture: np.ndarray,
    name: str,
    console: Console,
) -> list[Path]:
    steps = config.channel.schedule.steps
    console.print(f"optimizing channel masks of {config.channel.layer} for {name}, {steps} steps ...")
    result = channel_attribution(network, x, targets, config=config.channel)
    counts, full = result.counts, float(result.score_full)
    saliency = F.interpolate(result.saliency[None], size=picture.shape[:2], mode="bilinear")[0, 0]
    files = [stem.with_name(f"{stem.name}-{kind}.png") for kind in ("channels", "channel-scores")]
    a_star = None if result.a_star.isnan().item() else int(result.a_star)
    text = f"{len(result.masks[0, 0])} channels, a* = {a_star}"
    save_sheet(files[0], [[picture, heat(picture, saliency.cpu().numpy())]], [[f"{name}: {full:.1f}", text]])
    save_curves(
        files[1],
        counts,
        {"best channels, exactly": result.scores_binary[0].tolist(), "mask": result.scores[0].tolist()},
        {"all channels": full, "no channel": float(result.score_perturbed)},
        a_star,
        f"channels of {config.channel.layer} kept",
    )
    index = counts.index(a_star) if a_star in counts else len(counts) - 1
    top = result.masks[0, index].argsort(descending=True, stable=True)[:10].tolist()
    console.print(f"{name}: score {full:.2f}; a* = {a_star}; top channels {top}")
    return files
