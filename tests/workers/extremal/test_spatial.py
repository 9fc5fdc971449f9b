"""The spatial optimization: batches, seeds, games, presets, a*."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from extremal.workers import SpatialConfig, channel_attribution, extremal_perturbation, spatial_preset
from extremal.workers.extremal.a_star import first_reaching
from extremal.workers.extremal.masks import MaskFamily
from extremal.workers.extremal.settings import MaskConfig, Schedule
from extremal.workers.images import Preprocess
from extremal.workers.networks.network import Network

SMALL = SpatialConfig(
    areas=(0.1, 0.3),
    sigma_max=6.0,
    mask=MaskConfig(step=4, sigma=8.0),
    schedule=Schedule(40, 0.05, 0.9, 0.0, 300.0, "growing", growth=1.04),
)


class Spot(nn.Module):
    """Class c is bright pixels in quadrant c of the image: the best mask is known beforehand."""

    def forward(self, x: Tensor) -> Tensor:
        grey = x.mean(1)
        h, w = grey.shape[1] // 2, grey.shape[2] // 2
        quadrants = [grey[:, :h, :w], grey[:, :h, w:], grey[:, h:, :w], grey[:, h:, w:]]
        return torch.stack([q.abs().mean((1, 2)) * 100 for q in quadrants], dim=1)


def small_cnn() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 5),
    ).eval()  # fmt: skip


def images(count: int, height: int = 32, width: int = 40) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("game", ["preserve", "delete", "hybrid"])
def test_mask_finds_the_only_quadrant_that_matters(game: str) -> None:
    # Checkered noise loses its contrast under blur, so keeping quadrant 2 is the way to a high score.
    x = (torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(2)) > 0.5).float() * 2 - 1
    config = SpatialConfig(**{**vars(SMALL), "areas": (0.15,), "game": game, "jitter": "none"})
    result = extremal_perturbation(Spot(), x, torch.tensor([2]), config=config, steps=80)
    mask = result.masks[0, 0]
    inside = mask[24:, :24].sum()
    assert inside / (24 * 24) > 0.7
    assert inside / mask.sum() > 0.6
    assert result.scores[0, 0] > result.score_perturbed[0]
    assert result.scores_deleted[0, 0] < result.score_full[0]


def test_batch_of_eight_equals_eight_of_one() -> None:
    network, x, targets = small_cnn(), images(8), torch.arange(8) % 5
    config = SpatialConfig(**{**vars(SMALL), "jitter": "random"})
    seeds = list(range(8))
    together = extremal_perturbation(network, x, targets, seed=seeds, config=config)
    for i in range(8):
        alone = extremal_perturbation(network, x[i : i + 1], targets[i : i + 1], seed=i, config=config)
        for name in ("masks", "params", "scores", "scores_deleted", "areas", "area_term", "energy"):
            torch.testing.assert_close(
                getattr(together, name)[i], getattr(alone, name)[0], atol=1e-4, rtol=1e-4, msg=name
            )


def test_areas_are_problems_of_their_own() -> None:
    network, x, targets = small_cnn(), images(2), torch.tensor([0, 3])
    together = extremal_perturbation(network, x, targets, config=SMALL)
    for a, area in enumerate(SMALL.areas):
        alone = extremal_perturbation(network, x, targets, areas=[area], config=SMALL)
        torch.testing.assert_close(together.masks[:, a], alone.masks[:, 0], atol=1e-4, rtol=1e-4)


def test_random_jitter_follows_the_seed() -> None:
    network, x, target = small_cnn(), images(1), torch.tensor([1])
    config = SpatialConfig(**{**vars(SMALL), "jitter": "random"})
    first, again, other = (
        extremal_perturbation(network, x, target, seed=s, config=config).params for s in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_areas_are_reached_and_masks_are_nearly_binary() -> None:
    x = (torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(2)) > 0.5).float() * 2 - 1
    result = extremal_perturbation(Spot(), x, torch.tensor([0]), config=SMALL, steps=80)
    frame = MaskFamily(48, 48, SMALL.mask).padded_shape
    of_frame = result.areas[0].numpy() * 48 * 48 / (frame[0] * frame[1])
    np.testing.assert_allclose(of_frame, [0.1, 0.3], atol=0.04)
    assert result.binarity.max() < 0.1
    assert result.energy_trace.shape == (1, 2, len(result.energy_steps))
    assert result.energy_steps[0] == 0
    assert result.energy_steps[-1] == 79
    torch.testing.assert_close(result.energy_trace[..., -1], result.energy)


def test_presets_run_and_hold_the_printed_numbers() -> None:
    paper = spatial_preset("paper")
    assert paper.areas == (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
    assert paper.schedule.steps == 1600
    weights = [paper.schedule.weight_at(t) for t in (0, 533, 534, 1066, 1067, 1599)]
    assert weights == [300, 300, 600, 600, 1200, 1200]
    torchray = spatial_preset("torchray").schedule
    assert torchray.weight_at(799) == pytest.approx(300 * 1.0035**799)
    fast = spatial_preset("fast").schedule
    weights = [fast.weight_at(t) for t in range(fast.steps)]
    assert fast.steps <= 100
    assert weights[0] == pytest.approx(fast.weight)
    assert weights[-1] == pytest.approx(fast.final)
    np.testing.assert_allclose(np.diff(np.log(weights[: fast.steps // 3]), 2), 0, atol=1e-12)
    for preset in ("paper", "torchray", "fast"):
        x, target = images(1, 56, 56), torch.tensor([0])
        result = extremal_perturbation(small_cnn(), x, target, preset=preset, steps=2)
        assert result.masks.shape == (1, 6, 56, 56)


@pytest.mark.parametrize("slots", [2, 4, 16])
@pytest.mark.parametrize("jitter", ["random", "alternate"])
def test_what_shares_the_batch_changes_no_mask(slots: int, jitter: str) -> None:
    # Not 1: there convolutions round otherwise, and a switched ReLU or a broken tie can move a whole mask.
    network, x, targets = small_cnn(), images(2), torch.tensor([4, 0, 2])
    config = SpatialConfig(**{**vars(SMALL), "jitter": jitter})
    seeds = [7, 8, 9]
    alone = extremal_perturbation(network, x[[0, 0, 1]], targets, seed=seeds, config=config, slots=6)
    shared = extremal_perturbation(
        network, x, targets, seed=seeds, config=config, slots=slots, image=[0, 0, 1]
    )
    for name in ("masks", "params", "scores", "scores_deleted", "score_full", "score_perturbed", "energy"):
        torch.testing.assert_close(getattr(shared, name), getattr(alone, name), atol=1e-4, rtol=1e-4)
    assert (shared.steps == 40).all()


def test_bisection_finds_the_smallest_area_and_says_what_it_cost() -> None:
    x = (torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(2)) > 0.5).float() * 2 - 1
    settings = {
        **vars(SMALL),
        "areas": (0.05, 0.6),
        "tau": 0.7,
        "search": 0.02,
        "warm_start": 20,
        "jitter": "none",
    }
    config = SpatialConfig(**settings)
    result = extremal_perturbation(Spot(), x, torch.tensor([2]), config=config)
    (a_star,) = result.a_star.tolist()
    assert 0.05 < a_star < 0.6
    # A listed area of a*, or of a little less than a* minus the tolerance, tells whether it is the smallest.
    around = replace(config, areas=(a_star - 0.05, a_star + 0.02), search=0.0, warm_start=0)
    check = extremal_perturbation(Spot(), x, torch.tensor([2]), config=around)
    wanted = 0.7 * float(check.score_full)
    assert check.scores[0, 0] < wanted <= check.scores[0, 1]
    assert result.search_steps[0] == 5 * 20  # .55 halved five times is below .02; each spared 20 of 40
    assert result.steps.tolist() == [[20, 40]]
    none = extremal_perturbation(Spot(), x, torch.tensor([2]), config=replace(config, tau=1.5))
    assert none.a_star.isnan().all()
    assert none.search_steps[0] == 0


def test_bf16_scores_are_near_float32s() -> None:
    network = Network(
        "own", small_cnn().requires_grad_(False), Preprocess(32, None, (0, 0, 0), (1, 1, 1)), None, ""
    )
    x, targets = images(2), torch.tensor([0, 3])
    exact = extremal_perturbation(network, x, targets, config=SMALL)
    coarse = extremal_perturbation(replace(network, precision="bf16"), x, targets, config=SMALL)
    assert coarse.scores.dtype == coarse.params.dtype == torch.float32
    assert not torch.equal(coarse.scores, exact.scores)
    torch.testing.assert_close(
        coarse.scores, exact.scores, atol=0.02 * exact.scores.abs().max().item(), rtol=0
    )


def test_a_pair_that_becomes_nan_on_its_way_leaves_its_neighbours_alone() -> None:
    class Nan(nn.Module):
        """No number for bright images."""

        def forward(self, x: Tensor) -> Tensor:
            mean = x.mean((1, 2, 3))
            return (mean * torch.where(mean > 5, torch.nan, 1.0))[:, None]

    x, targets = images(2), torch.zeros(2, dtype=torch.long)
    x[1] += 10
    result = extremal_perturbation(Nan(), x, targets, config=SMALL, steps=5)
    alone = extremal_perturbation(Nan(), x[:1], targets[:1], config=SMALL, steps=5)
    assert result.scores[1].isnan().all()
    torch.testing.assert_close(result.masks[0], alone.masks[0], atol=1e-4, rtol=1e-4)


def test_a_plain_module_is_left_as_it_was() -> None:
    network = small_cnn().train()
    before = copy.deepcopy(network.state_dict())
    extremal_perturbation(network, images(1), torch.tensor([0]), config=SMALL, steps=3)
    assert network.training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_a_star_is_the_first_area_that_reaches_tau() -> None:
    scores = torch.tensor([[1.0, 5.0, 3.0], [1.0, 2.0, 3.0], [-3.0, -2.0, -1.0]])
    sizes, full = torch.tensor([0.1, 0.2, 0.4]), torch.tensor([4.0, 4.0, -2.0])
    assert first_reaching(scores, sizes, full, 1.0)[[0, 2]].tolist() == pytest.approx([0.2, 0.2])
    assert first_reaching(scores, sizes, full, 1.0)[1].isnan()
    # tau < 1 is the weaker demand for a negative full score too: -2 - 0.5 * 2 = -3
    assert first_reaching(scores, sizes, full, 0.5).tolist() == pytest.approx([0.2, 0.2, 0.1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"areas": ()}, "ascending"),
        ({"areas": (0.2, 0.1)}, "ascending"),
        ({"areas": (0.0,)}, "ascending"),
        ({"areas": (1.2,)}, "ascending"),
        ({"levels": 1}, "levels"),
    ],
)
def test_bad_numbers_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpatialConfig(**change)  # type: ignore[arg-type]


def test_bad_batches_are_refused() -> None:
    network = small_cnn()
    with pytest.raises(ValueError, match="images must be floats"):
        extremal_perturbation(network, images(1).byte(), torch.tensor([0]))
    with pytest.raises(ValueError, match="targets must be 2 integers"):
        extremal_perturbation(network, images(2), torch.tensor([0]))
    with pytest.raises(ValueError, match="3 seeds for 2 images"):
        extremal_perturbation(network, images(2), torch.tensor([0, 1]), seed=[1, 2, 3], steps=1)


def test_a_misspelt_keyword_is_refused_with_those_there_are() -> None:
    image, target = torch.zeros(1, 3, 32, 32), torch.tensor([0])
    with pytest.raises(
        TypeError, match=r"^extremal_perturbation\(\) .* 'area'; it takes network, .*seed,.* areas, game"
    ):
        extremal_perturbation(small_cnn(), image, target, area=[0.1])
    with pytest.raises(
        TypeError, match=r"^channel_attribution\(\) .* 'slot'; it takes .*layer, .*split, slots"
    ):
        channel_attribution(small_cnn(), image, target, slot=3)
