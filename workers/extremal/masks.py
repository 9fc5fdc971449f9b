"""The family of smooth masks: low-resolution parameters, drawn by a smooth max-convolution.

Appendix A.1 of the paper; the kernel's weights are workers/extremal/kernel.py's.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from extremal.workers.extremal.kernel import neighbourhood, tap_weights
from extremal.workers.extremal.settings import MaskConfig
from extremal.workers.extremal.smooth_max import Taps, make_taps, smooth_max


class MaskFamily:
    """Smooth masks for one input size.

    Attributes:
        param_shape: rows, columns of the parameters of one mask.
        padded_shape: height, width of a mask with its margin.
    """

    def __init__(
        self,
        height: int,
        width: int,
        config: MaskConfig,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.height, self.width = height, width
        self.config = config
        step, sigma, margin = config.step, config.sigma, math.ceil(config.sigma)
        self.margin = margin
        self.param_shape = (math.ceil(height / step), math.ceil(width / step))
        self._pad, self._window = neighbourhood(config)
        rows, cols = (n - self._window + 2 * self._pad + 1 for n in self.param_shape)
        self._cells = (rows, cols)
        # The last step-1 pixels of the drawn frame lie beyond every image that the lattice serves.
        self.padded_shape = (rows * step - (step - 1), cols * step - (step - 1))
        if self.padded_shape[0] < height + margin or self.padded_shape[1] < width + margin:
            raise ValueError(
                f"Mask step {step} is too large for sigma {sigma}: the drawn mask would not cover the "
                "image. Use a step of at most sigma."
            )
        self._taps = _taps(config, device, dtype)

    def draw(self, params: Tensor) -> Tensor:
        """Masks with their margin.

        Args:
            params: (N,rows,columns) in [0,1].

        Returns:
            (N,*padded_shape) in [0,1], differentiable.
        """
        n = params.shape[0]
        step, (rows, cols) = self.config.step, self._cells
        values = F.unfold(params[:, None], self._window, padding=self._pad)
        out = smooth_max(values, self._taps)
        frame = out.view(n, step, step, rows, cols).permute(0, 3, 1, 4, 2)
        frame = frame.reshape(n, rows * step, cols * step)
        return frame[:, : self.padded_shape[0], : self.padded_shape[1]]

    def crop(self, padded: Tensor) -> Tensor:
        """(N,*padded_shape) -> (N,height,width): the part that lies on the image."""
        m = self.margin
        return padded[:, m : m + self.height, m : m + self.width]


@lru_cache(maxsize=8)
def _taps(config: MaskConfig, device: torch.device | None, dtype: torch.dtype) -> Taps:
    """Weight of every tap for every phase of a pixel inside its cell; the same for all image sizes."""
    weights = torch.from_numpy(tap_weights(config))
    return make_taps(weights, config.inverse_temperature, device, dtype)


@lru_cache(maxsize=64)
def mask_family(
    height: int,
    width: int,
    config: MaskConfig,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> MaskFamily:
    """The family for an input size, built once per process."""
    return MaskFamily(height, width, config, device, dtype)


def render_masks(params: Tensor, shape: tuple[int, int], config: MaskConfig) -> Tensor:
    """Full-size masks from stored parameters.

    Args:
        params: (...,rows,columns), any float dtype, for example a row's `params` reshaped to its
            `params_shape`.
        shape: height, width of the network input (`input_shape` of the row).
        config: the run's mask family, `config.spatial.mask` in run.json.

    Returns:
        (...,height,width) float32 in [0,1], 1 = keep.
    """
    family = mask_family(*shape, config, params.device)
    flat = params.float().reshape(-1, *family.param_shape)
    return family.crop(family.draw(flat)).reshape(*params.shape[:-2], *shape)
