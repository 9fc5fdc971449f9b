"""The mask family against a direct evaluation of its definition in float64."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from extremal.workers.extremal.kernel import kernel_profile
from extremal.workers.extremal.masks import MaskFamily, render_masks
from extremal.workers.extremal.settings import MaskConfig
from extremal.workers.extremal.smooth_max import Taps, direct_backward, direct_forward, make_taps, smooth_max

TORCHRAY = MaskConfig(step=3, sigma=6.0)
PAPER = MaskConfig(step=3, sigma=8.0, kernel="paper")


def brute_force_mask(params: np.ndarray, height: int, width: int, config: MaskConfig) -> np.ndarray:
    """Every pixel on its own: smax over all parameters inside the window of its cell (A.1, corrected)."""
    margin, step, sigma = math.ceil(config.sigma), config.step, config.sigma
    pad, reach = 1 + math.ceil((sigma + margin) / step), 1 + math.ceil(sigma / step)
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            v, w = y + margin, x + margin  # position in the frame with its margin
            terms = []
            for ky in range(2 * reach + 1):
                for kx in range(2 * reach + 1):
                    i, j = v // step + ky - pad, w // step + kx - pad
                    inside = 0 <= i < params.shape[0] and 0 <= j < params.shape[1]
                    value = params[i, j] if inside else 0.0
                    d = math.hypot(v - (step * i + margin), w - (step * j + margin))
                    if config.kernel == "torchray":
                        weight = math.exp(-2 * max(0.0, d / sigma - 0.5) ** 2)
                    else:
                        weight = math.exp(-(max(0.0, d / step - 1) ** 2) / 4)
                    terms.append(weight * value)
            f = np.array(terms)
            e = np.exp(config.inverse_temperature * f)
            out[y, x] = (f * e).sum() / e.sum()
    return out


@pytest.mark.parametrize("config", [TORCHRAY, PAPER, MaskConfig(step=1, sigma=1.0)])
@pytest.mark.parametrize(("height", "width"), [(9, 9), (10, 14), (7, 5)])
def test_equals_brute_force(config: MaskConfig, height: int, width: int) -> None:
    family = MaskFamily(height, width, config, dtype=torch.float64)
    params = torch.rand(
        2, *family.param_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    drawn = family.crop(family.draw(params))
    assert drawn.shape == (2, height, width)
    for i in range(2):
        np.testing.assert_allclose(
            drawn[i].numpy(), brute_force_mask(params[i].numpy(), height, width, config), rtol=0, atol=1e-12
        )


def test_smooth_max_gradient() -> None:
    generator = torch.Generator().manual_seed(4)
    values = torch.rand(2, 5, 3, dtype=torch.float64, generator=generator).requires_grad_()
    weights = torch.rand(4, 5, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(lambda v: smooth_max(v, make_taps(weights, 20.0, dtype=v.dtype)), values)


@pytest.mark.parametrize("config", [MaskConfig(), MaskConfig(sigma=35.0, kernel="paper")])
@pytest.mark.parametrize("high", [0.05, 0.5, 1.0])
def test_matrix_products_equal_the_definition_in_float64(config: MaskConfig, high: float) -> None:
    generator = torch.Generator().manual_seed(9)
    weights = MaskFamily(28, 28, config, dtype=torch.float64)._taps.weights
    values = high * torch.rand(2, weights.shape[1], 30, dtype=torch.float64, generator=generator)
    values[:, :, :10] = (values[:, :, :10] > 0.9 * high) * high
    grad = torch.randn(2, len(weights), 30, dtype=torch.float64, generator=generator)

    def evaluate(dtype: torch.dtype, fitted: bool) -> tuple[torch.Tensor, torch.Tensor]:
        taps = make_taps(weights, 20.0, dtype=dtype)
        assert (taps.fit is not None) == (dtype == torch.float32)
        variable = values.to(dtype).requires_grad_()
        out = smooth_max(variable, taps if fitted else replace(taps, fit=None))
        return out, torch.autograd.grad(out, variable, grad.to(dtype))[0]

    exact, fitted = evaluate(torch.float64, False), evaluate(torch.float32, True)
    for wanted, got, limit in zip(exact, fitted, (1e-5, 3e-5), strict=True):
        assert (got - wanted).abs().max() < limit * float(wanted.detach().abs().max())


@pytest.mark.parametrize("count", [1, 3])
def test_the_definition_can_be_compiled_whole_for_any_number_of_masks(count: int) -> None:
    generator = torch.Generator().manual_seed(10)
    weights, values = torch.rand(4, 5, generator=generator), torch.rand(count, 5, 6, generator=generator)
    forward, backward = (
        torch.compile(f, backend="aot_eager", fullgraph=True) for f in (direct_forward, direct_backward)
    )
    out, denominators = forward(values, weights, 20.0)
    expected = direct_forward(values, weights, 20.0)
    torch.testing.assert_close((out, denominators), expected)
    arguments = (values, weights, 20.0, out.cos(), out.sin())
    torch.testing.assert_close(backward(*arguments), direct_backward(*arguments))


def test_drawing_gradient() -> None:
    family = MaskFamily(4, 5, MaskConfig(step=2, sigma=2.0), dtype=torch.float64)
    params = torch.rand(
        1, *family.param_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5)
    )
    assert torch.autograd.gradcheck(family.draw, params.requires_grad_())


def test_smooth_max_tends_to_the_maximum_and_the_mean() -> None:
    values = torch.rand(1, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(6))

    def taps(inverse_temperature: float) -> Taps:
        return make_taps(torch.ones(1, 6), inverse_temperature, dtype=torch.float64)

    torch.testing.assert_close(smooth_max(values, taps(1e-9))[:, 0], values.mean(1))
    torch.testing.assert_close(smooth_max(values, taps(600.0))[:, 0], values.amax(1), atol=2e-3, rtol=0)


def test_masks_are_smooth_and_inside_the_unit_interval() -> None:
    family = MaskFamily(56, 56, MaskConfig())
    params = (torch.rand(3, *family.param_shape, generator=torch.Generator().manual_seed(7)) > 0.8).float()
    masks = family.crop(family.draw(params))
    assert masks.min() >= 0
    assert masks.max() <= 1
    # A parameter of one is seen by pixels 21 px away: neighbouring pixels differ by little.
    assert masks.diff(dim=1).abs().max() < 0.15


def test_kernel_is_one_at_the_centre_and_decays() -> None:
    distance = np.linspace(0, 80, 200)
    for kernel in ("torchray", "paper"):
        profile = kernel_profile(distance, kernel, 7, 21.0)
        assert profile[0] == 1
        assert (np.diff(profile) <= 0).all()
        assert profile[-1] < 0.01


def test_render_draws_the_same_masks_from_stored_parameters() -> None:
    family = MaskFamily(30, 44, TORCHRAY)
    params = torch.rand(2, 3, *family.param_shape, generator=torch.Generator().manual_seed(8))
    expected = family.crop(family.draw(params.flatten(0, 1))).view(2, 3, 30, 44)
    torch.testing.assert_close(render_masks(params, (30, 44), TORCHRAY), expected)
    rounded = render_masks(params.half(), (30, 44), TORCHRAY)
    torch.testing.assert_close(rounded, expected, atol=2e-3, rtol=0)


def test_a_step_too_large_for_its_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="at most sigma"):
        MaskConfig(step=9, sigma=2.0)
