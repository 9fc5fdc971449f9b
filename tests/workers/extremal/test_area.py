"""The area term against sorting, float64 gradients and the stored reference."""

import pytest
import torch

from extremal.workers.extremal.area import area_term, radix_select


def sorted_area_term(masks: torch.Tensor, kept: tuple[int, ...]) -> torch.Tensor:
    """The definition: sort, compare with zeros then ones, mean of squares."""
    n, pixels = masks.shape
    ideal = torch.zeros_like(masks)
    for row in range(n):
        k = kept[row]
        ideal[row, pixels - k :] = 1
    return ((masks.sort(dim=1).values - ideal) ** 2).mean(1)


@pytest.mark.parametrize("kept", [(0, 3, 40, 1, 7, 20), (5,) * 6])
def test_equals_sorting(kept: tuple[int, ...]) -> None:
    masks = torch.rand(6, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    masks = (masks * 5).round() / 5  # many ties, as at the start of an optimization
    torch.testing.assert_close(area_term(masks, kept), sorted_area_term(masks, kept))


def test_gradient_without_ties() -> None:
    masks = torch.rand(4, 23, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    masks.requires_grad_()
    assert torch.autograd.gradcheck(lambda m: area_term(m, (5, 11, 5, 0)), masks)


def test_gradient_equals_that_of_sorting_without_ties() -> None:
    masks = torch.rand(4, 1000, generator=torch.Generator().manual_seed(2)).requires_grad_()
    (ours,) = torch.autograd.grad(area_term(masks, (100, 300, 1, 999)).sum(), masks)
    (theirs,) = torch.autograd.grad(sorted_area_term(masks, (100, 300, 1, 999)).sum(), masks)
    torch.testing.assert_close(ours, theirs)


def test_ties_share_the_gradient_equally() -> None:
    masks = torch.full((1, 10), 0.5, requires_grad=True)
    (gradient,) = torch.autograd.grad(area_term(masks, (4,)).sum(), masks)
    # Each value wants to move towards 1 with share 4/10 and towards 0 with share 6/10.
    torch.testing.assert_close(gradient, torch.full((1, 10), 2 * (0.5 - 0.4) / 10))


def test_a_binary_mask_of_the_wanted_area_costs_nothing() -> None:
    mask = torch.zeros(1, 100)
    mask[0, 30:50] = 1
    assert area_term(mask, (20,)).item() == 0


def test_bad_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="3 masks for 2 counts"):
        area_term(torch.zeros(3, 5), (1, 2))
    with pytest.raises(ValueError, match="between 0 and 5"):
        area_term(torch.zeros(1, 5), (6,))


def test_radix_selection_equals_sorting() -> None:
    values = torch.rand(5, 200, generator=torch.Generator().manual_seed(3))
    values[0] = (values[0] * 4).round() / 4
    values[1, :150] = -0.0
    values[2] = 1.0
    values[3, 0] = 1e-42  # subnormal
    counts = torch.tensor([50, 120, 7, 200, 0])
    found = radix_select(values, counts)
    ordered = values.sort(dim=1, descending=True).values
    expected = [ordered[row, count - 1] for row, count in enumerate(counts[:4].tolist())]
    assert torch.equal(found[:4], torch.stack(expected))
    assert not (values[4] >= found[4]).any()
