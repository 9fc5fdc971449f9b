"""The one optimization loop: gradient ascent on score - lambda * area term over a batch of problems."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.area import area_term
from workers.config import Schedule

TRACE_POINTS = 20


@dataclass(frozen=True)
class Trace:
    """What the loop saw, on the device of the problems.

    Attributes:
        reward: (N,) score at the final parameters, as optimized.
        area_term: (N,) at the final parameters.
        energy: (N,) reward - lambda * area term at the final parameters.
        steps: iterations, counted from 0, at which `energies` was taken.
        energies: (N,len(steps)).
    """

    reward: Tensor
    area_term: Tensor
    energy: Tensor
    steps: tuple[int, ...]
    energies: Tensor


def maximize(
    params: Tensor,
    evaluate: Callable[[Tensor, int], tuple[Tensor, Tensor]],
    kept: tuple[int, ...],
    schedule: Schedule,
) -> Trace:
    """Maximize sum over problems of reward - lambda * area term, with params kept in [0,1] (eq. 4).

    `steps` iterations are steps - 1 updates and one last evaluation, so that the parameters, the
    scores and the energies that come back belong together.

    Args:
        params: (N,...) in [0,1], updated in place.
        evaluate: (params, iteration) -> reward (N,) and masks (N,P) for the area term.
        kept: ones wanted in the masks, by turns along N.

    Returns:
        The trace; nothing is copied from the device.

    Raises:
        ValueError: the reward does not depend on the parameters.
    """
    shown = _trace_steps(schedule.steps)
    variable = params.requires_grad_(True)
    optimizer = torch.optim.SGD([variable], schedule.lr, schedule.momentum, schedule.dampening, maximize=True)
    energies = []
    try:
        for step in range(schedule.steps):
            last = step == schedule.steps - 1
            with torch.set_grad_enabled(not last):
                reward, masks = evaluate(variable, step)
                term = area_term(masks, kept)
                energy = reward - schedule.weight_at(step) * term
            if not (last or reward.requires_grad):
                raise ValueError(
                    "the network's score has no gradient: does its forward detach, or run in no_grad?"
                )
            if step in shown:
                energies.append(energy.detach())
            if not last:
                (variable.grad,) = torch.autograd.grad(energy.sum(), variable)
                optimizer.step()
                with torch.no_grad():
                    variable.clamp_(0, 1)
    finally:
        variable.requires_grad_(False)
        variable.grad = None
    return Trace(reward, term, energy, tuple(sorted(shown)), torch.stack(energies, dim=1))


def _trace_steps(steps: int) -> set[int]:
    """At most TRACE_POINTS iterations, evenly spread, with the first and the last."""
    points = min(steps, TRACE_POINTS)
    return {round(i * (steps - 1) / max(1, points - 1)) for i in range(points)}


def first_reaching(scores: Tensor, sizes: Tensor, full: Tensor, tau: float) -> Tensor:
    """a*: the smallest size whose score reaches tau of the full score (eqs. 3 and 10).

    For a negative full score the threshold lies as far below it as for a positive one
    (full - (1 - tau) |full|), so that tau < 1 is always the weaker demand.

    Args:
        scores: (B,A). sizes: (A,) ascending. full: (B,).

    Returns:
        (B,) float32, NaN where no size reaches it.
    """
    reached = scores >= (full - (1 - tau) * full.abs())[:, None]
    first = sizes.to(scores)[reached.int().argmax(1)]
    return torch.where(reached.any(1), first, torch.nan).float()
