"""Points in original pixels, against drawing and blurring one after the other."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from extremal.workers.extremal.perturbation import gaussian_blur
from extremal.workers.images import Preprocess
from extremal.workers.pointing.point import locate, to_original
from extremal.workers.pointing.smooth import Smooth


@pytest.mark.parametrize("smooth", [0.0, 0.09])
def test_drawing_equals_interpolation_and_convolution(smooth: float) -> None:
    saliency = torch.rand(14, 18, generator=torch.Generator().manual_seed(0))
    width, height, region = 120, 90, (20.0, 10.0, 110.0, 80.0)
    canvas = torch.zeros(height, width)
    drawn = F.interpolate(saliency[None, None], size=(70, 90), mode="bilinear", align_corners=False)
    canvas[10:80, 20:110] = drawn[0, 0]
    expected = gaussian_blur(canvas[None, None], smooth * 90)[0, 0]
    torch.testing.assert_close(to_original(saliency, region, width, height, Smooth(smooth)), expected)


def test_a_peak_is_found_where_it_lies_in_the_original() -> None:
    preprocess = Preprocess(resize=256, crop=224, mean=(0.5,) * 3, std=(0.5,) * 3)
    width, height = 500, 375
    saliency = torch.zeros(224, 224)
    saliency[100:105, 30:35] = 1
    x, y = locate(saliency, preprocess.region(width, height), width, height, Smooth(0.02))
    scale = 375 / 256
    assert x == pytest.approx((500 - 224 * scale) / 2 + 32.5 * scale, abs=2)
    assert y == pytest.approx((375 - 224 * scale) / 2 + 102.5 * scale, abs=2)


def test_a_negative_map_still_points_inside_the_crop() -> None:
    saliency = -torch.rand(7, 7, generator=torch.Generator().manual_seed(1)) - 1
    saliency[3, 4] = -0.5
    x, y = locate(saliency, (100.0, 50.0, 324.0, 274.0), 500, 375)
    assert 100 + 4 * 32 <= x < 100 + 5 * 32
    assert 50 + 3 * 32 <= y < 50 + 4 * 32


def test_the_first_maximum_wins_a_tie_and_one_pixel_is_enough() -> None:
    assert locate(torch.ones(3, 3), (0.0, 0.0, 9.0, 9.0), 9, 9) == (0, 0)
    assert locate(torch.ones(5, 5), (0.0, 0.0, 1.0, 1.0), 1, 1, Smooth(0.09)) == (0, 0)


def test_a_large_photograph_gives_a_whole_finite_map() -> None:
    saliency = torch.rand(32, 43)
    out = to_original(saliency, (0.0, 0.0, 2000.0, 1500.0), 2000, 1500, Smooth(0.09))
    assert out.shape == (1500, 2000)
    assert np.isfinite(out.numpy()).all()
