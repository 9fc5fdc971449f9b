"""Perturbing an image where a mask is low (section 3.4): a pyramid of strengths, looked up by the mask."""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from extremal.workers.extremal.settings import SpatialConfig

Border = Literal["zero", "renormalize"]


def gaussian_kernel(sigma: float, radius: int) -> Tensor:
    """(2 radius + 1) float64 weights of a Gaussian, with sum one."""
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    return kernel / kernel.sum()


def gaussian_blur(images: Tensor, sigma: float, border: Border = "zero") -> Tensor:
    """Separable Gaussian blur, cut at ceil(4 sigma).

    Args:
        images: (B,C,H,W).
        sigma: standard deviation in pixels; 0 leaves the images as they are.
        border: `zero` beyond the image, or `renormalize` by the kernel mass inside it (section 3.4).

    Returns:
        (B,C,H,W).
    """
    if sigma <= 0:
        return images
    radius = math.ceil(4 * sigma)
    kernel = gaussian_kernel(sigma, radius).to(images)

    def blur(x: Tensor) -> Tensor:
        flat = x.reshape(-1, 1, *x.shape[-2:])
        flat = F.conv2d(flat, kernel.view(1, 1, -1, 1), padding=(radius, 0))
        flat = F.conv2d(flat, kernel.view(1, 1, 1, -1), padding=(0, radius))
        return flat.view(x.shape)

    if border == "zero":
        return blur(images)
    inside = images.new_ones(1, 1, *images.shape[-2:])
    return blur(images) / blur(inside)


def pyramid(images: Tensor, config: SpatialConfig) -> Tensor:
    """Images perturbed ever less: level 0 is the strongest, the last is the image itself.

    Args:
        images: (B,C,H,W), preprocessed. Fading goes to 0 there, the mean colour.

    Returns:
        (B,levels,C,H,W).
    """
    last = config.levels - 1
    strengths = [1 - level / last for level in range(config.levels)]
    if config.perturbation == "fade":
        levels = [images * (1 - strength) for strength in strengths]
    else:
        levels = [gaussian_blur(images, config.sigma_max * s, config.border) for s in strengths]
    return torch.stack(levels, dim=1)


class _Lookup(torch.autograd.Function):
    """Saves only how fast the image changes with the mask, not the two levels it lies between."""

    @staticmethod
    def forward(ctx: Any, masks: Tensor, levels: Tensor, images: Tensor) -> Tensor:
        count, channels = levels.shape[1:3]
        position = masks * (count - 1)
        # A mask that is not a number gives a score that is none, and not an index out of range.
        lower = position.floor().nan_to_num_(0).clamp_(0, count - 2)
        fraction = position.sub_(lower)[:, None]
        index = (lower.long() + (images * count)[:, None, None])[:, None]
        flat = levels.flatten(0, 1)
        low = flat.gather(0, index.expand(-1, channels, -1, -1))
        high = flat.gather(0, (index + 1).expand(-1, channels, -1, -1))
        out = torch.lerp(low, high, fraction)
        ctx.save_for_backward(high.sub_(low))
        ctx.steps = count - 1
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return (grad * slope).sum(1).mul_(ctx.steps), None, None


def perturb(levels: Tensor, masks: Tensor, images: Tensor) -> Tensor:
    """Look pyramids up at the strength that each mask asks for, linear between levels.

    Args:
        levels: (B,L,C,H,W) from `pyramid`, without gradient.
        masks: (N,H,W) in [0,1], 1 = keep.
        images: (N,) the pyramid, 0 to B-1, under each mask.

    Returns:
        (N,C,H,W), differentiable in the masks.
    """
    out: Tensor = _Lookup.apply(masks, levels, images)
    return out
