"""Feature inversion: the picture whose activations are like those wanted (eq. 12; seeds CH-4, 2.9).

Activations of an image, as they are and under its channel mask, give two pictures; what is in the one and
not in the other is what the mask removes (CH-5). One channel is visualized by the same means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from extremal.workers.errors import LayerError
from extremal.workers.extremal.problems import trace_steps
from extremal.workers.heartbeat import PULSE
from extremal.workers.inversion.parameterization import draw_shakes, generators, noise, picture, shake
from extremal.workers.inversion.settings import InversionConfig, Objective
from extremal.workers.networks.backward_rules import Rules, relu_call
from extremal.workers.networks.cut import Split
from extremal.workers.networks.network import Network

SLOTS = 16  # pictures optimized at once unless said otherwise: about 2 GB in GoogLeNet


@dataclass(frozen=True)
class InversionResult:
    """Pictures of N targets; float32, on the device of the network.

    Attributes:
        pictures: (N,3,H,W) in [0,1], before the network's normalisation.
        activations: (N, ...) of the layer on the pictures as they are, not shaken.
        cosine: (N,) of those activations with the target, as vectors.
        energy: (N,K) sum of squares of each channel's activations.
        trace_steps: T iterations. trace: (N,T) objective at them, of the shaken pictures.
    """

    pictures: Tensor
    activations: Tensor
    cosine: Tensor
    energy: Tensor
    trace_steps: tuple[int, ...]
    trace: Tensor


def invert(
    network: Network,
    split: Split,
    targets: Tensor,
    seeds: Sequence[int],
    *,
    config: InversionConfig | None = None,
    size: tuple[int, int] | None = None,
    slots: int | None = None,
) -> InversionResult:
    r"""Pictures with the wanted activations, by gradient ascent (Adam) from noise, batched over targets.

    Fong, Patrick and Vedaldi, ICCV 2019, eq. 12; Mahendran and Vedaldi, "Understanding Deep Image
    Representations by Inverting Them", CVPR 2015. With $`t`$ a target, such as $`m \otimes \phi(x)`$, and
    $`\phi`$ the layer, the objective is, by `config.objective`, `dot` (eq. 12) or `distance` (thesis eq.
    2.11, without its regularizers):

    ```math
    \frac{\langle t, \phi(I) \rangle}{\|t\|^2}
    \qquad
    -\frac{\|\phi(I) - t\|^2}{\|t\|^2}
    ```

    Division by $`\|t\|^2`$, a constant, moves no maximum; with it the objective does not depend on the
    layer's scale. Of the regularizers, which the paper does not name (G11), the parameterization and the
    shaking of the picture at every step take the place.

    Args:
        network: gives the normalisation of the pictures; they are neither resized nor cropped.
        split: of that network at the layer.
        targets: (N, ...) as the layer's output.
        seeds: (N,) of the noise that a picture starts from and of its shaking; the same seed and another
            target go the same way.
        size: (H, W) of the pictures; None for the network's square.
        slots: most pictures at once; None = 16.

    Raises:
        ValueError: a target is zero, targets and seeds differ in number, or the targets' shape is not the
            layer's for pictures of this size.
    """
    config = config or InversionConfig()
    size = size or (network.side, network.side)
    if len(targets) != len(seeds):
        raise ValueError(f"{len(targets)} targets, but {len(seeds)} seeds: give one each")
    if not targets.flatten(1).any(1).all():
        raise ValueError("the activations to invert are zero everywhere: there is nothing to show")
    count = slots or SLOTS
    chunks = [slice(i, i + count) for i in range(0, len(targets), count)]
    parts = [_ascend(network, split, targets[at], seeds[at], config, size) for at in chunks]
    pictures, trace = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    reached = torch.cat([activations(network, split, pictures[at]) for at in chunks])
    return InversionResult(
        pictures=pictures,
        activations=reached,
        cosine=cosine(reached, targets),
        energy=energy(reached, split),
        trace_steps=trace_steps(config.steps),
        trace=trace,
    )


def channel_targets(network: Network, split: Split, channels: Sequence[int]) -> Tensor:
    """(N, ...) targets that visualize single channels on the network's square: one all over the channel.

    The objective `dot` is then the channel's mean activation: thesis eq. 2.10, its direction the channel's.

    Raises:
        LayerError: the layer has no such channel.
    """
    for channel in channels:
        if not 0 <= channel < split.channels:
            raise LayerError(
                f"layer {split.layer} has channels 0 to {split.channels - 1}, but no channel {channel}"
            )
    blank = torch.zeros(1, 3, network.side, network.side, device=network.device)
    shape = split.head(blank).value.shape
    targets = torch.zeros(len(channels), *shape[1:], device=network.device)
    for target, channel in zip(targets, channels, strict=True):
        target.select(split.channel_dim(targets) - 1, channel).fill_(1)
    return targets


def masked(value: Tensor, masks: Tensor, split: Split) -> Tensor:
    """m (x) phi(x): activations (N, ...) times channel masks (N,K)."""
    shape = [len(masks)] + [1] * (value.ndim - 1)
    shape[split.channel_dim(value)] = split.channels
    return value * masks.view(shape).to(value)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """(N,) cosines of two sets of activations (N, ...) as vectors; 0 where one of them is zero."""
    return F.cosine_similarity(first.flatten(1), second.flatten(1), dim=1)


def energy(value: Tensor, split: Split) -> Tensor:
    """(N,K) sums of squares of activations (N, ...) over the positions of each channel."""
    return value.movedim(split.channel_dim(value), 1).flatten(2).square().sum(2)


@torch.no_grad()
def activations(network: Network, split: Split, pictures: Tensor) -> Tensor:
    """(N, ...) float32 output of the layer on pictures (N,3,H,W) in [0,1]."""
    mean, std = _colours(network)
    return split.features((pictures - mean) / std)


def objectives(kind: Objective, value: Tensor, targets: Tensor) -> Tensor:
    """(N,) objective of activations (N, ...) for targets of their shape; see `invert`."""
    value, targets = value.flatten(1), targets.flatten(1)
    scale = targets.square().sum(1)
    if kind == "distance":
        return -(value - targets).square().sum(1) / scale
    return (value * targets).sum(1) / scale


def _ascend(
    network: Network,
    split: Split,
    targets: Tensor,
    seeds: Sequence[int],
    config: InversionConfig,
    size: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Pictures (N,3,H,W) and trace (N,T) of targets that go through the network together."""
    draws = generators(seeds)
    device, width = network.device, size[1]
    start = torch.stack([noise(config.parameterization, size, generator) for generator in draws])
    # Drawn before the loop, which then never waits for the host.
    shakes = torch.stack([draw_shakes(config, size, generator) for generator in draws], 1).to(device)
    parameters = start.to(device).requires_grad_()
    mean, std = _colours(network)
    optimizer = torch.optim.Adam([parameters], lr=config.lr)
    wanted, trace = set(trace_steps(config.steps)), []
    for step in range(config.steps):
        with torch.enable_grad():
            pictures = picture(config.parameterization, parameters, width)
            with Redirected():
                value = split.features((shake(pictures, shakes[step]) - mean) / std)
            if value.shape != targets.shape:
                raise ValueError(
                    f"targets {tuple(targets.shape)} do not fit {split.layer}: pictures of "
                    f"{size[0]}x{size[1]} give {tuple(value.shape)}"
                )
            reward = objectives(config.objective, value, targets)
            # Not backward(): no other tensor may be left with a gradient.
            (gradient,) = torch.autograd.grad(-reward.sum(), parameters)
        parameters.grad = gradient
        optimizer.step()
        PULSE.beat()
        if step in wanted:
            trace.append(reward.detach())
    with torch.no_grad():
        return picture(config.parameterization, parameters, width), torch.stack(trace, 1)


class Redirected(Rules):
    """ReLUs that let a gradient back to every picture.

    Of a channel that is off all over the grey picture at the start nothing would come back, and it would stay
    grey. The remedy is that of the article's authors: a picture to which a call lets nothing back gets what
    raises its inputs below zero. Every other gradient is the true one.
    """

    def replacement(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        call = relu_call(func, args, kwargs)
        if call is None:
            return None
        y: Tensor = _RedirectedRelu.apply(call.x, call.ceiling)
        return call.answer(y)


class _RedirectedRelu(torch.autograd.Function):
    """max(0, min(ceiling, x)) of (N,...); see `Redirected` for the way back, of a loss."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ceiling: float) -> Tensor:
        ctx.save_for_backward((x > 0) & (x < ceiling), x <= 0)
        return x.clamp(0, ceiling)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,), (open_, off) = gradients, ctx.saved_tensors
        through = gradient * open_
        nothing = ~through.flatten(1).any(1)
        raising = gradient.clamp(max=0) * off
        return torch.where(nothing.view(-1, *[1] * (through.ndim - 1)), raising, through), None


def _colours(network: Network) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (3,1,1) of the network's preprocessing, on its device.

    Not `Preprocess.normalised`, which copies and checks them at every call and so waits for the device.
    """
    chosen = network.preprocess.mean, network.preprocess.std
    mean, std = (torch.tensor(values, device=network.device)[:, None, None] for values in chosen)
    return mean, std
