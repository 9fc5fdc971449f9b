"""Occlusion: how far the score drops under a square of the mean colour (CMP-14; Zeiler and Fergus, 2014)."""

import torch
from torch import Tensor

from extremal.workers.networks.network import pick
from extremal.workers.saliency.batch import Batch, Maps, Method
from extremal.workers.saliency.masked_scores import masked_scores
from extremal.workers.saliency.settings import OcclusionConfig


def corners(side: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along a side: every `stride`, and one that ends where the side ends.

    A side shorter than the window has one window, all of it.
    """
    last = max(side - window, 0)
    return [*range(0, last, stride), last]


@torch.no_grad()
def occlusion(batch: Batch) -> Maps:
    r"""Maps (B,H,W) of the input's size: of each pixel, the mean drop of the logit over the windows on it.

    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014 (CMP-14). With the
    windows $`W`$ of the mean colour,

    ```math
    s_u = \frac{1}{|\{W : u \in W\}|} \sum_{W \ni u} \Phi(x) - \Phi(x \cdot (1 - 1_W))
    ```

    All windows of an image serve all its classes.
    """
    config, images = batch.settings(OcclusionConfig), batch.images
    rows, columns = (
        _windows(side, config.window, config.stride).to(images.device) for side in images.shape[-2:]
    )
    across = len(columns)

    def around(part: slice) -> Tensor:
        index = torch.arange(part.start, part.stop, device=images.device)
        return 1 - rows[index // across, :, None] * columns[index % across, None, :]

    whole = pick(batch.network(images.clone())[list(batch.image)], batch.targets)
    drops = whole[:, None] - masked_scores(batch, len(rows) * across, around, lambda logits: logits)
    summed = rows.t() @ drops.view(-1, len(rows), across) @ columns
    return Maps(summed / torch.outer(rows.sum(0), columns.sum(0)))


def _windows(side: int, window: int, stride: int) -> Tensor:
    """(windows,side) float32: 1 inside."""
    first = torch.tensor(corners(side, window, stride))[:, None]
    pixels = torch.arange(side)
    return ((first <= pixels) & (pixels < first + window)).float()


OCCLUSION = Method(occlusion)
