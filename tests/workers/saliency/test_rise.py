"""RISE against its definition: masks drawn by scipy, one forward pass at a time in float64."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from extremal.workers.networks.network import IMAGENET, Network
from extremal.workers.saliency import Batch
from extremal.workers.saliency.config import SaliencyConfig
from extremal.workers.saliency.rise import RandomMasks, probability, rise
from extremal.workers.saliency.settings import RiseConfig

CPU = torch.device("cpu")
HEIGHT, WIDTH = 30, 45


class Small(nn.Module):
    """Five logits; it counts the images that it sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=3), nn.Tanh(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.fc = nn.Linear(8, 5)
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        logits: Tensor = 8 * self.fc(self.layers(x).flatten(1))
        return logits


def small() -> Network:
    return Network("small", Small().eval().requires_grad_(False), IMAGENET, None, "")


def batch(config: RiseConfig, seed: int = 0, slots: int | None = None) -> Batch:
    images = torch.randn(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([0, 3, 4])
    saliency = SaliencyConfig(methods=("rise",), rise=config)
    return Batch(
        network=small(),
        images=images,
        image=[0, 0, 1],
        targets=targets,
        seeds=[1, 2, 3],
        seed=seed,
        config=saliency,
        slots=slots,
    )


@pytest.mark.parametrize("cells", [1, 2, 7])
def test_masks_are_grids_drawn_with_reflection_and_shifted(cells: int) -> None:
    masks = RandomMasks(RiseConfig(6, cells, 0.5), HEIGHT, WIDTH, 3, CPU)
    sizes = [math.ceil(side / cells) for side in (HEIGHT, WIDTH)]
    for mask, grid, shift in zip(masks.draw(slice(0, 6)), masks.grids, masks.shifts.tolist(), strict=True):
        assert all(0 <= first < size for first, size in zip(shift, sizes, strict=True))
        zoom = [(cells + 1) * size / cells for size in sizes]
        drawn = ndimage.zoom(grid.double().numpy(), zoom, order=1, mode="mirror", grid_mode=True)
        cut = drawn[shift[0] : shift[0] + HEIGHT, shift[1] : shift[1] + WIDTH]
        np.testing.assert_allclose(mask, cut, atol=1e-6)


@pytest.mark.parametrize("keep", [0.25, 0.5])
def test_masks_keep_what_was_asked_for_everywhere_and_use_every_shift(keep: float) -> None:
    count = 4000
    masks = RandomMasks(RiseConfig(count, 7, keep), HEIGHT, WIDTH, 0, CPU)
    drawn = masks.draw(slice(0, count))
    deviation = math.sqrt(keep * (1 - keep) / count)
    assert (drawn.mean(0) - keep).abs().max() < 6 * deviation
    assert 0 <= drawn.min() < 1e-6
    assert 1 - 1e-6 < drawn.max() < 1 + 1e-6
    for axis, cell in ((0, 5), (1, 7)):
        assert set(masks.shifts[:, axis].tolist()) == set(range(cell))


def test_masks_depend_on_the_seed_and_the_shape_alone() -> None:
    config = RiseConfig(20, 3, 0.5)
    masks = RandomMasks(config, HEIGHT, WIDTH, 5, CPU)
    whole = masks.draw(slice(0, 20))
    torch.rand(7)  # another generator's draws change nothing
    again = RandomMasks(config, HEIGHT, WIDTH, 5, CPU)
    parts = torch.cat([again.draw(slice(start, start + 3)) for start in range(0, 20, 3)])
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)
    other = RandomMasks(config, HEIGHT, WIDTH, 6, CPU)
    assert (other.grids != masks.grids).any()
    assert (other.shifts != masks.shifts).any()
    turned = RandomMasks(config, WIDTH, HEIGHT, 5, CPU)
    assert turned.draw(slice(0, 20)).shape == (20, WIDTH, HEIGHT)
    assert turned.grids.equal(masks.grids)


def test_maps_are_those_of_the_definition_evaluated_mask_by_mask() -> None:
    given = batch(RiseConfig(25, 4, 0.4), seed=11)
    masks = RandomMasks(given.config.rise, HEIGHT, WIDTH, 11, CPU).draw(slice(0, 25)).double()
    network = copy.deepcopy(given.network.module).double()
    expected = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.float64)
    for pair, (image, target) in enumerate(zip(given.image, given.targets.tolist(), strict=True)):
        for mask in masks:
            logit = network((given.images[image].double() * mask)[None])[0, target].item()
            expected[pair] += mask / (1 + math.exp(-logit))
    found = rise(given).maps
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected / 25, atol=1e-6, rtol=1e-5)
    assert expected.std() > 0.1, "a flat map would prove nothing"


@pytest.mark.parametrize("slots", [1, 7, 100])
def test_the_number_of_inputs_at_once_changes_nothing(slots: int) -> None:
    given = batch(RiseConfig(40, 4, 0.5))
    torch.testing.assert_close(rise(replace(given, slots=slots)).maps, rise(given).maps, atol=1e-6, rtol=1e-5)


def test_one_pass_serves_all_classes_of_an_image_and_none_is_larger_than_asked_for() -> None:
    given = batch(RiseConfig(10, 4, 0.5), slots=4)
    sizes: list[int] = []
    with given.network.module.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0]))):
        rise(given)
    assert sizes == [4, 4, 2] * 2


class Quadrants(nn.Module):
    """Logit c is the contrast in quadrant c."""

    def forward(self, x: Tensor) -> Tensor:
        grey = x.abs().mean(1)
        h, w = grey.shape[1] // 2, grey.shape[2] // 2
        parts = [grey[:, :h, :w], grey[:, :h, w:], grey[:, h:, :w], grey[:, h:, w:]]
        return torch.stack([part.mean((1, 2)) for part in parts], dim=1) * 10 - 4


def test_the_map_is_highest_where_the_score_comes_from() -> None:
    network = Network("quadrants", Quadrants(), IMAGENET, None, "")
    given = replace(
        batch(RiseConfig(400, 4, 0.5)), network=network, image=[0] * 4, targets=torch.arange(4), seeds=[0] * 4
    )
    maps = rise(given).maps
    h, w = HEIGHT // 2, WIDTH // 2
    for target, one in enumerate(maps):
        row, column = divmod(int(one.argmax()), WIDTH)
        assert 2 * (row >= h) + (column >= w) == target


class Sides(nn.Module):
    """A thousand logits of 10 and more, as of ImageNet: the first for the left side, the second for right."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[3] // 2
        sides = torch.stack([x[:, 0, :, :half].mean((1, 2)), x[:, 0, :, half:].mean((1, 2))], 1)
        return torch.cat([20 + 5 * sides, x.new_full((len(x), 998), 10.0)], 1)


def test_a_network_of_one_class_an_image_is_not_saturated() -> None:
    """The sigmoid of its logits is 1 under any mask, and its map would show the masks alone."""
    network = Network("sides", Sides(), IMAGENET, None, "")
    saliency = SaliencyConfig(methods=("rise",), rise=RiseConfig(200))
    images, targets = torch.ones(1, 3, HEIGHT, WIDTH), torch.tensor([0, 1])
    pairs = Batch(
        network=network, images=images, image=[0, 0], targets=targets, seeds=[1, 2], config=saliency
    )
    left, right = rise(pairs).maps
    half = WIDTH // 2
    difference = left - right
    assert difference[:, :half].mean() > 0.01
    assert difference[:, half:].mean() < -0.01
    logits = torch.linspace(-3, 3, 20)[None]
    torch.testing.assert_close(probability(logits), logits.sigmoid())
