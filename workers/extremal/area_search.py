"""The order in which the areas of a pair are solved, and the smallest that is enough (a*)."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from extremal.workers.extremal.problems import Chain, Problem, Solution, alone
from extremal.workers.extremal.settings import SpatialConfig


def smallest_area(
    solutions: Sequence[Solution], wanted: Sequence[float], config: SpatialConfig
) -> tuple[Tensor, Tensor]:
    """a* (B,) over all areas that were solved, and the iterations (B,) spent on areas beyond the list."""
    a_star, spent = torch.full((len(wanted),), torch.nan), torch.zeros(len(wanted), dtype=torch.long)
    scores = torch.stack([s.results["scores"] for s in solutions]).tolist()
    ordered = sorted(zip(solutions, scores, strict=True), key=lambda pair: -pair[0].problem.size)
    for solution, score in ordered:
        item, area = solution.problem.item, solution.problem.size
        if score >= wanted[item]:
            a_star[item] = area
        if area not in config.areas:
            spent[item] += solution.steps
    return a_star, spent


def area_chains(item: int, wanted: float, config: SpatialConfig) -> Iterator[Chain]:
    """A pair's areas, each on its own, or one after the other where one needs its neighbour."""
    if config.warm_start or config.search:
        yield _descent(item, wanted, config)
    else:
        yield from (alone(Problem(item, area)) for area in config.areas)


def _descent(item: int, wanted: float, config: SpatialConfig) -> Chain:
    """From the largest area to the smallest; then, if asked, bisection for the smallest that is enough."""
    larger: Solution | None = None
    enough: Solution | None = None
    for area in reversed(config.areas):
        solution = yield _problem(item, area, larger, config)
        if config.search and float(solution.results["scores"]) >= wanted:
            enough = solution
        larger = solution
    if enough is None:
        return
    small = max((area for area in config.areas if area < enough.problem.size), default=0.0)
    while enough.problem.size - small > config.search:
        area = (small + enough.problem.size) / 2
        solution = yield _problem(item, area, enough, config)
        if float(solution.results["scores"]) >= wanted:
            enough = solution
        else:
            small = area


def _problem(item: int, area: float, larger: Solution | None, config: SpatialConfig) -> Problem:
    if larger is None or not config.warm_start:
        return Problem(item, area)
    return Problem(item, area, larger.params, config.warm_start)
