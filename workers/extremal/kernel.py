"""The kernel of the mask family: how much a parameter weighs at a distance, and over how many cells.

Appendix A.1 of the paper with its position formula corrected (u_i = step * i + margin, in pixels) and its
kernel profile decaying (the printed sign grows). numpy, because readers of a store draw small masks without
torch.
"""

import math

import numpy as np
import numpy.typing as npt

from extremal.workers.extremal.settings import Kernel, MaskConfig

Floats = npt.NDArray[np.float64]


def kernel_profile(distance: Floats, kernel: Kernel, step: int, sigma: float) -> Floats:
    """Weight in [0,1] of a parameter at a distance in pixels; 1 at the centre, decaying.

    `torchray`: exp(-2 max(0, d/sigma - 1/2)^2). `paper`: exp(-max(0, z-1)^2 / 4) with z in cells, the
    printed profile with its sign corrected (C1).
    """
    if kernel == "torchray":
        return np.asarray(np.exp(-2 * np.maximum(distance / sigma - 0.5, 0) ** 2))
    return np.asarray(np.exp(-(np.maximum(distance / step - 1, 0) ** 2) / 4))


def neighbourhood(config: MaskConfig) -> tuple[int, int]:
    """Padding of the parameters, and side of a pixel's neighbourhood, both in cells."""
    margin = math.ceil(config.sigma)
    padding = 1 + math.ceil((config.sigma + margin) / config.step)
    return padding, 2 * (1 + math.ceil(config.sigma / config.step)) + 1


def tap_weights(config: MaskConfig) -> Floats:
    """(step^2, K^2) weight of each of K x K neighbours for each phase of a pixel inside its cell.

    They are the same for all image sizes.
    """
    padding, side = neighbourhood(config)
    phase = np.arange(config.step)[:, None]
    tap = np.arange(side)[None]
    offset = (phase - (config.step * (tap - padding) + math.ceil(config.sigma))).astype(np.float64)
    distance = np.sqrt(offset[:, None, :, None] ** 2 + offset[None, :, None, :] ** 2)
    return kernel_profile(distance.reshape(config.step**2, side**2), config.kernel, config.step, config.sigma)
