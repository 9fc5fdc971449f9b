"""The one optimization loop: gradient ascent on score - lambda * area term over a changing batch of problems.

Problems of any images and sizes share the batch; one that has ended leaves it and the next takes its
place, so that no batch waits for its slowest member. Each keeps its own age, lambda and momentum, and no
problem sees another: what shares its batch changes a result by no more than the network's rounding.
"""

import logging
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from extremal.workers.config import Schedule
from extremal.workers.extremal.area import area_term
from extremal.workers.heartbeat import PULSE

TRACE_POINTS = 20
EPSILON = 1e-8
CPU_SLOTS = 12
LARGEST_SLOTS = 512
# Trial batches by which memory is measured, and the share of what is free that may be used.
TRIALS = (2, 6)
MEMORY_SHARE = 0.8

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """One mask to find.

    Attributes:
        item: the pair it belongs to, a row of the objective.
        size: the area or the number of channels wanted.
        start: parameters to start from; None = all ones.
        age: iterations that a good start spares; lambda begins where it would be by then.
    """

    item: int
    size: float
    start: Tensor | None = None
    age: int = 0


@dataclass(frozen=True)
class Solution:
    """What became of a problem; tensors on its device.

    Attributes:
        params: at the last evaluation; the other values belong to them.
        reward, area_term, energy: (); energy is reward - lambda * area term.
        energies: (T,) at `trace_steps`, NaN where the problem was not (any more) evaluated.
        steps: evaluations it took.
        results: what the objective's `finish` found for it.
    """

    problem: Problem
    params: Tensor
    reward: Tensor
    area_term: Tensor
    energy: Tensor
    energies: Tensor
    steps: int
    results: dict[str, Tensor]


# Problems that follow from each other: each is solved before the next is asked for.
Chain = Generator[Problem, Solution, None]


@dataclass(frozen=True)
class Rows:
    """Who is in the batch, in order.

    Attributes:
        problems: (N). ages: (N) iterations behind each, spared ones included.
        items: (N,) long, the problems' items. at: (N,) long, the ages. spared: (N,) long, ages at the start.
    """

    problems: tuple[Problem, ...]
    ages: list[int]
    items: Tensor
    at: Tensor
    spared: Tensor


class Objective(Protocol):
    """What is maximized."""

    def start(self) -> Tensor:
        """Parameters of one problem, all ones, on the device."""
        ...

    def ones(self, size: float) -> int:
        """How many ones a mask of this size has."""
        ...

    def evaluate(self, params: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """(N,...) parameters -> reward (N,) and masks (N,P) for the area term."""
        ...

    def finish(self, params: Tensor, rows: Rows) -> dict[str, Tensor]:
        """Whatever else is wanted of solved problems, each (N,...); called without gradients."""
        ...


def alone(problem: Problem) -> Chain:
    """A chain of one."""
    yield problem


def maximize(
    chains: Iterable[Chain], objective: Objective, schedule: Schedule, slots: int | None = None
) -> tuple[list[Solution], int]:
    """Solve every problem of every chain (eq. 4, with params kept in [0,1]).

    At most `slots` are in work at once, by default as many as fit. `steps` iterations are steps - 1
    updates and one last evaluation, so that the parameters, the scores and the energies that come back
    belong together. If memory runs out, the batch is halved and the same iteration repeated; nothing is
    lost.

    Returns:
        The solutions in the order in which they ended, and the number of slots at the end.

    Raises:
        ValueError: the reward does not depend on the parameters.
        torch.OutOfMemoryError: for a single problem.
    """
    if slots is None:
        slots = fitting_slots(objective)
    if slots < 1:
        raise ValueError(f"slots must be at least 1, not {slots}")
    loop = _Loop(objective, schedule, slots)
    loop.run(chains)
    return loop.solutions, loop.slots


def fitting_slots(objective: Objective) -> int:
    """How many masks fit the GPU's free memory at once, measured with trial evaluations.

    Rounded down to a power of two, so that a resumed run finds the same number though a little more or
    less memory is free, and at most LARGEST_SLOTS. On a CPU CPU_SLOTS: memory is not what limits there,
    and 24 were slower than 12.
    """
    one = objective.start()
    if one.device.type != "cuda":
        return CPU_SLOTS
    peaks: list[int] = []
    for count in (1, *TRIALS):  # the first pays for workspaces and compilation once and for all
        try:
            peaks.append(_peak_memory(objective, one, count))
        except torch.OutOfMemoryError:
            break
    torch.cuda.empty_cache()
    if len(peaks) <= len(TRIALS):
        return 1
    free, _ = torch.cuda.mem_get_info(one.device)
    return slots_for(free, *peaks[1:])


def slots_for(free: int, few: int, more: int) -> int:
    """Masks that fit `free` bytes, from the bytes that few and more of them took (TRIALS)."""
    each = max(1, (more - few) // (TRIALS[1] - TRIALS[0]))
    fixed = max(0, few - TRIALS[0] * each)
    fitting = min(LARGEST_SLOTS, max(1, int((MEMORY_SHARE * free - fixed) / each)))
    return int(2 ** (fitting.bit_length() - 1))


def _peak_memory(objective: Objective, one: Tensor, count: int) -> int:
    """Bytes that one evaluation of `count` masks takes beyond what is allocated before."""
    before = torch.cuda.memory_allocated(one.device)
    torch.cuda.reset_peak_memory_stats(one.device)
    params = one.expand(count, *one.shape).clone().requires_grad_(True)
    zeros = torch.zeros(count, dtype=torch.long, device=one.device)
    rows = Rows((Problem(0, 1.0),) * count, [0] * count, zeros, zeros, zeros)
    reward, masks = objective.evaluate(params, rows)
    torch.autograd.grad((reward - area_term(masks, (1,) * count)).sum(), params)
    return torch.cuda.max_memory_allocated(one.device) - before


@dataclass
class _Batch:
    """State of the problems in work; a row each.

    Attributes:
        kept: (N) ones wanted in each mask.
        params, first, second: (N,...), the last two the optimizer's moments.
        energies: (N,steps). seen: (N,2) reward and area term when they were last looked at.
    """

    chains: tuple[Chain, ...]
    problems: tuple[Problem, ...]
    kept: tuple[int, ...]
    ages: list[int]
    params: Tensor
    first: Tensor
    second: Tensor
    energies: Tensor
    seen: Tensor

    def __len__(self) -> int:
        return len(self.chains)

    @cached_property
    def rows(self) -> Rows:
        device = self.params.device
        items = torch.tensor([problem.item for problem in self.problems], device=device)
        at = torch.tensor(self.ages, device=device)
        spared = torch.tensor([problem.age for problem in self.problems], device=device)
        return Rows(self.problems, self.ages, items, at, spared)

    def pick(self, rows: Sequence[int]) -> "_Batch":
        """A copy of some rows."""
        index = torch.tensor(rows, device=self.params.device)
        return _Batch(
            tuple(self.chains[row] for row in rows),
            tuple(self.problems[row] for row in rows),
            tuple(self.kept[row] for row in rows),
            [self.ages[row] for row in rows],
            *(getattr(self, name)[index] for name in _TENSORS),
        )

    @staticmethod
    def join(parts: "Sequence[_Batch]") -> "_Batch":
        if len(parts) == 1:
            return parts[0]
        return _Batch(
            tuple(chain for part in parts for chain in part.chains),
            tuple(problem for part in parts for problem in part.problems),
            tuple(kept for part in parts for kept in part.kept),
            [age for part in parts for age in part.ages],
            *(torch.cat([getattr(part, name) for part in parts]) for name in _TENSORS),
        )


_TENSORS = ("params", "first", "second", "energies", "seen")


class _Loop:
    def __init__(self, objective: Objective, schedule: Schedule, slots: int) -> None:
        self.objective = objective
        self.schedule = schedule
        self.slots = slots
        self.solutions: list[Solution] = []
        self._waiting: deque[tuple[Chain, Problem]] = deque()
        self._paused: deque[_Batch] = deque()
        self._one = objective.start()
        steps = range(schedule.steps)
        self._weights = self._one.new_tensor([schedule.weight_at(step) for step in steps])
        self._rates = self._one.new_tensor([schedule.lr_at(step) for step in steps])
        self._shown = torch.tensor(trace_steps(schedule.steps), device=self._one.device)

    def run(self, chains: Iterable[Chain]) -> None:
        self._waiting.extend((chain, next(chain)) for chain in chains)
        batch: _Batch | None = None
        while batch is not None or self._paused or self._waiting:
            PULSE.beat()
            filled = self._fill(batch)
            try:
                batch = self._step(filled, *self._evaluate(filled))
                continue
            except torch.OutOfMemoryError:
                if len(filled) == 1:
                    raise
            # Not in the handler: the traceback there keeps the tensors of the iteration alive.
            batch = self._shrink(filled)

    # ---- who is in the batch ------------------------------------------------------------------

    def _fill(self, batch: _Batch | None) -> _Batch:
        parts = [] if batch is None else [batch]
        room = self.slots - sum(map(len, parts))
        while self._paused and room > 0:
            parts.append(self._paused.popleft())
            room -= 1
        new = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        return _Batch.join([*parts, self._enter(new)] if new else parts)

    def _enter(self, new: list[tuple[Chain, Problem]]) -> _Batch:
        starts = [self._one if problem.start is None else problem.start for _, problem in new]
        params = torch.stack(starts)
        return _Batch(
            tuple(chain for chain, _ in new),
            tuple(problem for _, problem in new),
            tuple(self.objective.ones(problem.size) for _, problem in new),
            [problem.age for _, problem in new],
            params,
            torch.zeros_like(params),
            torch.zeros_like(params),
            params.new_full((len(new), self.schedule.steps), torch.nan),
            params.new_full((len(new), 2), torch.nan),
        )

    def _shrink(self, batch: _Batch) -> _Batch:
        """Half of a batch; the other half waits with its state."""
        half = len(batch) // 2
        log.warning("out of memory with %d masks at once: going on with %d", len(batch), half)
        torch.cuda.empty_cache()
        self._paused.extend(batch.pick([row]) for row in range(half, len(batch)))
        self.slots = half
        return batch.pick(range(half))

    # ---- one iteration ------------------------------------------------------------------------

    def _evaluate(self, batch: _Batch) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Reward, area term and energy (N,), and the energy's gradient unless every problem is at its end."""
        rows, variable = batch.rows, batch.params.detach().requires_grad_(True)
        over = min(batch.ages) + 1 == self.schedule.steps
        with torch.set_grad_enabled(not over):
            reward, masks = self.objective.evaluate(variable, rows)
            term = area_term(masks, batch.kept)
            energy = reward - self._weights[rows.at] * term
        if over:
            return reward, term, energy, None
        if not reward.requires_grad:
            raise ValueError(
                "the network's score has no gradient: does its forward detach, or run in no_grad?"
            )
        (gradient,) = torch.autograd.grad(energy.sum(), variable)
        return reward.detach(), term.detach(), energy.detach(), gradient

    def _step(
        self, batch: _Batch, reward: Tensor, term: Tensor, energy: Tensor, gradient: Tensor | None
    ) -> _Batch | None:
        """Let the problems that have ended go, and move the others."""
        batch.energies.scatter_(1, batch.rows.at[:, None], energy[:, None])
        values = torch.stack([reward, term], dim=1)
        ended, seen = self._ended(batch, values)
        if ended:
            self._leave(batch.pick(ended), reward[ended], term[ended], energy[ended])
        # From here on nothing runs out of memory: what is changed is not computed again.
        batch.seen = seen
        if len(ended) == len(batch) or gradient is None:
            return None
        self._ascend(batch, gradient)
        batch.rows.at.add_(1)
        batch.ages[:] = [age + 1 for age in batch.ages]
        return batch.pick([row for row in range(len(batch)) if row not in ended]) if ended else batch

    def _ended(self, batch: _Batch, values: Tensor) -> tuple[list[int], Tensor]:
        """Rows at their last iteration, or settled since last looked at, and what is seen of them now.

        The host reads the device only when a row is due.
        """
        schedule = self.schedule
        ended = {row for row, age in enumerate(batch.ages) if age + 1 == schedule.steps}
        if not schedule.settle or all((age + 1) % schedule.check for age in batch.ages):
            return sorted(ended), batch.seen
        due = ((batch.rows.at + 1) % schedule.check == 0)[:, None]
        reward = values[:, :1].abs().clamp(min=1)
        moved = (values - batch.seen).abs() / torch.cat([reward, torch.ones_like(reward)], dim=1)
        settled = (due & (moved < schedule.settle)).all(1).tolist()
        ended |= {row for row, still in enumerate(settled) if still}
        return sorted(ended), torch.where(due, values, batch.seen)

    def _ascend(self, batch: _Batch, gradient: Tensor) -> None:
        """One update of the parameters and moments, in place."""
        schedule, rows = self.schedule, batch.rows
        since = rows.at - rows.spared
        along = (-1,) + (1,) * (gradient.ndim - 1)
        rate = self._rates[rows.at].view(along)
        if schedule.optimizer == "sgd":
            started = (since > 0).to(gradient).view(along)
            batch.first.mul_(schedule.momentum * started)
            batch.first.addcmul_(gradient, 1 - schedule.dampening * started)
            batch.params.addcmul_(rate, batch.first)
        else:
            batch.first.lerp_(gradient, 1 - schedule.momentum)
            batch.second.lerp_(gradient.square(), 1 - schedule.second)
            count = (since + 1).to(gradient).view(along)
            first = batch.first / (1 - schedule.momentum**count)
            second = batch.second / (1 - schedule.second**count)
            batch.params.addcmul_(rate, first / (second.sqrt() + EPSILON))
        batch.params.clamp_(0, 1)

    def _leave(self, batch: _Batch, reward: Tensor, term: Tensor, energy: Tensor) -> None:
        with torch.no_grad():
            results = self.objective.finish(batch.params, batch.rows)
        for row, (chain, problem) in enumerate(zip(batch.chains, batch.problems, strict=True)):
            solution = Solution(
                problem,
                batch.params[row],
                reward[row],
                term[row],
                energy[row],
                batch.energies[row, self._shown],
                batch.ages[row] + 1 - problem.age,
                {name: values[row] for name, values in results.items()},
            )
            self.solutions.append(solution)
            with suppress(StopIteration):
                # In front: the pair that is nearest to its end gives its place up soonest.
                self._waiting.appendleft((chain, chain.send(solution)))


def tabulate(solutions: Iterable[Solution], pairs: int, sizes: Sequence[float]) -> dict[str, Tensor]:
    """Every field and result of the solutions as a tensor (pairs, sizes, ...)."""
    found = {(s.problem.item, s.problem.size): s for s in solutions}
    ordered = [found[item, size] for item in range(pairs) for size in sizes]

    def stack(values: list[Tensor]) -> Tensor:
        flat = torch.stack(values)
        return flat.view(pairs, len(sizes), *flat.shape[1:])

    names = ("params", "reward", "area_term", "energy", "energies")
    table = {name: stack([getattr(s, name) for s in ordered]) for name in names}
    table |= {name: stack([s.results[name] for s in ordered]) for name in ordered[0].results}
    table["steps"] = torch.tensor([s.steps for s in ordered]).view(pairs, len(sizes))
    return table


def trace_steps(steps: int) -> tuple[int, ...]:
    """At most TRACE_POINTS iterations, evenly spread, with the first and the last."""
    points = min(steps, TRACE_POINTS)
    return tuple(sorted({round(i * (steps - 1) / max(1, points - 1)) for i in range(points)}))


def first_reaching(scores: Tensor, sizes: Tensor, full: Tensor, tau: float) -> Tensor:
    """a*: the smallest size whose score reaches tau of the full score (eqs. 3 and 10).

    For a negative full score the threshold lies as far below it as for a positive one
    (full - (1 - tau) |full|), so that tau < 1 is always the weaker demand.

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
