"""From a saliency map to a point in the original image (pointing game, protocol items 17 and 18)."""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from extremal.workers.extremal.perturbation import gaussian_kernel
from extremal.workers.pointing.smooth import UNSMOOTHED, Smooth

Region = tuple[float, float, float, float]


@lru_cache(maxsize=64)
def _axis(cells: int, start: int, stop: int, limit: int, sigma: float, border: str) -> Tensor:
    """(limit,cells): draws a row of cells bilinearly on [start, stop) of `limit` pixels, and blurs it."""
    drawn = F.interpolate(torch.eye(cells)[None], size=stop - start, mode="linear", align_corners=False)[0]
    canvas = torch.zeros(cells, limit)
    canvas[:, start:stop] = drawn
    if sigma > 0:
        radius = math.ceil(4 * sigma)
        padded = F.pad(canvas[:, None], (radius, radius), "constant" if border == "zero" else "replicate")
        canvas = F.conv1d(padded, gaussian_kernel(sigma, radius).float()[None, None])[:, 0]
    return canvas.t().contiguous()


def to_original(
    saliency: Tensor, region: Region, width: int, height: int, smooth: Smooth = UNSMOOTHED
) -> Tensor:
    """A map of the network's input, drawn at its place in the original image, zero elsewhere, and blurred.

    Drawing and blurring are linear and separable: one product of three matrices does both, where a
    convolution of a photograph with a kernel of hundreds of pixels would take seconds.

    Args:
        saliency: (h,w) float32, on the CPU.
        region: x0, y0, x1, y1 of the input in original pixels, half-open.
        width, height: of the original image, pixels.
        smooth: the blur.

    Returns:
        (height,width) float32.
    """
    sigma = smooth.sigma(width, height)
    rows = _axis(saliency.shape[0], *_span(region[1], region[3], height), height, sigma, smooth.border)
    columns = _axis(saliency.shape[1], *_span(region[0], region[2], width), width, sigma, smooth.border)
    return rows @ saliency @ columns.t()


def _span(start: float, stop: float, limit: int) -> tuple[int, int]:
    """Nearest whole pixels of an interval, at least one, inside [0, limit]."""
    first = min(max(round(start), 0), limit - 1)
    return first, max(first + 1, min(round(stop), limit))


def locate(
    saliency: Tensor, region: Region, width: int, height: int, smooth: Smooth = UNSMOOTHED
) -> tuple[int, int]:
    """Column and row of a map's maximum in original pixels, the first one in a tie; see `to_original`.

    Only the part that the network saw is searched.
    """
    return peak(to_original(saliency, region, width, height, smooth), region)


def peak(drawn: Tensor, region: Region) -> tuple[int, int]:
    """Column and row of the first maximum of a drawn map (height,width) in the part that the network saw."""
    height, width = drawn.shape
    left, right = _span(region[0], region[2], width)
    top, bottom = _span(region[1], region[3], height)
    seen = drawn[top:bottom, left:right]
    index = int(torch.argmax(seen.flatten()))
    return left + index % (right - left), top + index // (right - left)
