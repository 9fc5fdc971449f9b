"""From a saliency map to a point in the original image (pointing game, protocol items 17 and 18)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.perturbation import gaussian_blur

Region = tuple[float, float, float, float]


def to_original(saliency: Tensor, region: Region, width: int, height: int) -> Tensor:
    """A map of the network's input, drawn at its place in the original image, zero elsewhere.

    Args:
        saliency: (h,w) float.
        region: x0, y0, x1, y1 of the input in original pixels, half-open.
        width, height: of the original image, pixels.

    Returns:
        (height,width) float.
    """
    left, right = _span(region[0], region[2], width)
    top, bottom = _span(region[1], region[3], height)
    size = (bottom - top, right - left)
    drawn = F.interpolate(saliency[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    canvas = saliency.new_zeros(height, width)
    canvas[top:bottom, left:right] = drawn
    return canvas


def _span(start: float, stop: float, limit: int) -> tuple[int, int]:
    """Nearest whole pixels of an interval, at least one, inside [0, limit]."""
    first = min(max(round(start), 0), limit - 1)
    return first, max(first + 1, min(round(stop), limit))


def locate(saliency: Tensor, region: Region, width: int, height: int, smooth: float = 0.0) -> tuple[int, int]:
    """Column and row of the maximum of a map in original pixels, the first one in a tie.

    Args:
        saliency: (h,w) float32 over the network's input.
        region: part of the original that the input covers.
        smooth: blur before the maximum is taken, as a fraction of the original's short side.
    """
    drawn = to_original(saliency, region, width, height)
    if smooth > 0:
        drawn = gaussian_blur(drawn[None, None], smooth * min(width, height))[0, 0]
    index = int(torch.argmax(drawn.flatten()))
    return index % width, index // width
