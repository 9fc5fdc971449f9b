"""Channel attribution: the channels of an inner layer that keep the class score (section 5)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from workers.config import ChannelConfig, default_counts, with_steps
from workers.networks import Network, frozen
from workers.optimize import first_reaching, maximize
from workers.spatial import check_batch, pick
from workers.split import Activation, Split, split_network


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
        a_star: (B,) smallest count whose binary mask reaches tau of the full score; the count of all
            channels always does.
        a_star_soft: (B,) the same for the masks as optimized, NaN if none does.
        saliency: (B,h,w) eq. 11: activations summed over channels with the mask of a_star as weights.
        counts: the A counts. config: every number used.
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
    a_star: Tensor
    a_star_soft: Tensor
    saliency: Tensor
    counts: tuple[int, ...]
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
    split: Split | None = None,
) -> ChannelResult:
    """Channel masks of a batch (eqs. 9-11), batched over images and counts together.

    The layers up to `layer` run once per image; only those after it run in the loop.

    Args:
        network: from `load_network`, or any module that maps (B,3,H,W) to logits.
        images: (B,3,H,W) float, preprocessed for the network.
        targets: (B,) class indices.
        layer: dotted name; None = inception4d.
        counts: ascending numbers of channels; None = the paper's 21, scaled to the layer.
        steps: iterations; None = 300.
        config: replaces layer, counts and steps.
        split: the network already split at the layer.

    Raises:
        LayerError: the network has no such layer, or cannot be split there.
        ValueError: shapes do not fit, or a number is out of range.
    """
    config = config or ChannelConfig()
    if layer is not None:
        config = replace(config, layer=layer)
    if counts is not None:
        config = replace(config, counts=tuple(counts))
    config = replace(config, schedule=with_steps(config.schedule, steps))
    check_batch(images, targets)
    with frozen(network) as net:
        height, width = images.shape[-2:]
        split = split or split_network(net, config.layer, (height, width) if height == width else None)
        if split.layer != config.layer:
            raise ValueError(f"the network was split at {split.layer}, not at {config.layer}")
        with torch.no_grad():
            activation = split.head(images.to(net.device, copy=True))
        return _run(split, activation, targets.to(net.device), config)


def _run(split: Split, activation: Activation, targets: Tensor, config: ChannelConfig) -> ChannelResult:
    value = activation.value
    batch, dim = len(value), split.channel_dim(value)
    channels = value.shape[dim]
    counts = config.counts or default_counts(channels)
    if counts[-1] > channels:
        raise ValueError(f"counts go up to {counts[-1]}, but {config.layer} has {channels} channels")

    def score(masks: Tensor) -> Tensor:
        """(B*M,K) masks, M consecutive ones per image -> (B*M,) scores."""
        repeats = len(masks) // batch
        shape = [batch, repeats] + [1] * (value.ndim - 1)
        shape[dim + 1] = channels
        masked = (value[:, None] * masks.view(shape)).flatten(0, 1)
        return pick(split.tail(masked, activation, repeats), targets.repeat_interleave(repeats))

    def evaluate(params: Tensor, step: int) -> tuple[Tensor, Tensor]:
        return score(params), params

    params = value.new_ones(batch * len(counts), channels)
    trace = maximize(params, evaluate, counts, config.schedule)

    by_count = (batch, len(counts))
    masks = params.view(*by_count, channels)
    binary = keep_largest(masks, counts)
    with torch.no_grad():
        scores_binary = score(binary.flatten(0, 1)).view(by_count)
        ends = score(value.new_tensor([[0.0], [1.0]]).expand(2, channels).repeat(batch, 1)).view(batch, 2)
    if counts[-1] == channels:
        # All channels kept is the image itself: rounding in another batch must not decide a_star.
        scores_binary[:, -1] = ends[:, 1]
    sizes = value.new_tensor(counts)
    a_star = first_reaching(scores_binary, sizes, ends[:, 1], config.tau)
    scores = trace.reward.view(by_count)
    return ChannelResult(
        masks=masks,
        scores=scores,
        scores_binary=scores_binary,
        score_full=ends[:, 1],
        score_perturbed=ends[:, 0],
        areas=masks.sum(-1),
        area_term=trace.area_term.view(by_count),
        binarity=torch.minimum(masks, 1 - masks).mean(-1),
        energy=trace.energy.view(by_count),
        energy_steps=trace.steps,
        energy_trace=trace.energies.view(*by_count, -1),
        a_star=a_star,
        a_star_soft=first_reaching(scores, sizes, ends[:, 1], config.tau),
        saliency=_saliency(value, dim, masks, sizes, a_star),
        counts=counts,
        config=config,
    )


def keep_largest(masks: Tensor, counts: tuple[int, ...]) -> Tensor:
    """(B,A,K) -> binary masks that keep the counts[a] largest channels, the lowest index first in a tie."""
    rank = masks.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    limit = torch.tensor(counts, device=masks.device)
    return (rank < limit[:, None]).to(masks.dtype)


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
