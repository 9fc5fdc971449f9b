"""Scores of images under many masks that fade to the mean colour: what RISE and occlusion are made of."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from extremal.workers.heartbeat import PULSE
from extremal.workers.saliency.batch import Batch

# Network inputs at once where no number is given: the reference protocol's (item 15), or fewer large ones.
INPUTS = 32
INPUT_PIXELS = INPUTS * 2**17


def chunks(count: int, size: int | None, pixels: int) -> Iterator[slice]:
    """0 to count in parts of at most `size`, each of them a sign of life.

    Args:
        size: None = INPUTS, or as many of `pixels` each as INPUT_PIXELS allow.
    """
    size = size or max(1, min(INPUTS, INPUT_PIXELS // pixels))
    for start in range(0, count, size):
        PULSE.beat()
        yield slice(start, min(start + size, count))


@torch.no_grad()
def masked_scores(
    batch: Batch, count: int, draw: Callable[[slice], Tensor], score: Callable[[Tensor], Tensor]
) -> Tensor:
    """Score of each pair's target on its image times each of `count` masks.

    Zero in the network's normalised input is the mean colour. One pass over an image's masks serves all
    its classes, and no forward pass holds two images: what shares a batch changes nothing.

    Args:
        draw: a range of the masks -> (n,H,W) float32 on the device, 1 = keep.
        score: logits (n,C) -> scores (n,C).

    Returns:
        (B,count) float32.
    """
    images, targets = batch.images, batch.targets
    table, pixels = images.new_empty(len(targets), count), images.shape[-2] * images.shape[-1]
    for i in sorted(set(batch.image)):
        pairs = torch.tensor([pair for pair, of in enumerate(batch.image) if of == i], device=images.device)
        wanted = targets[pairs]
        parts = [
            score(batch.network(images[i] * draw(part)[:, None]))[:, wanted]
            for part in chunks(count, batch.slots, pixels)
        ]
        table[pairs] = torch.cat(parts).t()
    return table
