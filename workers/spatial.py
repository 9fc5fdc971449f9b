"""Extremal perturbations: for every image and area, the smooth mask of that area with the best score."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from workers.config import Game, Jitter, Preset, SpatialConfig, spatial_preset, with_steps
from workers.masks import mask_family
from workers.networks import Network, frozen
from workers.optimize import first_reaching, maximize
from workers.perturbation import perturb, pyramid


@dataclass(frozen=True)
class SpatialResult:
    """Extremal masks of B images and A areas; float32, on the device of the network.

    Attributes:
        masks: (B,A,H,W) in [0,1], 1 = keep.
        params: (B,A,rows,columns) that draw them.
        scores: (B,A) logit with only the mask kept.
        scores_deleted: (B,A) logit with the mask deleted.
        score_full, score_perturbed: (B,) logit of the image, and of the fully perturbed image.
        areas: (B,A) mean of the masks: the areas reached.
        area_term, binarity, energy: (B,A) distance to the ideal mask, mean of min(m,1-m), objective.
        energy_steps: iterations of the trace. energy_trace: (B,A,T).
        a_star: (B,) smallest wanted area whose score reaches tau of the full score, NaN if none does.
        config: every number used.
    """

    masks: Tensor
    params: Tensor
    scores: Tensor
    scores_deleted: Tensor
    score_full: Tensor
    score_perturbed: Tensor
    areas: Tensor
    area_term: Tensor
    binarity: Tensor
    energy: Tensor
    energy_steps: tuple[int, ...]
    energy_trace: Tensor
    a_star: Tensor
    config: SpatialConfig


def extremal_perturbation(
    network: Network | nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    areas: Sequence[float] | None = None,
    game: Game | None = None,
    preset: Preset = "torchray",
    steps: int | None = None,
    seed: int | Sequence[int] = 0,
    config: SpatialConfig | None = None,
) -> SpatialResult:
    """Extremal perturbations of a batch (eqs. 2-4), batched over images and areas together.

    Args:
        network: from `load_network`, or any module that maps (B,3,H,W) to logits.
        images: (B,3,H,W) float, preprocessed for the network.
        targets: (B,) class indices.
        areas: ascending fractions of the mask to keep; None = the preset's.
        game: preserve, delete or hybrid; None = the preset's (preserve).
        preset: torchray or paper, all other numbers.
        steps: iterations; None = the preset's 800 or 1600.
        seed: of the random jitter, one for all images or one per image. Presets draw nothing at random.
        config: replaces preset, areas, game and steps.

    Raises:
        ValueError: shapes do not fit, or a number is out of range.
    """
    config = config or spatial_preset(preset)
    if areas is not None:
        config = replace(config, areas=tuple(areas))
    if game is not None:
        config = replace(config, game=game)
    config = replace(config, schedule=with_steps(config.schedule, steps))
    check_batch(images, targets)
    with frozen(network) as net:
        device = net.device
        return _run(net, images.to(device), targets.to(device), _flips(config, len(images), seed), config)


def check_batch(images: Tensor, targets: Tensor) -> None:
    """Raise ValueError unless images are (B,3,H,W) floats and targets (B,) integers."""
    if images.ndim != 4 or not images.is_floating_point() or len(images) == 0:
        raise ValueError(f"images must be floats (B,3,H,W), not {images.dtype} {tuple(images.shape)}")
    if targets.shape != images.shape[:1] or targets.is_floating_point():
        raise ValueError(
            f"targets must be {len(images)} integers, not {targets.dtype} {tuple(targets.shape)}"
        )


def _run(
    network: Network, images: Tensor, targets: Tensor, flips: np.ndarray, config: SpatialConfig
) -> SpatialResult:
    batch, wanted = len(images), len(config.areas)
    height, width = images.shape[-2:]
    family = mask_family(height, width, config.mask, images.device, images.dtype)
    levels = pyramid(images, config)
    outputs = targets.repeat_interleave(wanted)
    flip = torch.from_numpy(flips.repeat(wanted, axis=1)).to(images.device)

    def draw(params: Tensor) -> tuple[Tensor, Tensor]:
        padded = family.draw(params)
        return padded, family.crop(padded)

    def score(masks: Tensor, flipped: Tensor | None = None) -> Tensor:
        shown = perturb(levels, masks.view(batch, wanted, height, width)).flatten(0, 1)
        if flipped is not None:
            shown = torch.where(flipped[:, None, None, None], shown.flip(-1), shown)
        return pick(network(shown), outputs)

    def evaluate(params: Tensor, step: int) -> tuple[Tensor, Tensor]:
        padded, masks = draw(params)
        jitter = flip[step] if config.jitter != "none" else None
        if config.game == "preserve":
            reward = score(masks, jitter)
        elif config.game == "delete":
            reward = -score(1 - masks, jitter)
        else:
            reward = score(masks, jitter) - score(1 - masks, jitter)
        return reward, padded.flatten(1)

    pixels = int(np.prod(family.padded_shape))
    kept = tuple(pixels - int(pixels * (1 - area)) for area in config.areas)
    params = images.new_ones(batch * wanted, *family.param_shape)
    trace = maximize(params, evaluate, kept, config.schedule)

    with torch.no_grad():
        masks = draw(params)[1].view(batch, wanted, height, width)
        ends = pick(network(torch.cat([images, levels[:, 0]])), targets.repeat(2)).view(2, batch)
        scores = score(masks).view(batch, wanted)
        deleted = score(1 - masks).view(batch, wanted)
    by_area = (batch, wanted)
    return SpatialResult(
        masks=masks,
        params=params.view(*by_area, *family.param_shape),
        scores=scores,
        scores_deleted=deleted,
        score_full=ends[0],
        score_perturbed=ends[1],
        areas=masks.mean((-2, -1)),
        area_term=trace.area_term.view(by_area),
        binarity=torch.minimum(masks, 1 - masks).mean((-2, -1)),
        energy=trace.energy.view(by_area),
        energy_steps=trace.steps,
        energy_trace=trace.energies.view(*by_area, -1),
        a_star=first_reaching(scores, images.new_tensor(config.areas), ends[0], config.tau),
        config=config,
    )


def pick(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,C) logits and (N,) classes -> (N,) scores."""
    return logits.gather(1, targets[:, None])[:, 0]


def _flips(config: SpatialConfig, batch: int, seed: int | Sequence[int]) -> np.ndarray:
    """(steps,B) bool: where the perturbed image is flipped left-right.

    Random flips come from each image's own generator, so that they do not depend on its batch.
    """
    steps, jitter = config.schedule.steps, config.jitter
    seeds = [seed] * batch if isinstance(seed, int) else list(seed)
    if len(seeds) != batch:
        raise ValueError(f"{len(seeds)} seeds for {batch} images")
    return np.stack([_flip_column(jitter, steps, s) for s in seeds], axis=1)


def _flip_column(jitter: Jitter, steps: int, seed: int) -> np.ndarray:
    if jitter == "random":
        return np.asarray(np.random.default_rng(seed).random(steps) < 0.5)
    return np.asarray((np.arange(steps) % 2 == 0) & (jitter == "alternate"))
