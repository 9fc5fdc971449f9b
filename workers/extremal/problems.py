"""What the engine is given and what it gives back: problems, the objective that they share, solutions."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

TRACE_POINTS = 20


@dataclass(frozen=True)
class Problem:
    """One optimization.

    Attributes:
        item: the pair it belongs to, a row of the objective.
        size: what the objective wants of it, such as an area or a number of channels; with the item it
            names the solution.
        start: parameters to go on from; None = the objective's own start.
        age: iterations that a good start spares; lambda begins where it would be by then.
    """

    item: int
    size: float = 0.0
    start: Tensor | None = None
    age: int = 0


@dataclass(frozen=True)
class Solution:
    """What became of a problem; tensors on its device.

    Attributes:
        params: at the last evaluation; the other values belong to them.
        reward, penalty, energy: (); energy is reward - lambda * penalty.
        energies: (T,) at `trace_steps`, NaN where the problem was not evaluated.
        steps: evaluations it took.
        results: of the objective's `finish`.
    """

    problem: Problem
    params: Tensor
    reward: Tensor
    penalty: Tensor
    energy: Tensor
    energies: Tensor
    steps: int
    results: dict[str, Tensor]


# Problems that follow from each other: each is solved before the next is asked for.
Chain = Generator[Problem, Solution, None]


@dataclass(frozen=True)
class Rows:
    """Who is in the batch, in order; the same object, and tuple, until somebody comes or goes.

    Attributes:
        problems: (N). ages: (N) iterations behind each, spared ones included.
        items: (N,) long, the problems' items. at: (N,) long, the ages. spared: (N,) long, ages at the start.
    """

    problems: tuple[Problem, ...]
    ages: list[int]
    items: Tensor
    at: Tensor
    spared: Tensor

    @classmethod
    def of(cls, problems: tuple[Problem, ...], ages: list[int], device: torch.device) -> "Rows":
        """The rows of problems, with their columns on the device."""
        items = torch.tensor([problem.item for problem in problems], device=device)
        at = torch.tensor(ages, device=device)
        spared = torch.tensor([problem.age for problem in problems], device=device)
        return cls(problems, ages, items, at, spared)


class Objective(Protocol):
    r"""What is maximized: $`\text{reward} - \lambda \cdot \text{penalty}`$ over a set of parameters."""

    def start(self, problem: Problem) -> Tensor:
        """Parameters that a problem starts from unless it brings its own, on the device; all of one shape."""
        ...

    def evaluate(self, params: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """(N,...) parameters -> reward (N,) and penalty (N,), differentiable, each row by itself."""
        ...

    def project(self, params: Tensor, rows: Rows) -> None:
        """Bring parameters (N,...) back into their set, in place, after an update."""
        ...

    def finish(self, params: Tensor, rows: Rows) -> dict[str, Tensor]:
        """Whatever else is wanted of solved problems, each (N,...); called without gradients."""
        ...


def alone(problem: Problem) -> Chain:
    """A chain of one."""
    yield problem


def tabulate(solutions: Iterable[Solution], pairs: int, sizes: Sequence[float]) -> dict[str, Tensor]:
    """Every field and result of the solutions as a tensor (pairs, sizes, ...)."""
    by_name = {(s.problem.item, s.problem.size): s for s in solutions}
    ordered = [by_name[item, size] for item in range(pairs) for size in sizes]

    def stack(values: list[Tensor]) -> Tensor:
        flat = torch.stack(values)
        return flat.view(pairs, len(sizes), *flat.shape[1:])

    names = ("params", "reward", "penalty", "energy", "energies")
    table = {name: stack([getattr(s, name) for s in ordered]) for name in names}
    table |= {name: stack([s.results[name] for s in ordered]) for name in ordered[0].results}
    table["steps"] = torch.tensor([s.steps for s in ordered]).view(pairs, len(sizes))
    return table


def trace_steps(steps: int) -> tuple[int, ...]:
    """At most TRACE_POINTS iterations, evenly spread, with the first and the last."""
    points = min(steps, TRACE_POINTS)
    return tuple(sorted({round(i * (steps - 1) / max(1, points - 1)) for i in range(points)}))
