"""Insertion and deletion against a plain loop, and against curves that can be written down."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from extremal.workers.networks.network import IMAGENET, Network
from extremal.workers.saliency.fidelity import insertion_deletion, rise_blur

HEIGHT, WIDTH = 10, 14


def small() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5)
    ).eval().requires_grad_(False)  # fmt: skip
    return Network("small", module, IMAGENET, None, "")


class Mean(nn.Module):
    """Two outputs: the softmax of the first is the mean of the red channel, for values in [0,1]."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x[:, 0].mean((1, 2)).clamp(0, 1)
        return torch.stack([mean, 1 - mean], dim=1).log()


MEAN = Network("mean", Mean(), IMAGENET, None, "")


def randn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def curve(network: nn.Module, start: Tensor, end: Tensor, saliency: Tensor, target: int, step: int) -> float:
    """Area under a curve, pixel by pixel."""
    values = saliency.flatten().tolist()
    order = sorted(range(len(values)), key=lambda pixel: (-values[pixel], pixel))
    x, area = start.clone(), 0.0
    points = [(0.0, network(x.clone()[None]).softmax(1)[0, target].item())]
    for first in range(0, len(order), step):
        for pixel in order[first : first + step]:
            row, column = divmod(pixel, saliency.shape[1])
            x[:, row, column] = end[:, row, column]
        part = min(first + step, len(order)) / len(order)
        points.append((part, network(x.clone()[None]).softmax(1)[0, target].item()))
    for (left, low), (right, high) in pairwise(points):
        area += (right - left) * (low + high) / 2
    return area


@pytest.mark.parametrize("step", [9, 70, 1000])
def test_areas_equal_a_loop_over_pixels(step: int) -> None:
    network, inputs, maps = small(), 3 * randn(3, 3, HEIGHT, WIDTH), randn(3, 4, 5, seed=2)
    targets = torch.tensor([0, 4, 2])
    drawn = F.interpolate(maps[:, None], size=(HEIGHT, WIDTH), mode="bilinear")[:, 0]
    blurred = rise_blur(inputs).double()
    double = copy.deepcopy(network.module).double()
    found = insertion_deletion(network, inputs, maps, targets, step)
    for i, target in enumerate(targets.tolist()):
        x = inputs[i].double()
        expected = (
            curve(double, blurred[i], x, drawn[i], target, step),
            curve(double, x, torch.zeros_like(x), drawn[i], target, step),
        )
        assert found[0][i].item() == pytest.approx(expected[0], abs=1e-5)
        assert found[1][i].item() == pytest.approx(expected[1], abs=1e-5)


@pytest.mark.parametrize("slots", [1, 7, 500])
def test_pairs_and_inputs_at_once_change_nothing(slots: int) -> None:
    network, inputs, maps = small(), randn(3, 3, HEIGHT, WIDTH), randn(3, 4, 5, seed=2)
    targets = torch.tensor([0, 4, 2])
    together = insertion_deletion(network, inputs, maps, targets, 12)
    for i in range(3):
        one = slice(i, i + 1)
        alone = insertion_deletion(network, inputs[one], maps[one], targets[one], 12, slots)
        for whole, part in zip(together, alone, strict=True):
            torch.testing.assert_close(whole[one], part, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("step", [1, 7, 14])
def test_deletion_of_a_mean_is_a_parabola_of_the_bright_part(step: int) -> None:
    # The best order deletes the bright 3 of 10 rows first: from 0.3 straight to 0. The worst keeps 0.3 up
    # to the last 3 rows.
    inputs = torch.zeros(3, 3, HEIGHT, WIDTH)
    inputs[:, 0, :3] = 1
    bright = inputs[0, 0]
    maps = torch.stack([bright, -bright, torch.zeros_like(bright)])
    _, deletion = insertion_deletion(MEAN, inputs, maps, torch.zeros(3, dtype=torch.long), step)
    best, worst = 0.3**2 / 2, 0.3 * 0.7 + 0.3**2 / 2
    # A map of zeros deletes in reading order, and the bright rows come first.
    torch.testing.assert_close(deletion, torch.tensor([best, worst, best]), atol=1e-5, rtol=0)


def test_insertion_of_a_mean_rises_from_the_blurred_image() -> None:
    inputs = torch.zeros(1, 3, 40, 50)
    inputs[0, 0, 15:25, 20:30] = 1  # far from the border: the blur keeps the mean
    maps = inputs[:, 0]
    blurred, step = rise_blur(inputs)[0, 0].flatten().double(), 100
    assert blurred.mean().item() == pytest.approx(100 / 2000, abs=1e-6)
    order = torch.cat([(maps.flatten() == 1).nonzero(), (maps.flatten() == 0).nonzero()])[:, 0]
    gained = (inputs[0, 0].flatten().double() - blurred)[order].view(-1, step).sum(1).cumsum(0)
    curve = blurred.mean() + torch.cat([torch.zeros(1), gained]) / 2000
    expected = torch.trapezoid(curve, dx=step / 2000).item()
    insertion, _ = insertion_deletion(MEAN, inputs, maps, torch.zeros(1, dtype=torch.long), step)
    assert insertion.item() == pytest.approx(expected, abs=1e-5)
    assert curve[1] > 1.4 * curve[0], "the object comes first"


def test_a_part_of_a_step_at_the_end_counts_as_what_it_is() -> None:
    # 35 pixels in steps of 10: the fractions are 0, 10/35, 20/35, 30/35 and 1.
    inputs = torch.zeros(1, 3, 5, 7)
    inputs[:, 0] = 1
    targets = torch.zeros(1, dtype=torch.long)
    _, deletion = insertion_deletion(MEAN, inputs, inputs[:, 0], targets, 10)
    assert deletion.item() == pytest.approx(0.5, abs=1e-6)


def test_the_blur_is_that_of_the_authors_of_rise() -> None:
    images = randn(2, 3, 20, 25)
    impulse = np.zeros((11, 11))
    impulse[5, 5] = 1
    kernel = ndimage.gaussian_filter(impulse, 5)
    expected = [
        [ndimage.convolve(c, kernel, mode="constant") for c in image] for image in images.double().numpy()
    ]
    torch.testing.assert_close(rise_blur(images).double(), torch.from_numpy(np.array(expected)))


def test_steps_too_many_are_refused() -> None:
    with pytest.raises(ValueError, match=r"more than 1000 steps; give saliency.fidelity at least 3"):
        insertion_deletion(MEAN, randn(1, 3, 40, 60), randn(1, 4, 6), torch.tensor([0]), 1)
