"""Channel attribution: the channels of an inner layer that keep the class score (section 5)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from typing_extensions import TypedDict, Unpack

from extremal.workers.extremal.a_star import first_reaching
from extremal.workers.extremal.arguments import check_keywords, check_pairs
from extremal.workers.extremal.channel_objective import ChannelObjective
from extremal.workers.extremal.engine import maximize
from extremal.workers.extremal.problems import Problem, alone, tabulate, trace_steps
from extremal.workers.extremal.settings import ChannelConfig, default_counts, with_steps
from extremal.workers.networks.cut import Split, split_network
from extremal.workers.networks.network import Network, frozen


class ChannelComputing(TypedDict, total=False):
    """How the masks are computed.

    Attributes:
        split: the network already split at the layer.
        slots: most masks at once; None = `fitting_slots`.
        image: (B,) the image of each target, where several targets share one; None = one image each.
    """

    split: Split | None
    slots: int | None
    image: Sequence[int] | None


@dataclass(frozen=True)
class ChannelResult:
    """Channel masks of B images and A counts over K channels; float32, on the device of the network.

    Attributes:
        masks: (B,A,K) in [0,1] as optimized, 1 = keep.
        scores: (B,A) logit under those masks.
        scores_binary: (B,A) logit with exactly the count's largest channels kept.
        score_full, score_perturbed: (B,) logit with all channels, and with none.
        areas: (B,A) sums of the masks: the counts reached.
        area_term, binarity, energy: (B,A).
        energy_steps: iterations of the trace. energy_trace: (B,A,T).
        steps: (B,A) int64, iterations that each mask took.
        a_star: (B,) smallest count whose binary mask reaches tau of the full score; the count of all
            channels always does.
        a_star_soft: (B,) the same for the masks as optimized, NaN if none does.
        saliency: (B,h,w) eq. 11: activations summed over channels with the mask of a_star as weights.
        activations: (B,K) the largest of each channel over its positions, of the whole image.
        counts: the A counts. slots: most masks at once, less than asked for where memory ran out.
        config: every number used.
    """

    masks: Tensor
    scores: Tensor
    scores_binary: Tensor
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
    a_star_soft: Tensor
    saliency: Tensor
    activations: Tensor
    counts: tuple[int, ...]
    slots: int
    config: ChannelConfig


def channel_attribution(
    network: Network | nn.Module,
    images: Tensor,
    targets: Tensor,
    layer: str | None = None,
    counts: Sequence[int] | None = None,
    *,
    steps: int | None = None,
    config: ChannelConfig | None = None,
    **computing: Unpack[ChannelComputing],
) -> ChannelResult:
    r"""Channel masks of a batch, batched over images and counts together.

    Fong, Patrick and Vedaldi, "Understanding Deep Networks via Extremal Perturbations and Smooth Masks",
    ICCV 2019, eqs. 9 to 11: of every count $`k`$, the mask over a layer's channels with the best score, the
    smallest count that reaches the full score, and the activations it keeps as a map,

    ```math
    m_k = \underset{m}{\operatorname{argmax}} \Phi(m \otimes \phi(x)) - \lambda R_k(m)
    \qquad
    a^* = \min \{ k : \Phi(m_k \otimes \phi(x)) \ge \tau \Phi(x) \}
    \qquad
    s = \sum_c m_{a^*,c} \phi_c(x)
    ```

    where $`\phi`$ is the network up to the layer and $`R_k`$ the ranked `area_term`. The layers up to
    `layer` run once per image; only those after it run in the loop. See docs/mathematics.md.

    Args:
        network: from `load_network`, or any module that maps (B,3,H,W) to logits.
        images: (B,3,H,W) float, preprocessed for the network.
        targets: (B,) class indices.
        layer: dotted name; None = inception4d.
        counts: ascending numbers of channels; None = the paper's 21, scaled to the layer.
        steps: iterations; None = 300.
        config: replaces layer, counts and steps.
        **computing: `split`, `slots`, `image`; see `ChannelComputing`.

    Raises:
        LayerError: the network has no such layer, or cannot be split there.
        TypeError: it takes no keyword argument of that name.
        ValueError: shapes do not fit, or a number is out of range.

    Example:
        The class score is the second of three channels, so the mask keeps that one:

        >>> class Second(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.colours = torch.nn.Identity()
        ...     def forward(self, x):
        ...         return 10 * self.colours(x).mean((2, 3))[:, 1:2]
        >>> image, target = torch.ones(1, 3, 8, 8), torch.tensor([0])
        >>> result = channel_attribution(Second(), image, target, "colours", [1])
        >>> result.masks[0, 0].round()
        tensor([0., 1., 0.])
        >>> float(result.a_star)
        1.0
    """
    check_keywords(channel_attribution, computing, ChannelComputing)
    config = config or ChannelConfig()
    if layer is not None:
        config = replace(config, layer=layer)
    if counts is not None:
        config = replace(config, counts=tuple(counts))
    config = replace(config, schedule=with_steps(config.schedule, steps))
    return _attribute(network, images, targets, config, **computing)


def _attribute(
    network: Network | nn.Module,
    images: Tensor,
    targets: Tensor,
    config: ChannelConfig,
    *,
    split: Split | None = None,
    slots: int | None = None,
    image: Sequence[int] | None = None,
) -> ChannelResult:
    index = check_pairs(images, targets, image)
    with frozen(network) as net:
        height, width = images.shape[-2:]
        split = split or split_network(net, config.layer, (height, width) if height == width else None)
        if split.layer != config.layer:
            raise ValueError(f"the network was split at {split.layer}, not at {config.layer}")
        with torch.no_grad():
            activation = split.head(images.to(net.device, copy=True))
        objective = ChannelObjective(split, activation, index.to(net.device), targets.to(net.device))
        return _run(objective, config, slots)


def _run(objective: ChannelObjective, config: ChannelConfig, slots: int | None) -> ChannelResult:
    channels, targets = objective.channels, objective.targets
    counts = config.counts or default_counts(channels)
    if counts[-1] > channels:
        raise ValueError(f"counts go up to {counts[-1]}, but {config.layer} has {channels} channels")
    chains = [alone(Problem(item, count)) for item in range(len(targets)) for count in counts]
    solutions, slots = maximize(chains, objective, config.schedule, slots)
    with torch.no_grad():
        everyone = torch.arange(len(targets), device=targets.device)
        ones = objective.everything().expand(len(targets), -1)
        full, nothing = objective.score(ones, everyone), objective.score(0 * ones, everyone)
    table = tabulate(solutions, len(targets), counts)
    scores_binary = table["scores_binary"]
    if counts[-1] == channels:
        # All channels kept is the image itself: rounding in another batch must not decide a_star.
        scores_binary[:, -1] = full
    masks, sizes = table["params"], full.new_tensor(counts)
    value = objective.activation.value[objective.image]
    a_star = first_reaching(scores_binary, sizes, full, config.tau)
    return ChannelResult(
        masks=masks,
        scores=table["reward"],
        scores_binary=scores_binary,
        score_full=full,
        score_perturbed=nothing,
        areas=masks.sum(-1),
        area_term=table["penalty"],
        binarity=torch.minimum(masks, 1 - masks).mean(-1),
        energy=table["energy"],
        energy_steps=trace_steps(config.schedule.steps),
        energy_trace=table["energies"],
        steps=table["steps"],
        a_star=a_star,
        a_star_soft=first_reaching(table["reward"], sizes, full, config.tau),
        saliency=_saliency(value.float(), objective.dim, masks, sizes, a_star),
        activations=_largest(value, objective.dim).float(),
        counts=counts,
        slots=slots,
        config=config,
    )


def _largest(value: Tensor, dim: int) -> Tensor:
    """(B,K) of activations with their channels in dimension dim: the largest over the other dimensions."""
    return value.movedim(dim, 1).reshape(len(value), value.shape[dim], -1).amax(-1)


def _saliency(value: Tensor, dim: int, masks: Tensor, sizes: Tensor, a_star: Tensor) -> Tensor:
    """Eq. 11 with the mask of a_star, or of the largest count where none reaches tau.

    Tokens (B,T,D) become the square grid of their patches, a leading class token left out; a layer
    without space gives a 1x1 map.
    """
    index = torch.where(a_star.isnan(), len(sizes) - 1, (sizes == a_star[:, None]).int().argmax(1))
    chosen = masks[torch.arange(len(masks), device=masks.device), index]
    summed = torch.einsum("bk...,bk->b...", value.movedim(dim, 1), chosen)
    if summed.ndim == 3:
        return summed
    if summed.ndim == 1:
        return summed[:, None, None]
    side = int(summed.shape[1] ** 0.5)
    return summed[:, -(side * side) :].reshape(-1, side, side)
