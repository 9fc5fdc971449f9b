"""Extremal perturbations: for every image and area, the smooth mask of that area with the best score."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import TypedDict, Unpack

from extremal.workers.extremal.a_star import threshold
from extremal.workers.extremal.area import RankedArea, ones_of_area
from extremal.workers.extremal.engine import maximize
from extremal.workers.extremal.masks import mask_family
from extremal.workers.extremal.perturbation import perturb, pyramid
from extremal.workers.extremal.problems import (
    Chain,
    Problem,
    Rows,
    Solution,
    alone,
    tabulate,
    trace_steps,
)
from extremal.workers.extremal.settings import Game, Jitter, Preset, SpatialConfig, spatial_preset, with_steps
from extremal.workers.networks.network import Network, frozen


class SpatialNumbers(TypedDict, total=False):
    """Numbers that are given one by one.

    Attributes:
        areas: ascending fractions of the mask to keep; None = the preset's.
        game: preserve, delete or hybrid; None = the preset's (preserve).
        preset: fast, torchray or paper: all other numbers.
        steps: iterations; None = the preset's 100, 800 or 1600.
    """

    areas: Sequence[float] | None
    game: Game | None
    preset: Preset
    steps: int | None


@dataclass(frozen=True)
class SpatialResult:
    """Extremal masks of B images and A areas; float32, on the device of the network.

    Attributes:
        masks: (B,A,H,W) in [0,1], 1 = keep.
        params: (B,A,rows,columns) that draw them.
        scores: (B,A) logit with only the mask kept.
        scores_deleted: (B,A) logit with the mask deleted.
        score_full, score_perturbed: (B,) logit of the image, and of the fully perturbed image.
        areas: (B,A) mean of the masks: the areas reached.
        area_term, binarity, energy: (B,A) distance to the ideal mask, mean of min(m,1-m), objective.
        energy_steps: iterations of the trace. energy_trace: (B,A,T), NaN after an early end.
        steps: (B,A) int64, iterations that each mask took.
        a_star: (B,) smallest area whose score reaches tau of the full score, NaN if none does; on the CPU.
        search_steps: (B,) int64, iterations spent on areas beyond the list, in search of a_star.
        slots: most masks at once, less than asked for where memory ran out.
        config: every number used.
    """

    masks: Tensor
    params: Tensor
    scores: Tensor
    scores_deleted: Tensor
    score_full: Tensor
    score_perturbed: Tensor
    areas: Tensor
    area_term: Tensor
    binarity: Tensor
    energy: Tensor
    energy_steps: tuple[int, ...]
    energy_trace: Tensor
    steps: Tensor
    a_star: Tensor
    search_steps: Tensor
    slots: int
    config: SpatialConfig


def extremal_perturbation(
    network: Network | nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    seed: int | Sequence[int] = 0,
    config: SpatialConfig | None = None,
    slots: int | None = None,
    image: Sequence[int] | None = None,
    **numbers: Unpack[SpatialNumbers],
) -> SpatialResult:
    r"""Extremal perturbations of a batch, batched over images and areas together.

    Fong, Patrick and Vedaldi, "Understanding Deep Networks via Extremal Perturbations and Smooth Masks",
    ICCV 2019, eqs. 2 to 4: of every area $`a`$, the smooth mask with the best score, its area asked for by
    a penalty,

    ```math
    m_a = \underset{m \in \mathcal{M}}{\operatorname{argmax}} \Phi(m \otimes x) - \lambda R_a(m)
    \qquad
    a^* = \min \{ a : \Phi(m_a \otimes x) \ge \tau \Phi(x) \}
    ```

    where $`\Phi`$ is the target's logit, $`m \otimes x`$ the image perturbed where the mask is low, and
    $`R_a`$ the ranked `area_term`. See docs/mathematics.md.

    Args:
        network: from `load_network`, or any module that maps (B,3,H,W) to logits.
        images: (B,3,H,W) float, preprocessed for the network.
        targets: (B,) class indices, one per pair.
        seed: of the random jitter, one for all pairs or one per pair. Presets draw nothing at random.
        config: every number; replaces the preset.
        slots: most masks at once; None = `fitting_slots`.
        image: (B,) the image of each target, where several targets share one; None = one image each.
        **numbers: `areas`, `game`, `preset`, `steps`; see `SpatialNumbers`.

    Raises:
        ValueError: shapes do not fit, or a number is out of range.

    Example:
        The class score is the contrast of the left half, which blurring takes away, so the mask lies there:

        >>> class Left(torch.nn.Module):
        ...     def forward(self, x):
        ...         return 100 * x[..., :32].abs().mean((1, 2, 3))[:, None]
        >>> checks = (torch.arange(64) + torch.arange(64)[:, None]) % 2 * 2.0 - 1
        >>> image, target = checks.expand(1, 3, 64, 64), torch.tensor([0])
        >>> result = extremal_perturbation(Left(), image, target, areas=[0.1], steps=30)
        >>> result.masks.shape
        torch.Size([1, 1, 64, 64])
        >>> left, right = result.masks[0, 0].chunk(2, dim=1)
        >>> bool(left.mean() > 4 * right.mean())
        True
    """
    config = _chosen(config, **numbers)
    index = check_pairs(images, targets, image)
    with frozen(network) as net:
        flips = _flips(config, len(targets), seed)
        device = net.device
        objective = SpatialObjective(
            net, images.to(device), index.to(device), targets.to(device), flips, config
        )
        return _run(objective, slots)


def _chosen(
    config: SpatialConfig | None,
    *,
    areas: Sequence[float] | None = None,
    game: Game | None = None,
    preset: Preset = "fast",
    steps: int | None = None,
) -> SpatialConfig:
    config = config or spatial_preset(preset)
    if areas is not None:
        config = replace(config, areas=tuple(areas))
    if game is not None:
        config = replace(config, game=game)
    return replace(config, schedule=with_steps(config.schedule, steps))


def check_pairs(images: Tensor, targets: Tensor, image: Sequence[int] | None) -> Tensor:
    """The image (B,) of each pair.

    Raises:
        ValueError: unless images are (I,3,H,W) floats, targets (B,) integers, and each pair has an image.
    """
    if images.ndim != 4 or not images.is_floating_point() or len(images) == 0:
        raise ValueError(f"images must be floats (B,3,H,W), not {images.dtype} {tuple(images.shape)}")
    of_each = list(range(len(images)) if image is None else image)
    if targets.shape != (len(of_each),) or targets.is_floating_point():
        raise ValueError(
            f"targets must be {len(of_each)} integers, not {targets.dtype} {tuple(targets.shape)}"
        )
    if not all(0 <= index < len(images) for index in of_each):
        raise ValueError(f"image must hold numbers from 0 to {len(images) - 1}, not {of_each}")
    return torch.tensor(of_each)


class SpatialObjective:
    """Scores of masks on the images of B pairs; an `Objective`.

    Attributes:
        levels: (I,L,3,H,W) pyramids of the I images. image: (B,) the image of each pair.
    """

    def __init__(
        self,
        network: Network,
        images: Tensor,
        image: Tensor,
        targets: Tensor,
        flips: np.ndarray,
        config: SpatialConfig,
    ) -> None:
        self.network, self.config = network, config
        self.height, self.width = images.shape[-2:]
        self.family = mask_family(self.height, self.width, config.mask, images.device, images.dtype)
        self.levels = pyramid(images, config)
        self.image, self.targets = image, targets
        self._flips = flips
        self._device_flips = torch.from_numpy(flips).to(images.device)
        self.area = RankedArea(partial(ones_of_area, values=int(np.prod(self.family.padded_shape))))

    def start(self, problem: Problem) -> Tensor:
        return self.levels.new_ones(self.family.param_shape)

    def project(self, params: Tensor, rows: Rows) -> None:
        params.clamp_(0, 1)

    def evaluate(self, params: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        padded = self.family.draw(params)
        masks = self.family.crop(padded)
        reward = torch.zeros((), device=params.device)
        if self.config.game != "delete":
            reward = reward + self.score(masks, rows)
        if self.config.game != "preserve":
            reward = reward - self.score(1 - masks, rows)
        return reward, self.area(padded.flatten(1), rows)

    def score(self, masks: Tensor, rows: Rows, jitter: bool = True) -> Tensor:
        """(N,H,W) masks -> (N,) logits of their pairs' targets."""
        shown = perturb(self.levels, masks, self.image[rows.items])
        if jitter and self.config.jitter != "none":
            shown = self._flip(shown, rows)
        return pick(self.network(shown), self.targets[rows.items])

    def _flip(self, shown: Tensor, rows: Rows) -> Tensor:
        """Left-right where the pair's jitter says so at its age; most often all of them or none."""
        ages = zip(rows.ages, rows.problems, strict=True)
        flipped = {bool(self._flips[age, problem.item]) for age, problem in ages}
        if flipped == {True}:
            return shown.flip(-1)
        if flipped == {False}:
            return shown
        where = self._device_flips[rows.at, rows.items]
        return torch.where(where[:, None, None, None], shown.flip(-1), shown)

    @torch.no_grad()
    def ends(self) -> tuple[Tensor, Tensor]:
        """(B,) logits of the images, and of the images perturbed everywhere."""
        first, last = (self.network(self.levels[:, level].clone()) for level in (0, -1))
        return pick(last[self.image], self.targets), pick(first[self.image], self.targets)

    def finish(self, params: Tensor, rows: Rows) -> dict[str, Tensor]:
        masks = self.family.crop(self.family.draw(params))
        return {
            "masks": masks,
            "scores": self.score(masks, rows, jitter=False),
            "scores_deleted": self.score(1 - masks, rows, jitter=False),
        }


def _run(objective: SpatialObjective, slots: int | None) -> SpatialResult:
    config, targets = objective.config, objective.targets
    full, nothing = objective.ends()
    wanted = threshold(full, config.tau).tolist()
    chains = [chain for item, score in enumerate(wanted) for chain in _chains(item, score, config)]
    solutions, slots = maximize(chains, objective, config.schedule, slots)
    table = tabulate(solutions, len(targets), config.areas)
    masks = table["masks"]
    a_star, search_steps = _smallest(solutions, wanted, config)
    return SpatialResult(
        masks=masks,
        params=table["params"],
        scores=table["scores"],
        scores_deleted=table["scores_deleted"],
        score_full=full,
        score_perturbed=nothing,
        areas=masks.mean((-2, -1)),
        area_term=table["penalty"],
        binarity=torch.minimum(masks, 1 - masks).mean((-2, -1)),
        energy=table["energy"],
        energy_steps=trace_steps(config.schedule.steps),
        energy_trace=table["energies"],
        steps=table["steps"],
        a_star=a_star,
        search_steps=search_steps,
        slots=slots,
        config=config,
    )


def _smallest(
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


def _chains(item: int, wanted: float, config: SpatialConfig) -> Iterator[Chain]:
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


def pick(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,C) logits and (N,) classes -> (N,) scores."""
    return logits.gather(1, targets[:, None])[:, 0]


def _flips(config: SpatialConfig, batch: int, seed: int | Sequence[int]) -> np.ndarray:
    """(steps,B) bool: where the perturbed image is flipped left-right.

    Random flips come from each image's own generator, so that they do not depend on its batch.
    """
    steps, jitter = config.schedule.steps, config.jitter
    seeds = [seed] * batch if isinstance(seed, int) else list(seed)
    if len(seeds) != batch:
        raise ValueError(f"{len(seeds)} seeds for {batch} images")
    return np.stack([_flip_column(jitter, steps, s) for s in seeds], axis=1)


def _flip_column(jitter: Jitter, steps: int, seed: int) -> np.ndarray:
    if jitter == "random":
        return np.asarray(np.random.default_rng(seed).random(steps) < 0.5)
    return np.asarray((np.arange(steps) % 2 == 0) & (jitter == "alternate"))
