"""RISE: random masks of a few cells, each weighted by the score under it (CMP-15; Petsiuk et al., 2018).

As in the reference protocol (item 15): a mask is a grid of cells, kept with probability p; it is drawn
bilinearly, reflected at its border, and shifted at random by less than a cell; the map is the sum of the
masks times the sigmoids of their logits, over their number N and not over N p. Ours differs in two ways:
the masks have the shape of the network's own input, which the reference squashes to 224 x 224 for this
method alone; and they come from the run's seed and the input's shape, so that all images of a shape share
them. The reflection is about the outermost cells' centres, without repeating them.
"""

import math

import torch
from torch import Tensor

from extremal.workers.networks.zoo import IMAGENET_CLASSES
from extremal.workers.saliency.batch import Batch, Maps, Method
from extremal.workers.saliency.masked_scores import chunks, masked_scores
from extremal.workers.saliency.settings import RiseConfig


class RandomMasks:
    """The masks of one input shape: the same for the same seed, whatever the device or drawn at once.

    Attributes:
        grids: (N,cells,cells) float32, 1 = keep.
        shifts: (N,2) int64, down and right, pixels, less than a cell of ceil(side / cells).
    """

    def __init__(self, config: RiseConfig, height: int, width: int, seed: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(seed % 2**63)
        cells = config.cells
        grids = torch.rand(config.masks, cells, cells, generator=generator) < config.keep
        places = torch.rand(config.masks, 2, generator=generator, dtype=torch.float64)
        sizes = [math.ceil(side / cells) for side in (height, width)]
        self.grids = grids.float().to(device)
        self.shifts = (places * torch.tensor(sizes)).long().to(device)
        # One cell more than the side is long: room for the shift.
        self._drawn = [_bilinear(cells, (cells + 1) * size).to(device) for size in sizes]
        self._pixels = [torch.arange(side, device=device) for side in (height, width)]

    def draw(self, masks: slice) -> Tensor:
        """(n,H,W) float32 in [0,1]: a range of the masks."""
        rows, columns = (
            self._drawn[axis][self.shifts[masks, axis, None] + self._pixels[axis]] for axis in (0, 1)
        )
        return rows @ self.grids[masks] @ columns.mT


def _bilinear(cells: int, length: int) -> Tensor:
    """(length,cells) float32: draws a row of cells linearly on pixels, reflected at the outermost centres."""
    position = (torch.arange(length, dtype=torch.float64) + 0.5) * cells / length - 0.5
    lower = position.floor()
    drawn = torch.zeros(length, cells, dtype=torch.float64)
    for cell, weight in ((lower, 1 - (position - lower)), (lower + 1, position - lower)):
        mirrored = (cells - 1 - (cells - 1 - cell.abs()).abs()).clamp(min=0)  # a single cell has no neighbour
        drawn.scatter_add_(1, mirrored.long()[:, None], weight[:, None])
    return drawn.float()


def probability(logits: Tensor) -> Tensor:
    """Of each class, (n,C) -> (n,C).

    The softmax for ImageNet's thousand classes, of which an image has one, as in RISE's paper; the sigmoid of
    a network that finds several, as in the benchmark (item 15). The sigmoid of an ImageNet network's logits,
    often above 10, would be 1 under any mask, and the map would show the masks alone.
    """
    return logits.softmax(1) if logits.shape[1] == IMAGENET_CLASSES else logits.sigmoid()


@torch.no_grad()
def rise(batch: Batch) -> Maps:
    r"""Maps (B,H,W) of the input's size: the mean of the masks, weighted by the probability under them.

    Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC
    2018 (CMP-15). With N random masks $`M_i`$ and the class's `probability` $`p`$,

    ```math
    s = \frac{1}{N} \sum_{i=1}^N p(x \cdot M_i) M_i
    ```
    """
    config, (height, width) = batch.settings(RiseConfig), batch.images.shape[-2:]
    count = config.masks
    masks = RandomMasks(config, height, width, batch.seed, batch.images.device)
    scores = masked_scores(batch, count, masks.draw, probability)
    maps = scores.new_zeros(len(scores), height * width)
    for chunk in chunks(count, batch.slots, height * width):
        maps.addmm_(scores[:, chunk], masks.draw(chunk).flatten(1))
    return Maps((maps / count).view(-1, height, width))


RISE = Method(rise)
