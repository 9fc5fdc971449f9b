"""Blur, pyramid and lookup against brute force and float64 gradients."""

import math
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from extremal.workers.extremal.perturbation import gaussian_blur, perturb, pyramid
from extremal.workers.extremal.settings import SpatialConfig

FOUR = torch.tensor([1, 0, 0, 1])  # the image under each of four masks


def images(height: int = 20, width: int = 26) -> torch.Tensor:
    return torch.randn(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_blur_equals_scipy() -> None:
    x = images()
    expected = gaussian_filter(x.numpy(), sigma=(0, 0, 2.5, 2.5), mode="constant", radius=(0, 0, 10, 10))
    np.testing.assert_allclose(gaussian_blur(x, 2.5).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("border", ["zero", "renormalize"])
def test_blur_equals_the_sum_over_all_pixels(border: Literal["zero", "renormalize"]) -> None:
    x, sigma = images(9, 11)[:1, :1], 3.0
    radius = math.ceil(4 * sigma)
    offsets = np.arange(-radius, radius + 1)
    norm = np.exp(-(offsets**2) / (2 * sigma**2)).sum() ** 2
    expected = np.zeros((9, 11))
    for y in range(9):
        for c in range(11):
            v, w = np.mgrid[0:9, 0:11]
            near = (abs(v - y) <= radius) & (abs(w - c) <= radius)
            kernel = np.exp(-((v - y) ** 2 + (w - c) ** 2) / (2 * sigma**2)) * near
            total = kernel.sum() if border == "renormalize" else norm
            expected[y, c] = (kernel * x[0, 0].numpy()).sum() / total
    np.testing.assert_allclose(gaussian_blur(x, sigma, border)[0, 0].numpy(), expected, atol=1e-12)


def test_pyramid_goes_from_the_strongest_blur_to_the_image() -> None:
    x = images()
    config = SpatialConfig(levels=5, sigma_max=4.0)
    levels = pyramid(x, config)
    assert levels.shape == (2, 5, 3, 20, 26)
    assert torch.equal(levels[:, -1], x)
    torch.testing.assert_close(levels[:, 0], gaussian_blur(x, 4.0))
    torch.testing.assert_close(levels[:, 3], gaussian_blur(x, 1.0))


def test_fading_is_a_product_with_the_mask() -> None:
    x, masks = images(), torch.rand(4, 20, 26, dtype=torch.float64)
    levels = pyramid(x, SpatialConfig(perturbation="fade"))
    torch.testing.assert_close(perturb(levels, masks, FOUR), x[FOUR] * masks[:, None])


def test_lookup_equals_brute_force() -> None:
    levels = pyramid(images(6, 7), SpatialConfig(levels=4, sigma_max=3.0))
    masks = torch.rand(4, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    masks[0, 0, :3] = torch.tensor([0.0, 1.0, 1 / 3], dtype=torch.float64)
    out = perturb(levels, masks, FOUR)
    for n, y, x in np.ndindex(4, 6, 7):
        b, position = FOUR[n], masks[n, y, x].item() * 3
        low = min(int(position), 2)
        weight = position - low
        expected = (1 - weight) * levels[b, low, :, y, x] + weight * levels[b, low + 1, :, y, x]
        torch.testing.assert_close(out[n, :, y, x], expected)


def test_mask_of_ones_keeps_and_of_zeros_perturbs() -> None:
    levels = pyramid(images(), SpatialConfig())
    ones = torch.ones(4, 20, 26, dtype=torch.float64)
    assert torch.equal(perturb(levels, ones, FOUR), levels[FOUR, -1])
    assert torch.equal(perturb(levels, 0 * ones, FOUR), levels[FOUR, 0])


def test_lookup_gradient() -> None:
    levels = pyramid(images(4, 5), SpatialConfig(levels=3, sigma_max=2.0))
    masks = torch.rand(4, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert torch.autograd.gradcheck(lambda m: perturb(levels, m, FOUR), masks.requires_grad_())
