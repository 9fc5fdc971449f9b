"""Occlusion against double loops in float64."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from extremal.workers.networks.network import IMAGENET, Network
from extremal.workers.saliency import Batch
from extremal.workers.saliency.config import SaliencyConfig
from extremal.workers.saliency.masked_scores import chunks
from extremal.workers.saliency.occlusion import corners, occlusion
from extremal.workers.saliency.settings import OcclusionConfig


def small() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, 5),
    ).eval().requires_grad_(False)  # fmt: skip
    return Network("small", module, IMAGENET, None, "")


def batch(height: int, width: int, window: int, stride: int) -> Batch:
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    config = SaliencyConfig(methods=("occlusion",), occlusion=OcclusionConfig(window, stride))
    targets = torch.tensor([1, 4, 1])
    return Batch(
        network=small(), images=images, image=[1, 0, 0], targets=targets, seeds=[1, 2, 3], config=config
    )


def test_windows_lie_at_multiples_of_the_stride_and_at_the_end() -> None:
    assert corners(10, 4, 3) == [0, 3, 6]
    assert corners(11, 4, 3) == [0, 3, 6, 7]
    assert corners(4, 4, 1) == [0]
    assert corners(3, 4, 2) == [0]
    assert corners(224, 35, 8) == [*range(0, 189, 8), 189]


# Sides that fit the stride and sides that do not, one shorter than the window, windows side by side.
@pytest.mark.parametrize(
    ("height", "width", "window", "stride"), [(14, 19, 5, 3), (11, 23, 4, 4), (9, 20, 12, 7)]
)
def test_each_pixel_has_the_mean_drop_of_the_windows_on_it(
    height: int, width: int, window: int, stride: int
) -> None:
    given = batch(height, width, window, stride)
    network = copy.deepcopy(given.network.module).double()
    expected = torch.zeros(3, height, width, dtype=torch.float64)
    covers = torch.zeros(height, width, dtype=torch.float64)
    for top in corners(height, window, stride):
        for left in corners(width, window, stride):
            inside = (slice(top, top + window), slice(left, left + window))
            covers[inside] += 1
            for pair, (image, target) in enumerate(zip(given.image, given.targets, strict=True)):
                x = given.images[image : image + 1].double()
                hidden = x.clone()
                hidden[0][:, inside[0], inside[1]] = 0
                expected[pair][inside] += network(x.clone())[0, target] - network(hidden)[0, target]
    assert covers.min() >= 1
    found = occlusion(given).maps
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected / covers, atol=1e-6, rtol=1e-4)
    assert (expected / covers).std() > 1e-3, "a flat map would prove nothing"
    torch.testing.assert_close(occlusion(replace(given, slots=3)).maps, found, atol=1e-6, rtol=1e-4)


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum((1, 2, 3))[:, None]


def test_of_a_sum_with_windows_of_a_pixel_the_map_is_the_image() -> None:
    network = Network("sum", Sum(), IMAGENET, None, "")
    given = replace(batch(7, 9, 1, 1), network=network, targets=torch.zeros(3, dtype=torch.long))
    torch.testing.assert_close(occlusion(given).maps, given.inputs.sum(1), atol=2e-5, rtol=1e-5)


def test_one_pass_serves_all_classes_of_an_image() -> None:
    given = batch(14, 19, 5, 3)
    sizes: list[int] = []
    with given.network.module.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0]))):
        occlusion(given)
    windows = len(corners(14, 5, 3)) * len(corners(19, 5, 3))
    assert sum(sizes) == 2 + 2 * windows


def test_one_large_image_at_a_time() -> None:
    """However many masks there are, their inputs must not fill the memory."""
    sizes = [part.stop - part.start for part in chunks(10, None, 2**21)]
    assert sizes == [2] * 5
    assert [part.stop for part in chunks(70, None, 224 * 298)] == [32, 64, 70]
    assert [part.stop for part in chunks(3, None, 2**30)] == [1, 2, 3]
