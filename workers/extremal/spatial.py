"""Extremal perturbations: for every image and area, the smooth mask of that area with the best score."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from typing_extensions import TypedDict, Unpack

from extremal.workers.extremal.a_star import threshold
from extremal.workers.extremal.area_search import area_chains, smallest_area
from extremal.workers.extremal.arguments import check_keywords, check_pairs
from extremal.workers.extremal.engine import maximize
from extremal.workers.extremal.problems import tabulate, trace_steps
from extremal.workers.extremal.settings import Game, Preset, SpatialConfig, spatial_preset, with_steps
from extremal.workers.extremal.spatial_objective import SpatialObjective, flips_of
from extremal.workers.networks.network import Network, frozen


class SpatialNumbers(TypedDict, total=False):
    """Numbers that are given one by one.

    Attributes:
        areas: ascending fractions of the mask to keep; None = the preset's.
        game: preserve, delete or hybrid; None = the preset's (preserve).
        preset: fast, torchray or paper: all other numbers.
        steps: iterations; None = the preset's 100, 800 or 1600.
    """

    areas: Sequence[float] | None
    game: Game | None
    preset: Preset
    steps: int | None


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
        energy_steps: iterations of the trace. energy_trace: (B,A,T), NaN where a warm start spared an
            iteration.
        steps: (B,A) int64, iterations that each mask took.
        a_star: (B,) smallest area whose score reaches tau of the full score, NaN if none does; on the CPU.
        search_steps: (B,) int64, iterations spent on areas beyond the list, in search of a_star.
        slots: most masks at once, less than asked for where memory ran out.
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
    steps: Tensor
    a_star: Tensor
    search_steps: Tensor
    slots: int
    config: SpatialConfig


def extremal_perturbation(
    network: Network | nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    seed: int | Sequence[int] = 0,
    config: SpatialConfig | None = None,
    slots: int | None = None,
    image: Sequence[int] | None = None,
    **numbers: Unpack[SpatialNumbers],
) -> SpatialResult:
    r"""Extremal perturbations of a batch, batched over images and areas together.

    Fong, Patrick and Vedaldi, "Understanding Deep Networks via Extremal Perturbations and Smooth Masks",
    ICCV 2019, eqs. 2 to 4: of every area $`a`$, the smooth mask with the best score, its area asked for by
    a penalty,

    ```math
    m_a = \underset{m \in \mathcal{M}}{\operatorname{argmax}} \Phi(m \otimes x) - \lambda R_a(m)
    \qquad
    a^* = \min \{ a : \Phi(m_a \otimes x) \ge \tau \Phi(x) \}
    ```

    where $`\Phi`$ is the target's logit, $`m \otimes x`$ the image perturbed where the mask is low, and
    $`R_a`$ the ranked `area_term`. See docs/mathematics.md.

    Args:
        network: from `load_network`, or any module that maps (B,3,H,W) to logits.
        images: (B,3,H,W) float, preprocessed for the network.
        targets: (B,) class indices, one per pair.
        seed: of the random jitter, one for all pairs or one per pair. Presets draw nothing at random.
        config: every number; replaces the preset.
        slots: most masks at once; None = `fitting_slots`.
        image: (B,) the image of each target, where several targets share one; None = one image each.
        **numbers: `areas`, `game`, `preset`, `steps`; see `SpatialNumbers`.

    Raises:
        TypeError: it takes no keyword argument of that name.
        ValueError: shapes do not fit, or a number is out of range.

    Example:
        The class score is the contrast of the left half, which blurring takes away, so the mask lies there:

        >>> class Left(torch.nn.Module):
        ...     def forward(self, x):
        ...         return 100 * x[..., :32].abs().mean((1, 2, 3))[:, None]
        >>> checks = (torch.arange(64) + torch.arange(64)[:, None]) % 2 * 2.0 - 1
        >>> image, target = checks.expand(1, 3, 64, 64), torch.tensor([0])
        >>> result = extremal_perturbation(Left(), image, target, areas=[0.1], steps=30)
        >>> result.masks.shape
        torch.Size([1, 1, 64, 64])
        >>> left, right = result.masks[0, 0].chunk(2, dim=1)
        >>> bool(left.mean() > 4 * right.mean())
        True
    """
    check_keywords(extremal_perturbation, numbers, SpatialNumbers)
    config = _chosen(config, **numbers)
    index = check_pairs(images, targets, image)
    with frozen(network) as net:
        flips = flips_of(config, len(targets), seed)
        device = net.device
        objective = SpatialObjective(
            net, images.to(device), index.to(device), targets.to(device), flips, config
        )
        return _run(objective, slots)


def _chosen(
    config: SpatialConfig | None,
    *,
    areas: Sequence[float] | None = None,
    game: Game | None = None,
    preset: Preset = "fast",
    steps: int | None = None,
) -> SpatialConfig:
    config = config or spatial_preset(preset)
    if areas is not None:
        config = replace(config, areas=tuple(areas))
    if game is not None:
        config = replace(config, game=game)
    return replace(config, schedule=with_steps(config.schedule, steps))


def _run(objective: SpatialObjective, slots: int | None) -> SpatialResult:
    config, targets = objective.config, objective.targets
    full, nothing = objective.ends()
    wanted = threshold(full, config.tau).tolist()
    chains = [chain for item, score in enumerate(wanted) for chain in area_chains(item, score, config)]
    solutions, slots = maximize(chains, objective, config.schedule, slots)
    table = tabulate(solutions, len(targets), config.areas)
    masks = table["masks"]
    a_star, search_steps = smallest_area(solutions, wanted, config)
    return SpatialResult(
        masks=masks,
        params=table["params"],
        scores=table["scores"],
        scores_deleted=table["scores_deleted"],
        score_full=full,
        score_perturbed=nothing,
        areas=masks.mean((-2, -1)),
        area_term=table["penalty"],
        binarity=torch.minimum(masks, 1 - masks).mean((-2, -1)),
        energy=table["energy"],
        energy_steps=trace_steps(config.schedule.steps),
        energy_trace=table["energies"],
        steps=table["steps"],
        a_star=a_star,
        search_steps=search_steps,
        slots=slots,
        config=config,
    )
