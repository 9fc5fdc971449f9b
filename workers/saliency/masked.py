"""Scores of images under many masks that fade to the mean colour: what RISE and occlusion are made of."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from workers.pulse import PULSE
from workers.saliency.batch import Batch

# Network inputs at once where no number is given: the reference protocol's (item 15).
INPUTS = 32


def chunks(count: int, size: int | None) -> Iterator[slice]:
    """0 to count in parts of at most `size`, None = INPUTS; each part is a sign of life."""
    size = size or INPUTS
    for start in range(0, count, size):
        PULSE.beat()
        yield slice(start, min(start + size, count))


@torch.no_grad()
def masked_logits(batch: Batch, count: int, draw: Callable[[slice], Tensor]) -> Tensor:
    """Logit of each pair's target on its image times each of `count` masks.

    Zero in the network's normalised input is the mean colour. One pass over an image's masks serves all
    its classes, and no forward pass holds two images: what shares a batch changes nothing.

    Args:
        draw: a range of the masks -> (n,H,W) float32 on the device, 1 = keep.

    Returns:
        (B,count) float32.
    """
    images, targets = batch.images, batch.targets
    table = images.new_empty(len(targets), count)
    for i in sorted(set(batch.image)):
        pairs = torch.tensor([pair for pair, of in enumerate(batch.image) if of == i], device=images.device)
        wanted = targets[pairs]
        parts = [
            batch.network(images[i] * draw(part)[:, None])[:, wanted] for part in chunks(count, batch.slots)
        ]
        table[pairs] = torch.cat(parts).t()
    return table
