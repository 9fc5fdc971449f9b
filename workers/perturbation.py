"""Perturbing an image where a mask is low (section 3.4): a pyramid of strengths, looked up by the mask."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.config import SpatialConfig

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


def perturb(levels: Tensor, masks: Tensor) -> Tensor:
    """Look a pyramid up at the strength that a mask asks for, linear between levels.

    Args:
        levels: (B,L,C,H,W) from `pyramid`, without gradient.
        masks: (B,A,H,W) in [0,1], 1 = keep.

    Returns:
        (B,A,C,H,W), differentiable in the masks.
    """
    last = levels.shape[1] - 1
    position = masks * last
    index = position.detach().floor().clamp(0, last - 1).long()
    fraction = (position - index)[:, :, None]
    index = index[:, :, None].expand(-1, -1, levels.shape[2], -1, -1)
    low = levels.gather(1, index)
    high = levels.gather(1, index + 1)
    return torch.lerp(low, high, fraction.expand_as(low))
