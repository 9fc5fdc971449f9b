"""Pictures as parameters of an optimization: Fourier coefficients or pixels, and how they are shaken.

The seeds fix none of this (G11). The parameterization and its numbers are those of the article "Feature
visualization" (Olah, Mordvintsev, Schubert; Distill, 2017), to which the paper refers.
"""

import math
from collections.abc import Sequence
from functools import cache
from io import BytesIO

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from extremal.workers.inversion.settings import InversionConfig, Parameterization

NOISE = 0.01  # standard deviation of the parameters at the start: an almost grey picture
# Brightness of Fourier pictures for one unit of the parameters, so that lr suits both parameterizations.
_GAIN = 0.25
# Square root of the covariance of ImageNet's colours, as published with the article: red, green and blue
# from three uncorrelated numbers, brightness first.
_COLOURS = torch.tensor(
    [[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], dtype=torch.float64
)  # fmt: skip
DECORRELATED = _COLOURS / _COLOURS.norm(dim=0).max()


def noise(kind: Parameterization, size: tuple[int, int], draws: torch.Generator) -> Tensor:
    """Parameters of one picture of (H,W) pixels at the start, float32, on the CPU.

    Returns:
        (3,H,W) for `pixel`, (3,H,W//2+1,2) real and imaginary parts for `fourier`.
    """
    h, w = size
    shape = (3, h, w) if kind == "pixel" else (3, h, w // 2 + 1, 2)
    return NOISE * torch.randn(shape, generator=draws)


def picture(kind: Parameterization, parameters: Tensor, width: int) -> Tensor:
    """Pictures (N,3,H,W) in [0,1] from the parameters of N pictures.

    `pixel` is the sigmoid of the parameters. `fourier` is the sigmoid of M F^-1(c / max(f, 1/max(H,W))),
    where F^-1 is the orthonormal inverse transform of the half spectrum c, f the frequency in cycles per
    pixel (so that all scales of natural pictures are as easy to reach), and M mixes uncorrelated colours.

    Args:
        width: W, which half a spectrum does not tell.
    """
    if kind == "pixel":
        return parameters.sigmoid()
    height, real = parameters.shape[2], parameters.dtype
    down = torch.fft.fftfreq(height, device=parameters.device, dtype=real)
    across = torch.fft.rfftfreq(width, device=parameters.device, dtype=real)
    frequency = torch.hypot(down[:, None], across[None]).clamp(min=1 / max(height, width))
    spectrum = torch.view_as_complex(parameters.contiguous()) * (_GAIN / frequency)
    plain = torch.fft.irfft2(spectrum, s=(height, width), norm="ortho")
    return torch.einsum("rc,nchw->nrhw", _decorrelated(parameters.device, real), plain).sigmoid()


@cache
def _decorrelated(device: torch.device, dtype: torch.dtype) -> Tensor:
    """The matrix where the pictures are: a copy at every step would wait for the device."""
    matrix: Tensor = DECORRELATED.to(device, dtype)
    return matrix


def draw_shakes(config: InversionConfig, size: tuple[int, int], draws: torch.Generator) -> Tensor:
    """Transforms of one picture for every step, (steps,2,3) float32 on the CPU, for `shake`.

    Each step draws a shift of at most `jitter` pixels along each axis, a scale between 1/(1+scale) and
    1+scale, and an angle of at most `rotation` degrees, all symmetric about none.
    """
    x, y, scale, angle = (2 * torch.rand(config.steps, 4, generator=draws) - 1).unbind(1)
    h, w = size
    size_of = (1 + config.scale) ** scale
    turn = angle * math.radians(config.rotation)
    cos, sin = turn.cos() / size_of, turn.sin() / size_of
    # Coordinates run from -1 to 1 along each axis, so a turn of pixels needs the sides' ratio.
    top = torch.stack([cos, -sin * h / w, 2 * config.jitter * x / w], 1)
    bottom = torch.stack([sin * w / h, cos, 2 * config.jitter * y / h], 1)
    return torch.stack([top, bottom], 1)


def shake(pictures: Tensor, transforms: Tensor) -> Tensor:
    """Pictures (N,3,H,W) under affine transforms (N,2,3); beyond the border they are mirrored.

    Mirrored and not black, since a frame that moves would itself be something to see. On a GPU the
    gradient's sums have no fixed order, so its last bits differ between two runs.
    """
    grid = F.affine_grid(transforms, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)


def png(pixels: Tensor) -> bytes:
    """A picture (3,H,W) in [0,1] as a PNG of 8 bits."""
    levels = (pixels.detach().cpu() * 255).round().clamp(0, 255).to(torch.uint8)
    file = BytesIO()
    Image.fromarray(levels.permute(1, 2, 0).numpy()).save(file, "PNG")
    return file.getvalue()


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """A generator on the CPU for each seed, so that a picture does not depend on its batch or device."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]
