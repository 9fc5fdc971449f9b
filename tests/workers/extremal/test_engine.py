"""The loop against torch.optim, one problem at a time, and what may happen to a batch on its way."""

import pytest
import torch
from torch import Tensor

from extremal.workers.extremal.area import RankedArea, area_term
from extremal.workers.extremal.engine import maximize
from extremal.workers.extremal.problems import Chain, Problem, Rows, Solution, alone, trace_steps
from extremal.workers.extremal.settings import Schedule
from extremal.workers.extremal.slots import CPU_SLOTS, fitting_slots, slots_for

ITEMS, SIZE = 7, 3


class Quadratic:
    """Item i wants its three parameters near goals[i]; counts its evaluations."""

    def __init__(self, limit: int = 99) -> None:
        self.goals = 2 * torch.rand(ITEMS, SIZE, generator=torch.Generator().manual_seed(0)) - 0.3
        self.limit = limit
        self.batches: list[int] = []
        self.area = RankedArea(int)

    def start(self, problem: Problem) -> Tensor:
        return torch.ones(SIZE)

    def project(self, params: Tensor, rows: Rows) -> None:
        params.clamp_(0, 1)

    def evaluate(self, params: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        if len(params) > self.limit:
            raise torch.OutOfMemoryError("no memory")
        self.batches.append(len(params))
        return -3 * ((params - self.goals[rows.items]) ** 2).sum(1), self.area(params, rows)

    def finish(self, params: Tensor, rows: Rows) -> dict[str, Tensor]:
        return {"item": rows.items, "total": params.sum(1)}


SCHEDULES = {
    "sgd": Schedule(40, 0.02, 0.5, 0.3, 0.2, "growing", growth=1.05),
    "ramp": Schedule(30, 0.02, 0.9, 0.0, 3.0, "ramp", ramp=10),
    "adam": Schedule(35, 0.05, 0.9, 0.0, 0.3, "geometric", final=6.0, optimizer="adam"),
}


def by_torch(
    goal: Tensor, ones: int, schedule: Schedule, start: Tensor | None = None, age: int = 0
) -> tuple[Tensor, list[float]]:
    """One problem with torch's own optimizer."""
    params = (torch.ones(SIZE) if start is None else start.clone()).requires_grad_()
    if schedule.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            [params], schedule.lr, schedule.momentum, schedule.dampening, maximize=True
        )
    else:
        betas = (schedule.momentum, schedule.second)
        optimizer = torch.optim.Adam([params], schedule.lr, betas, maximize=True)
    energies = []
    for step in range(age, schedule.steps):
        term = area_term(params[None], (ones,))[0]
        energy = -3 * ((params - goal) ** 2).sum() - schedule.weight_at(step) * term
        energies.append(energy.item())
        if step < schedule.steps - 1:
            optimizer.zero_grad()
            energy.backward()
            optimizer.step()
            with torch.no_grad():
                params.clamp_(0, 1)
    return params.detach(), energies


def check(solutions: list[Solution], objective: Quadratic, schedule: Schedule) -> None:
    assert len(solutions) == 2 * ITEMS
    for solution in solutions:
        item, size = solution.problem.item, int(solution.problem.size)
        params, energies = by_torch(objective.goals[item], size, schedule)
        torch.testing.assert_close(solution.params, params, atol=2e-5, rtol=1e-4)
        assert solution.energy.item() == pytest.approx(energies[-1], abs=1e-4)
        shown = [energies[step] for step in trace_steps(schedule.steps)]
        assert solution.energies.tolist() == pytest.approx(shown, abs=1e-4)
        assert solution.steps == schedule.steps
        assert solution.results["item"] == item
        assert solution.results["total"] == pytest.approx(solution.params.sum().item())


def everything() -> list[Chain]:
    return [alone(Problem(item, size)) for item in range(ITEMS) for size in (1, 2)]


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("slots", [1, 4, 99])
def test_every_problem_is_solved_as_torch_does_alone(kind: str, slots: int) -> None:
    objective, schedule = Quadratic(), SCHEDULES[kind]
    solutions, used = maximize(everything(), objective, schedule, slots)
    check(solutions, objective, schedule)
    assert used == slots
    assert max(objective.batches) == min(slots, 2 * ITEMS)


def test_running_out_of_memory_halves_the_batch_and_loses_nothing() -> None:
    objective, schedule = Quadratic(limit=4), SCHEDULES["adam"]
    solutions, used = maximize(everything(), objective, schedule, 16)
    check(solutions, objective, schedule)
    assert used == 3  # 14, 7, 3
    assert sum(objective.batches) == 2 * ITEMS * schedule.steps


def test_memory_that_runs_out_in_the_middle_loses_nothing() -> None:
    class Filling(Quadratic):
        def evaluate(self, params: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
            if len(self.batches) >= 5:
                self.limit = 5
            return super().evaluate(params, rows)

    objective, schedule = Filling(), SCHEDULES["sgd"]
    solutions, used = maximize(everything(), objective, schedule, 10)
    check(solutions, objective, schedule)
    assert used == 5
    assert sum(objective.batches) == 2 * ITEMS * schedule.steps


def test_one_problem_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        maximize([alone(Problem(0, 1))], Quadratic(limit=0), SCHEDULES["sgd"], 4)


def test_chains_go_on_from_their_own_solutions() -> None:
    seen: list[tuple[int, int]] = []

    def two(item: int) -> Chain:
        first = yield Problem(item, 2)
        assert first.problem.item == item
        second = yield Problem(item, 1, first.params, age=25)
        seen.append((item, second.steps))

    objective, schedule = Quadratic(), SCHEDULES["adam"]
    solutions, _ = maximize([two(item) for item in range(ITEMS)], objective, schedule, 3)
    assert sorted(seen) == [(item, 10) for item in range(ITEMS)]
    assert sum(objective.batches) == ITEMS * (schedule.steps + 10)
    first = {s.problem.item: s.params for s in solutions if s.problem.size == 2}
    for solution in (s for s in solutions if s.problem.size == 1):
        item = solution.problem.item
        params, _ = by_torch(objective.goals[item], 1, schedule, first[item], 25)
        torch.testing.assert_close(solution.params, params, atol=2e-5, rtol=1e-4)
    late = [s for s in solutions if s.problem.size == 1]
    assert all(s.energies[:3].isnan().all() and s.energies[-3:].isfinite().all() for s in late)


def test_a_score_without_gradient_is_refused() -> None:
    class Detached(Quadratic):
        def evaluate(self, params: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
            reward, penalty = super().evaluate(params, rows)
            return reward.detach(), penalty

    with pytest.raises(ValueError, match="no gradient"):
        maximize(everything(), Detached(), SCHEDULES["sgd"], 4)


def test_slots_on_a_cpu_and_from_measured_memory() -> None:
    assert fitting_slots(Quadratic(), Problem(0, 1)) == CPU_SLOTS
    with pytest.raises(ValueError, match="slots"):
        maximize(everything(), Quadratic(), SCHEDULES["sgd"], 0)
    mega = 10**6
    assert slots_for(free=1000 * mega, few=30 * mega, more=70 * mega) == 64  # 10 MB each, 10 MB fixed
    assert slots_for(free=5 * mega, few=30 * mega, more=70 * mega) == 1


def test_no_problems_have_no_solutions() -> None:
    assert maximize([], Quadratic(), SCHEDULES["sgd"], 4) == ([], 4)


class Sparse:
    """Few numbers near the goals, alike side by side: L1 and total variation, and exactly `size` not zero.

    Its start, projection and penalty are others than the area's throughout.
    """

    LAMBDA = 0.05
    GOALS = torch.tensor([[0.9, 0.1, 0.5, 0.8], [0.3, 0.95, 0.7, 0.05], [0.2, 0.35, 0.6, 0.62]])
    STARTS = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0], [2.0, 0.0, 2.0, 0.0]]) / 1000

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def start(self, problem: Problem) -> Tensor:
        return self.STARTS[problem.item]

    def evaluate(self, params: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        self.seen.append(params.detach().clone())
        penalty = params.abs().sum(1) + (params[:, 1:] - params[:, :-1]).abs().sum(1)
        return -0.5 * (params - self.GOALS[rows.items]).square().sum(1), penalty

    def project(self, params: Tensor, rows: Rows) -> None:
        params.clamp_(0, 1)
        for row, problem in zip(params, rows.problems, strict=True):
            row[row.argsort(descending=True)[int(problem.size) :]] = 0

    def finish(self, params: Tensor, rows: Rows) -> dict[str, Tensor]:
        return {"kept": (params > 0).sum(1)}


def best_on_a_grid(goal: Tensor, size: int) -> float:
    """The largest energy in float64 of all vectors on a grid of twentieths of which `size` are not zero."""
    axis = torch.linspace(0, 1, 21, dtype=torch.float64)
    vectors = torch.cartesian_prod(*[axis] * len(goal))
    vectors = vectors[(vectors > 0).sum(1) <= size]
    return float(sparse_energy(vectors, goal).max())


def sparse_energy(vectors: Tensor, goal: Tensor) -> Tensor:
    steps = torch.diff(vectors, dim=1)
    penalty = vectors.abs().sum(1) + steps.abs().sum(1)
    return -0.5 * ((vectors - goal.double()) ** 2).sum(1) - Sparse.LAMBDA * penalty


def test_an_objective_brings_its_own_start_projection_and_penalty() -> None:
    weight = Sparse.LAMBDA
    schedule = Schedule(
        500, 0.03, 0.0, 0.0, weight, "geometric", final=weight, hold=0.8, decay=0.0, optimizer="sgd"
    )
    objective = Sparse()
    chains = [alone(Problem(item, size)) for item in range(3) for size in (1, 2, 4)]
    solutions, _ = maximize(chains, objective, schedule, 9)
    assert torch.equal(objective.seen[0], Sparse.STARTS.repeat_interleave(3, 0))
    for solution in solutions:
        item, size = solution.problem.item, int(solution.problem.size)
        assert solution.results["kept"] <= size
        vector = solution.params.double()[None]
        energy = float(sparse_energy(vector, Sparse.GOALS[item]))
        assert solution.energy.item() == pytest.approx(energy, abs=1e-6)
        steps = vector[0].diff().abs().sum()
        assert solution.penalty.item() == pytest.approx(float(vector.sum() + steps), abs=1e-6)
        # Between the grid's points it may be a little better, and nowhere worse.
        best = best_on_a_grid(Sparse.GOALS[item], size)
        assert best - 1e-4 < energy < best + 1e-2
