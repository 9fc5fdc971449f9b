"""The smooth maximum (eq. 7) over taps, cheap in time and memory.

Shape letters: N masks, Q phases of a pixel inside its cell, K taps of its neighbourhood, L cells, J nodes.
The definition needs N x Q x K x L exponentials, 4,000 for every parameter. A tap's weights differ little
between phases, so each exponential is a combination of J = 7 of the tap's own, and the sums over taps
become matrix products: a seventh of the exponentials, within 1e-5 of float64. On a GPU the definition is
compiled into two fused kernels instead.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import torch
from torch import Tensor

NODES = range(7, 17)
# A denominator is a sum of K terms of at least one: errors far below one do not show in any of them.
FLOOR = 10.0
TOLERANCE = 2e-5
LARGEST_SUM = 100.0
GPU_SLICE = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fit:
    """Every e^(wv/T) of a tap as a combination of J of them.

    Attributes:
        exponents: (K,J,1), of the tap's own exponentials in v.
        mix, mix1, mix2: (Q,K*J) coefficients for e^(wv/T), w e^(wv/T) and w^2/T e^(wv/T).
    """

    exponents: Tensor
    mix: Tensor
    mix1: Tensor
    mix2: Tensor


@dataclass(frozen=True)
class Taps:
    """Weights (Q,K) in [0,1] of the taps for every phase, and 1/T.

    `fit` is None where there are few phases, or where no fit is good enough.
    """

    weights: Tensor
    inverse_temperature: float
    fit: Fit | None


def make_taps(
    weights: Tensor,
    inverse_temperature: float,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Taps:
    """Prepare weights (Q,K) in [0,1] for `smooth_max`. float64 gets no fit: it is there to be exact."""
    w = weights.double().cpu()
    fit = _fit(w, inverse_temperature) if dtype == torch.float32 else None
    if fit is not None:
        fit = Fit(*(getattr(fit, f.name).to(device, dtype) for f in fields(Fit)))
    return Taps(w.to(device, dtype), inverse_temperature, fit)


def _fit(w: Tensor, inverse_temperature: float) -> Fit | None:
    """Least squares over v in [0,1], relative to e^(wv/T) + FLOOR, nodes at Chebyshev points of a tap's w."""
    if len(w) <= 2 * NODES.start:
        return None
    low, high = w.amin(0)[:, None], w.amax(0)[:, None]
    v = torch.linspace(0, 1, 101, dtype=w.dtype)
    wanted = torch.exp(inverse_temperature * w.t()[:, :, None] * v)  # (K,Q,V)
    scale = 1 / (wanted + FLOOR)
    for nodes in NODES:
        angles = torch.pi * (torch.arange(nodes, dtype=w.dtype) + 0.5) / nodes
        exponents = inverse_temperature * ((low + high) / 2 + (high - low) / 2 * angles.cos())  # (K,J)
        basis = torch.exp(v[:, None] * exponents[:, None])  # (K,V,J)
        scaled = basis[:, None] * scale[..., None]
        mix = torch.linalg.lstsq(scaled, (wanted * scale)[..., None], driver="gelsd").solution  # (K,Q,J,1)
        error = ((scaled @ mix)[..., 0] - wanted * scale).abs().max()
        if error < TOLERANCE and mix.abs().sum(2).max() < LARGEST_SUM:
            mix = mix[..., 0].transpose(0, 1)  # (Q,K,J)
            once = w[:, :, None] * mix
            twice = inverse_temperature * w[:, :, None] * once
            return Fit(exponents[..., None], mix.flatten(1), once.flatten(1), twice.flatten(1))
    return None


def smooth_max(values: Tensor, taps: Taps) -> Tensor:
    """Smooth maximum over taps of weight * value: sum of wv e^(wv/T) over sum of e^(wv/T) (eq. 7).

    Saves its inputs, the result and the denominators for backward, nothing larger.

    Args:
        values: (N,K,L) in [0,1].

    Returns:
        (N,Q,L), differentiable in values.
    """
    out: Tensor = _SmoothMax.apply(values, taps)
    return out


class _SmoothMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, taps: Taps) -> Tensor:
        out: Tensor
        if _fused(values):
            forward = _compiled(direct_forward)
            out, denominators = forward(values.detach(), taps.weights, taps.inverse_temperature)
        else:
            drawn = [_forward(v, taps) for v in torch.split(values, _slice(values))]
            out, denominators = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        ctx.save_for_backward(values, out, denominators)
        ctx.taps = taps
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, out, denominators = ctx.saved_tensors
        taps = ctx.taps
        scale = grad / denominators
        offset = scale - scale * out * taps.inverse_temperature
        if _fused(values):
            backward = _compiled(direct_backward)
            result: Tensor = backward(values, taps.weights, taps.inverse_temperature, scale, offset)
            return result, None
        parts = zip(*(torch.split(x, _slice(values)) for x in (values, scale, offset)), strict=True)
        return torch.cat([_backward(v, taps, s, o) for v, s, o in parts]), None


def _slice(values: Tensor) -> int:
    """Masks at a time: on a CPU one, whose tables stay in a core's cache; on a GPU what keeps it busy."""
    return 1 if values.device.type == "cpu" else GPU_SLICE


def _fused(values: Tensor) -> bool:
    return values.device.type == "cuda" and _compiler_works()


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled once a process; the kernels are cached on disk, where the actors of a machine share them."""
    return torch.compile(function, dynamic=True)


@cache
def _compiler_works() -> bool:
    """Whether torch.compile makes kernels for the GPU here; it needs Triton and a C compiler."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2, device="cuda"))
    except Exception as error:  # any part of the tool chain may be missing
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        log.warning("torch.compile does not work (%s): masks are drawn by matrix products, slower", reason)
        return False
    return True


def direct_forward(values: Tensor, weights: Tensor, inverse_temperature: float) -> tuple[Tensor, Tensor]:
    """The definition: (...,K,L) -> the result and its denominators, both (...,Q,L)."""
    x = inverse_temperature * weights[:, :, None] * values[..., None, :, :]
    e = x.exp()
    denominators = e.sum(-2)
    return (x * e).sum(-2) / denominators / inverse_temperature, denominators


def direct_backward(
    values: Tensor, weights: Tensor, inverse_temperature: float, scale: Tensor, offset: Tensor
) -> Tensor:
    """Gradient (...,K,L): sum over phases of w e^(wv/T) (offset + wv/T scale)."""
    x = inverse_temperature * weights[:, :, None] * values[..., None, :, :]
    factor = offset[..., None, :] + x * scale[..., None, :]
    return (weights[:, :, None] * x.exp() * factor).sum(-3)


def _forward(v_NKL: Tensor, taps: Taps) -> tuple[Tensor, Tensor]:
    """`direct_forward`, by matrix products if there is a fit."""
    fit = taps.fit
    if fit is None:
        return direct_forward(v_NKL, taps.weights, taps.inverse_temperature)
    v_NK1L = v_NKL[:, :, None]
    table = torch.exp_(v_NK1L * fit.exponents)
    denominators = fit.mix @ table.flatten(1, 2)
    table *= v_NK1L
    out = fit.mix1 @ table.flatten(1, 2)
    out /= denominators
    return out, denominators


def _backward(v_NKL: Tensor, taps: Taps, scale: Tensor, offset: Tensor) -> Tensor:
    """`direct_backward`, by matrix products if there is a fit."""
    fit = taps.fit
    if fit is None:
        return direct_backward(v_NKL, taps.weights, taps.inverse_temperature, scale, offset)
    n, _, cells = v_NKL.shape
    v_NK1L = v_NKL[:, :, None]
    weighted = (fit.mix2.t() @ scale).view(n, *fit.exponents.shape[:2], cells)
    weighted *= v_NK1L
    weighted += (fit.mix1.t() @ offset).view_as(weighted)
    weighted *= torch.exp_(v_NK1L * fit.exponents)
    return weighted.sum(2)
