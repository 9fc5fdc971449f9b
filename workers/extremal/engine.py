"""The one optimization loop: gradient ascent on reward - lambda * penalty over a changing batch of problems.

Problems of any images and sizes share the batch; one that has ended leaves it and the next takes its
place, so that no batch waits for its slowest member. Each keeps its own age, lambda and momentum, and no
problem sees another: what shares its batch changes a result by no more than the network's rounding. What
the parameters, the reward and the penalty are is the objective's business, lambda the schedule's.
"""

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from extremal.workers.extremal.problems import Chain, Objective, Problem, Rows, Solution, trace_steps
from extremal.workers.extremal.settings import Schedule
from extremal.workers.extremal.slots import CPU_SLOTS, fitting_slots
from extremal.workers.heartbeat import PULSE

EPSILON = 1e-8

log = logging.getLogger(__name__)


def maximize(
    chains: Iterable[Chain], objective: Objective, schedule: Schedule, slots: int | None = None
) -> tuple[list[Solution], int]:
    r"""Solve every problem of every chain: argmax over params of reward - lambda * penalty (eq. 4).

    At most `slots` are in work at once, by default as many as fit. `steps` iterations are steps - 1
    updates, each followed by the objective's projection, and one last evaluation, so that the parameters,
    the scores and the energies that come back belong together. If memory runs out, the batch is halved
    and the same iteration repeated; nothing is lost.

    Returns:
        The solutions in the order in which they ended, and the number of slots at the end.

    Raises:
        ValueError: the reward does not depend on the parameters.
        torch.OutOfMemoryError: for a single problem.
    """
    waiting = deque((chain, next(chain)) for chain in chains)
    if not waiting:
        return [], slots or CPU_SLOTS
    if slots is None:
        slots = fitting_slots(objective, waiting[0][1])
    if slots < 1:
        raise ValueError(f"slots must be at least 1, not {slots}")
    loop = _Loop(objective, schedule, slots, waiting)
    loop.run()
    return loop.solutions, loop.slots


@dataclass
class _Batch:
    """State of the problems in work; a row each.

    Attributes:
        params, first, second: (N,...), the last two the optimizer's moments.
        energies: (N,steps) so far, NaN before.
    """

    chains: tuple[Chain, ...]
    problems: tuple[Problem, ...]
    ages: list[int]
    params: Tensor
    first: Tensor
    second: Tensor
    energies: Tensor

    def __len__(self) -> int:
        return len(self.chains)

    @cached_property
    def rows(self) -> Rows:
        return Rows.of(self.problems, self.ages, self.params.device)

    def pick(self, rows: Sequence[int]) -> "_Batch":
        """A copy of some rows."""
        index = torch.tensor(rows, device=self.params.device)
        return _Batch(
            tuple(self.chains[row] for row in rows),
            tuple(self.problems[row] for row in rows),
            [self.ages[row] for row in rows],
            *(getattr(self, name)[index] for name in _TENSORS),
        )

    @staticmethod
    def join(batches: "Sequence[_Batch]") -> "_Batch":
        if len(batches) == 1:
            return batches[0]
        return _Batch(
            tuple(chain for batch in batches for chain in batch.chains),
            tuple(problem for batch in batches for problem in batch.problems),
            [age for batch in batches for age in batch.ages],
            *(torch.cat([getattr(batch, name) for batch in batches]) for name in _TENSORS),
        )


_TENSORS = ("params", "first", "second", "energies")


@dataclass(frozen=True)
class _Evaluation:
    """Of a batch.

    Attributes:
        reward, penalty, energy: (N,). gradient: (N,...) of the energy; None where it is not needed.
    """

    reward: Tensor
    penalty: Tensor
    energy: Tensor
    gradient: Tensor | None

    def pick(self, rows: Sequence[int]) -> "_Evaluation":
        """Some rows, without the gradient."""
        return _Evaluation(self.reward[rows], self.penalty[rows], self.energy[rows], None)


class _Loop:
    def __init__(
        self,
        objective: Objective,
        schedule: Schedule,
        slots: int,
        waiting: deque[tuple[Chain, Problem]],
    ) -> None:
        self.objective = objective
        self.schedule = schedule
        self.slots = slots
        self.solutions: list[Solution] = []
        self._waiting = waiting
        self._paused: deque[_Batch] = deque()
        steps, like = range(schedule.steps), objective.start(waiting[0][1])
        self._weights = like.new_tensor([schedule.weight_at(step) for step in steps])
        self._rates = like.new_tensor([schedule.lr_at(step) for step in steps])
        self._shown = torch.tensor(trace_steps(schedule.steps), device=like.device)

    def run(self) -> None:
        batch: _Batch | None = None
        while batch is not None or self._paused or self._waiting:
            PULSE.beat()
            filled = self._fill(batch)
            try:
                batch = self._step(filled, self._evaluate(filled))
                continue
            except torch.OutOfMemoryError:
                if len(filled) == 1:
                    raise
            # Not in the handler: the traceback there keeps the tensors of the iteration alive.
            batch = self._shrink(filled)

    # ---- who is in the batch ------------------------------------------------------------------

    def _fill(self, batch: _Batch | None) -> _Batch:
        batches = [] if batch is None else [batch]
        room = self.slots - sum(map(len, batches))
        while self._paused and room > 0:
            batches.append(self._paused.popleft())
            room -= 1
        new = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        return _Batch.join([*batches, self._enter(new)] if new else batches)

    def _enter(self, new: list[tuple[Chain, Problem]]) -> _Batch:
        params = torch.stack([self._start(problem) for _, problem in new])
        return _Batch(
            tuple(chain for chain, _ in new),
            tuple(problem for _, problem in new),
            [problem.age for _, problem in new],
            params,
            torch.zeros_like(params),
            torch.zeros_like(params),
            params.new_full((len(new), self.schedule.steps), torch.nan),
        )

    def _start(self, problem: Problem) -> Tensor:
        return self.objective.start(problem) if problem.start is None else problem.start

    def _shrink(self, batch: _Batch) -> _Batch:
        """Half of a batch; the other half waits with its state."""
        half = len(batch) // 2
        log.warning("out of memory with %d masks at once: going on with %d", len(batch), half)
        torch.cuda.empty_cache()
        self._paused.extend(batch.pick([row]) for row in range(half, len(batch)))
        self.slots = half
        return batch.pick(range(half))

    # ---- one iteration ------------------------------------------------------------------------

    def _evaluate(self, batch: _Batch) -> "_Evaluation":
        """The batch evaluated, with its gradient unless every problem is at its end."""
        rows, variable = batch.rows, batch.params.detach().requires_grad_(True)
        over = min(batch.ages) + 1 == self.schedule.steps
        with torch.set_grad_enabled(not over):
            reward, penalty = self.objective.evaluate(variable, rows)
            energy = reward - self._weights[rows.at] * penalty
        if over:
            return _Evaluation(reward, penalty, energy, None)
        if not reward.requires_grad:
            raise ValueError(
                "the network's score has no gradient: does its forward detach, or run in no_grad?"
            )
        (gradient,) = torch.autograd.grad(energy.sum(), variable)
        return _Evaluation(reward.detach(), penalty.detach(), energy.detach(), gradient)

    def _step(self, batch: _Batch, evaluation: "_Evaluation") -> _Batch | None:
        """Let the problems that have ended go, and move the others."""
        batch.energies.scatter_(1, batch.rows.at[:, None], evaluation.energy[:, None])
        ended = [row for row, age in enumerate(batch.ages) if age + 1 == self.schedule.steps]
        if ended:
            self._leave(batch.pick(ended), evaluation.pick(ended))
        # From here on nothing runs out of memory: what is changed is not computed again.
        if len(ended) == len(batch) or evaluation.gradient is None:
            return None
        self._ascend(batch, evaluation.gradient)
        batch.rows.at.add_(1)
        batch.ages[:] = [age + 1 for age in batch.ages]
        return batch.pick([row for row in range(len(batch)) if row not in ended]) if ended else batch

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
        self.objective.project(batch.params, rows)

    def _leave(self, batch: _Batch, evaluation: "_Evaluation") -> None:
        with torch.no_grad():
            results = self.objective.finish(batch.params, batch.rows)
        for row, (chain, problem) in enumerate(zip(batch.chains, batch.problems, strict=True)):
            solution = Solution(
                problem,
                batch.params[row],
                evaluation.reward[row],
                evaluation.penalty[row],
                evaluation.energy[row],
                batch.energies[row, self._shown],
                batch.ages[row] + 1 - problem.age,
                {name: values[row] for name, values in results.items()},
            )
            self.solutions.append(solution)
            with suppress(StopIteration):
                # In front: the pair that is nearest to its end gives its place up soonest.
                self._waiting.appendleft((chain, chain.send(solution)))
