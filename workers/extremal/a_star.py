"""a*: the smallest size whose score reaches that of the whole (eqs. 3 and 10)."""

import torch
from torch import Tensor


def first_reaching(scores: Tensor, sizes: Tensor, full: Tensor, tau: float) -> Tensor:
    r"""a*: the smallest size whose score reaches tau of the full score (eqs. 3 and 10).

    $`a^* = \min \{ a : \Phi(m_a \otimes x) \ge \tau \Phi(x) \}`$. For a negative full score the threshold
    lies as far below it as for a positive one (full - (1 - tau) |full|), so that tau < 1 is always the
    weaker demand.

    Args:
        scores: (B,A). sizes: (A,) ascending. full: (B,).

    Returns:
        (B,) float32, NaN where no size reaches it.
    """
    reached = scores >= threshold(full, tau)[:, None]
    first = sizes.to(scores)[reached.int().argmax(1)]
    return torch.where(reached.any(1), first, torch.nan).float()


def threshold(full: Tensor, tau: float) -> Tensor:
    """The score that tau asks for."""
    return full - (1 - tau) * full.abs()
