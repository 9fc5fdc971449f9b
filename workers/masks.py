"""The family of smooth masks: low-resolution parameters, drawn by a smooth max-convolution.

Appendix A.1 of the paper with its position formula corrected (u_i = step * i + margin, in pixels) and
its kernel profile decaying (the printed sign grows). Shape letters: N masks, Q = step**2 phases of a
pixel inside its cell, K = taps of the neighbourhood, L cells.
"""

import math
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.config import Kernel, MaskConfig


class _SmoothMax(torch.autograd.Function):
    """smax over taps of weight * value (eq. 7), out = sum v e^(v/T) / sum e^(v/T).

    Saves only its inputs, the result and the denominators; the N x Q x K x L exponentials, 150 times
    larger, are recomputed. The loop runs over taps with the cells innermost, and over slices of masks
    small enough to stay in a core's cache.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, weights: Tensor, inverse_temperature: float) -> Tensor:
        n, taps, cells = values.shape
        phases = weights.shape[0]
        out = values.new_empty(n, phases, cells)
        denominators = torch.empty_like(out)
        scaled = (inverse_temperature * weights).t()[:, None, :, None].contiguous()
        for part in _slices(values):
            v_NKL = values[part]
            numerator = out[part].zero_()
            denominator = denominators[part].zero_()
            product = torch.empty_like(numerator)
            exponential = torch.empty_like(numerator)
            for tap in range(taps):
                torch.mul(v_NKL[:, None, tap], scaled[tap], out=product)
                torch.exp(product, out=exponential)
                denominator += exponential
                numerator.addcmul_(product, exponential)
            numerator /= denominator
        out /= inverse_temperature
        ctx.save_for_backward(values, weights, out, denominators)
        ctx.inverse_temperature = inverse_temperature
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, weights, out, denominators = ctx.saved_tensors
        inverse_temperature = ctx.inverse_temperature
        result = torch.empty_like(values)
        scaled = (inverse_temperature * weights).t()[:, None, :, None].contiguous()
        for part in _slices(values):
            v_NKL = values[part]
            scale = grad[part] / denominators[part]
            offset = scale * (1 - inverse_temperature * out[part])
            product = torch.empty_like(scale)
            exponential = torch.empty_like(scale)
            for tap in range(values.shape[1]):
                torch.mul(v_NKL[:, None, tap], scaled[tap], out=product)
                torch.exp(product, out=exponential)
                torch.addcmul(offset, product, scale, out=product)
                product *= exponential
                result[part, tap] = torch.matmul(weights[:, tap], product)
        return result, None, None


def _slices(values: Tensor) -> list[slice]:
    """One mask at a time where the cache is the limit, all of them where kernel launches are."""
    count = values.shape[0]
    return [slice(i, i + 1) for i in range(count)] if values.device.type == "cpu" else [slice(0, count)]


def smooth_max(values: Tensor, weights: Tensor, inverse_temperature: float) -> Tensor:
    """Smooth maximum over taps of weights * values (eq. 7).

    Args:
        values: (N,K,L) in [0,1].
        weights: (Q,K) kernel in [0,1], without gradient.
        inverse_temperature: 1/T; the maximum as it grows, the mean as it goes to 0.

    Returns:
        (N,Q,L), differentiable in values.
    """
    out: Tensor = _SmoothMax.apply(values, weights, inverse_temperature)
    return out


def kernel_profile(distance: Tensor, kernel: Kernel, step: int, sigma: float) -> Tensor:
    """Weight in [0,1] of a parameter at a distance in pixels; 1 at the centre, decaying.

    `torchray`: exp(-2 max(0, d/sigma - 1/2)^2). `paper`: exp(-max(0, z-1)^2 / 4) with z in cells, the
    printed profile with its sign corrected (C1).
    """
    if kernel == "torchray":
        return torch.exp(-2 * (distance / sigma - 0.5).clamp(min=0) ** 2)
    return torch.exp(-((distance / step - 1).clamp(min=0) ** 2) / 4)


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
        self._pad = 1 + math.ceil((sigma + margin) / step)
        self._taps = 2 * (1 + math.ceil(sigma / step)) + 1
        rows, cols = (n - self._taps + 2 * self._pad + 1 for n in self.param_shape)
        self._cells = (rows, cols)
        # The last step-1 pixels of the drawn frame lie beyond every image that the lattice serves.
        self.padded_shape = (rows * step - (step - 1), cols * step - (step - 1))
        if self.padded_shape[0] < height + margin or self.padded_shape[1] < width + margin:
            raise ValueError(
                f"Mask step {step} is too large for sigma {sigma}: the drawn mask would not cover the "
                "image. Use a step of at most sigma."
            )
        self._weights = self._kernel().to(device=device, dtype=dtype)

    def _kernel(self) -> Tensor:
        """(Q,K) weight of every tap for every phase of a pixel inside its cell."""
        phase = torch.arange(self.config.step)[:, None]
        tap = torch.arange(self._taps)[None]
        offset = (phase - (self.config.step * (tap - self._pad) + self.margin)).double()
        distance = torch.sqrt(offset[:, None, :, None] ** 2 + offset[None, :, None, :] ** 2)
        distance = distance.reshape(self.config.step**2, self._taps**2)
        return kernel_profile(distance, self.config.kernel, self.config.step, self.config.sigma)

    def draw(self, params: Tensor) -> Tensor:
        """Masks with their margin.

        Args:
            params: (N,rows,columns) in [0,1].

        Returns:
            (N,*padded_shape) in [0,1], differentiable.
        """
        n = params.shape[0]
        step, (rows, cols) = self.config.step, self._cells
        values = F.unfold(params[:, None], self._taps, padding=self._pad)
        out = smooth_max(values, self._weights, self.config.inverse_temperature)
        frame = out.view(n, step, step, rows, cols).permute(0, 3, 1, 4, 2)
        frame = frame.reshape(n, rows * step, cols * step)
        return frame[:, : self.padded_shape[0], : self.padded_shape[1]]

    def crop(self, padded: Tensor) -> Tensor:
        """(N,*padded_shape) -> (N,height,width): the part that lies on the image."""
        m = self.margin
        return padded[:, m : m + self.height, m : m + self.width]


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
