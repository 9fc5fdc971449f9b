"""Insertion and deletion: the score while pixels come or go in the order of a map (MET-3, as RISE did)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from extremal.workers.extremal.perturbation import gaussian_kernel
from extremal.workers.networks.network import Network
from extremal.workers.saliency.masked_scores import chunks

MAX_POINTS = 1000


@torch.no_grad()
def insertion_deletion(
    network: Network, inputs: Tensor, maps: Tensor, targets: Tensor, step: int, slots: int | None = None
) -> tuple[Tensor, Tensor]:
    r"""Areas under the insertion and the deletion curve; see docs/fidelity.md.

    Petsiuk, Das and Saenko, "RISE", BMVC 2018 (MET-3). With the probability $`p_j`$ of the target after the
    fraction $`f_j`$ of the pixels has changed,

    ```math
    \text{area} = \sum_j \tfrac{1}{2} (p_j + p_{j+1}) (f_{j+1} - f_j)
    ```

    A map is drawn bilinearly on the input and its pixels are ranked, the first in reading order where
    values tie. They change `step` at a time, the last step being what is left: for deletion from the input
    to zero, the mean colour; for insertion from the blurred input to the input. The curve is the softmax
    probability of the target over the fraction of changed pixels, its area the sum of trapezoids.

    Args:
        inputs: (B,3,H,W) float32, preprocessed, on the network's device.
        maps: (B,h,w) float32, on the same device.
        targets: (B,) int64.
        step: pixels.
        slots: most network inputs at once.

    Returns:
        insertion and deletion, (B,) float32 in [0,1], on the device.

    Raises:
        ValueError: they would take more than MAX_POINTS steps.
    """
    height, width = inputs.shape[-2:]
    pixels, device = height * width, inputs.device
    if pixels / step > MAX_POINTS:
        raise ValueError(
            f"insertion and deletion of {width}x{height} pixels by {step} take more than {MAX_POINTS} "
            f"steps; give saliency.fidelity at least {pixels // MAX_POINTS + 1}"
        )
    before = torch.cat([rise_blur(inputs), inputs])
    after = torch.cat([inputs, torch.zeros_like(inputs)])
    rank = _ranks(maps, height, width).repeat(2, 1, 1, 1)
    wanted = targets.repeat(2)
    changed = torch.tensor([*range(0, pixels, step), pixels], device=device)
    points = torch.cartesian_prod(torch.arange(len(before), device=device), changed)
    probabilities = []
    for part in chunks(len(points), slots, pixels):
        row, count = points[part].unbind(1)
        shown = torch.where(rank[row] < count.view(-1, 1, 1, 1), after[row], before[row])
        probabilities.append(network(shown).softmax(1).gather(1, wanted[row, None])[:, 0])
    curves = torch.cat(probabilities).view(2, len(inputs), len(changed))
    insertion, deletion = torch.trapezoid(curves, changed / pixels)
    return insertion, deletion


def _ranks(maps: Tensor, height: int, width: int) -> Tensor:
    """(B,h,w) maps -> (B,1,H,W) place of each pixel in descending order, from 0."""
    drawn = F.interpolate(maps[:, None], size=(height, width), mode="bilinear", align_corners=False)
    order = drawn.flatten(1).argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1).view(drawn.shape)


def rise_blur(images: Tensor) -> Tensor:
    """(B,3,H,W), blurred as RISE's authors do: 11 x 11 pixels, zero beyond the image.

    Their kernel is scipy's Gaussian of 5 pixels inside 11, whose tails are reflected back into the 11.
    """
    weights = gaussian_kernel(5.0, 20)
    place = (torch.arange(len(weights)) - 15) % 22
    kernel = torch.zeros(11, dtype=weights.dtype).index_add(0, torch.minimum(place, 21 - place), weights)
    kernel = kernel.to(images)
    flat = F.conv2d(images.reshape(-1, 1, *images.shape[-2:]), kernel.view(1, 1, -1, 1), padding=(5, 0))
    return F.conv2d(flat, kernel.view(1, 1, 1, -1), padding=(0, 5)).view(images.shape)
