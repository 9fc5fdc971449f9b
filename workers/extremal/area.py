"""The ranked area penalty (section 3.3), by selection instead of sorting."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from extremal.workers.extremal.problems import Problem, Rows


class RankedArea:
    """The area term of an objective's masks, each with as many ones as its problem's size asks for."""

    def __init__(self, ones: Callable[[float], int]) -> None:
        """
        Args:
            ones: how many ones a mask of a size has.
        """
        self._ones = ones
        self._problems: tuple[Problem, ...] = ()
        self._kept: tuple[int, ...] = ()

    def __call__(self, masks: Tensor, rows: Rows) -> Tensor:
        """(N,P) masks of the rows -> (N,), differentiable; see `area_term`."""
        if rows.problems is not self._problems:  # counted once, not in every iteration
            self._problems, self._kept = rows.problems, self.ones(rows)
        return area_term(masks, self._kept)

    def ones(self, rows: Rows) -> tuple[int, ...]:
        """How many ones each row's mask should have."""
        return tuple(self._ones(problem.size) for problem in rows.problems)


def ones_of_area(area: float, values: int) -> int:
    """How many of a mask's values are ones where it keeps the fraction `area`."""
    return values - int(values * (1 - area))


class _AreaTerm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, masks: Tensor, kept: tuple[int, ...]) -> Tensor:
        threshold = _thresholds(masks, kept)[:, None]
        above = masks > threshold
        tied = masks == threshold
        # Values tied at the threshold share the places that are left: a sort would pick among them
        # by position, which breaks symmetry and depends on the device.
        left = _on_device(kept, masks.device)[:, None] - above.sum(1, keepdim=True)
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


def _thresholds(masks: Tensor, kept: tuple[int, ...]) -> Tensor:
    """(N,) the kept[i]-th largest value of every row, infinity for kept[i] = 0."""
    if masks.device.type == "cuda":
        return radix_select(masks, _on_device(kept, masks.device))
    pixels = masks.shape[1]
    rows = (
        torch.kthvalue(m, pixels - k + 1).values if k else m.new_tensor(torch.inf)
        for m, k in zip(masks, kept, strict=True)
    )
    return torch.stack(list(rows))


def radix_select(values: Tensor, counts: Tensor) -> Tensor:
    """The counts[i]-th largest value of every row, exactly, all rows at once and without a host in between.

    Floats that are not negative sort as their bits do, so 31 comparisons find the bits one by one.

    Args:
        values: (N,P) float32 or less, not negative. counts: (N,), 0 to P.

    Returns:
        (N,); NaN, above every number, for a count of 0.
    """
    bits = (values.float() + 0.0).view(torch.int32)  # + 0 makes -0 a 0
    found = torch.zeros(len(values), dtype=torch.int32, device=values.device)
    for position in range(30, -1, -1):
        candidate = found | (1 << position)
        found = torch.where((bits >= candidate[:, None]).sum(1) >= counts, candidate, found)
    return found.view(torch.float32).to(values)


@lru_cache(maxsize=64)
def _on_device(kept: tuple[int, ...], device: torch.device) -> Tensor:
    """Kept on the device: a copy in every step would make it wait."""
    return torch.tensor(kept, device=device)


def area_term(masks: Tensor, kept: tuple[int, ...]) -> Tensor:
    r"""Mean squared difference between the sorted mask and k ones after zeros (section 3.3).

    ```math
    R(m) = \frac{1}{P} \| \operatorname{vecsort}(m) - r \|^2
         = \frac{1}{P} \left( \|m\|^2 - 2 S_k(m) + k \right)
    ```

    where $`r`$ is $`P - k`$ zeros and then $`k`$ ones, and $`S_k`$ the sum of the $`k`$ largest values.
    Values tied at the k-th place share the gradient equally.

    Args:
        masks: (N,P) in [0,1].
        kept: the number of ones k wanted in every row, 0 <= k <= P.

    Returns:
        (N,), differentiable.

    Raises:
        ValueError: not one count a row, or a count out of range.
    """
    n, pixels = masks.shape
    if n != len(kept):
        raise ValueError(f"{n} masks for {len(kept)} counts")
    if not all(0 <= k <= pixels for k in kept):
        raise ValueError(f"counts {kept} must lie between 0 and {pixels}")
    out: Tensor = _AreaTerm.apply(masks, kept)
    return out
