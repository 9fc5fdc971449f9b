"""The ranking area loss (section 3.3), by selection instead of sorting."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


class _AreaTerm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, masks: Tensor, kept: tuple[int, ...]) -> Tensor:
        n, pixels = masks.shape
        threshold = torch.empty(n, 1, dtype=masks.dtype, device=masks.device)
        counts = _counts(kept, masks.device).repeat(n // len(kept))
        for i, k in enumerate(kept):
            rows = slice(i, None, len(kept))
            if k:
                threshold[rows, 0] = torch.kthvalue(masks[rows], pixels - k + 1, dim=1).values
            else:
                threshold[rows] = torch.inf
        above = masks > threshold
        tied = masks == threshold
        # Values tied at the threshold share the places that are left: a sort would pick among them
        # by position, which breaks symmetry and depends on the device.
        left = counts[:, None] - above.sum(1, keepdim=True)
        share = left / tied.sum(1, keepdim=True).clamp(min=1)
        chosen = above.to(masks.dtype) + tied * share.to(masks.dtype)
        ctx.save_for_backward(masks, chosen)
        # The ideal sorted mask is 1 where chosen, 0 elsewhere; expanding the squares and summing
        # differences directly avoids cancellation between sums of order `pixels`.
        return (masks * masks + chosen * (1 - 2 * masks)).mean(1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        masks, chosen = ctx.saved_tensors
        return (masks - chosen) * (grad * (2 / masks.shape[1]))[:, None], None


@lru_cache(maxsize=64)
def _counts(kept: tuple[int, ...], device: torch.device) -> Tensor:
    """Kept on the device: a copy in every step would make it wait."""
    return torch.tensor(kept, device=device)


def area_term(masks: Tensor, kept: tuple[int, ...]) -> Tensor:
    """Mean squared difference between the sorted mask and k ones after zeros.

    ||vecsort(m) - r||^2 / P = (||m||^2 - 2 * (sum of the k largest) + k) / P. Values tied at the k-th
    place share the gradient equally.

    Args:
        masks: (N,P), any range. Row i has kept[i % len(kept)] ones to reach.
        kept: numbers of ones k, 0 <= k <= P.

    Returns:
        (N,), differentiable.

    Raises:
        ValueError: N is no multiple of len(kept), or a count is out of range.
    """
    n, pixels = masks.shape
    if n % len(kept):
        raise ValueError(f"{n} masks for {len(kept)} areas")
    if not all(0 <= k <= pixels for k in kept):
        raise ValueError(f"counts {kept} must lie between 0 and {pixels}")
    out: Tensor = _AreaTerm.apply(masks, kept)
    return out
