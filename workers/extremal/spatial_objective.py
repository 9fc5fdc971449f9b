"""The scores that extremal perturbations maximize: those of masks on images."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from extremal.workers.extremal.area import RankedArea, ones_of_area
from extremal.workers.extremal.masks import mask_family
from extremal.workers.extremal.perturbation import perturb, pyramid
from extremal.workers.extremal.problems import Problem, Rows
from extremal.workers.extremal.settings import Jitter, SpatialConfig
from extremal.workers.networks.network import Network, pick


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


def flips_of(config: SpatialConfig, batch: int, seed: int | Sequence[int]) -> np.ndarray:
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
