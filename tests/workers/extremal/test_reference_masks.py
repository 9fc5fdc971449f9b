"""The torchray preset against what TorchRay itself produced (stored arrays; skipped without them)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extremal.workers import Network, SpatialConfig, extremal_perturbation, load_network
from extremal.workers.extremal.area import area_term
from extremal.workers.extremal.masks import mask_family
from extremal.workers.extremal.perturbation import perturb, pyramid

AREAS = (0.05, 0.1, 0.2, 0.4)
IMAGES = ("ILSVRC2012_val_00000347", "train_n01491361")
GAMES = {"preserve": "preserve", "delete": "delete", "hybrid": "dual"}
CONFIG = SpatialConfig(areas=AREAS)

Arrays = Mapping[str, Any]


@pytest.fixture(scope="module")
def network(shared_data: Path) -> Network:
    return load_network("squeezenet1_1", shared_data / "weights" / "squeezenet1_1.pth")


@pytest.fixture(params=IMAGES)
def reference(request: pytest.FixtureRequest, shared_data: Path) -> Arrays:
    with np.load(shared_data / "reference" / f"extremal_squeezenet1_1_{request.param}.npz") as arrays:
        return dict(arrays)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_energy_and_gradient_at_stored_parameters(network: Network, reference: Arrays) -> None:
    x = torch.from_numpy(reference["input"])
    target = torch.full((4, 1), int(reference["target"]))
    family = mask_family(224, 224, CONFIG.mask)
    params = torch.from_numpy(reference["params"])[:, 0].requires_grad_()
    padded = family.draw(params)
    masks = family.crop(padded)
    np.testing.assert_allclose(masks.detach().numpy(), reference["mask"][:, 0], atol=1e-5)
    np.testing.assert_allclose(padded.detach().numpy(), reference["mask_full"][:, 0], atol=1e-3)
    levels = pyramid(x, CONFIG)
    np.testing.assert_allclose(levels[0].numpy(), reference["pyramid"], atol=2e-3)  # stored as float16

    pixels = 260 * 260
    term = area_term(padded.flatten(1), tuple(pixels - int(pixels * (1 - a)) for a in AREAS))
    np.testing.assert_allclose(term.detach().numpy(), reference["area_term"], rtol=1e-4)

    # The network's gradient jumps where a ReLU or a max-pool switches: one rounding error in the mask
    # moves it by 1e-3 or not at all (float64 is as far from the reference). So the stored mask's values
    # are taken, with our derivative and noise of one float32 rounding, and every area must be met by one
    # of eight draws; draws that miss must miss by no more than such a jump.
    generator = torch.Generator().manual_seed(0)
    errors = np.empty((8, len(AREAS)))
    for draw in errors:
        noise = 1e-7 * torch.randn(masks.shape, generator=generator)
        pinned = masks + (torch.from_numpy(reference["mask"][:, 0]) + noise - masks).detach()
        shown = perturb(levels, pinned, torch.zeros(4, dtype=torch.long))
        np.testing.assert_allclose(shown.detach().numpy(), reference["perturbed"], atol=2e-3)
        reward = network(shown).gather(1, target)[:, 0]
        np.testing.assert_allclose(reward.detach().numpy(), reference["reward"], rtol=1e-4)
        energy = (reward - 300 * term).sum()
        (gradient,) = torch.autograd.grad(energy, params, retain_graph=True)
        draw[:] = [relative(g, r) for g, r in zip(gradient.numpy(), reference["grad"][:, 0], strict=True)]
    assert errors.min(0).max() < 1e-4
    assert errors.max() < 1e-2


@pytest.mark.parametrize("game", GAMES)
def test_masks_and_energies_after_1_and_50_iterations(network: Network, reference: Arrays, game: Any) -> None:
    x, target = torch.from_numpy(reference["input"]), torch.tensor([int(reference["target"])])
    stored = GAMES[game]
    one = extremal_perturbation(network, x, target, areas=AREAS, game=game, preset="torchray", steps=1)
    np.testing.assert_allclose(one.masks[0].numpy(), reference[f"mask_{stored}_1"][:, 0], atol=1e-5)
    np.testing.assert_allclose(
        one.energy[0].numpy(), reference[f"energy_{stored}_1"].sum(1)[:, -1], rtol=1e-4
    )
    fifty = extremal_perturbation(network, x, target, areas=AREAS, game=game, preset="torchray", steps=50)
    difference = np.abs(fifty.masks[0].numpy() - reference[f"mask_{stored}_50"][:, 0])
    assert difference.mean() < 0.01
    energies = reference[f"energy_{stored}_50"].sum(1)
    scale = np.abs(energies[:, -1]).max()
    ours, theirs = fifty.energy_trace[0].numpy(), energies[:, list(fifty.energy_steps)]
    np.testing.assert_allclose(ours[:, :3], theirs[:, :3], rtol=2e-3)  # before chaos sets in
    assert np.abs(ours - theirs).max() < 0.02 * scale
    assert np.abs(fifty.energy[0].numpy() - energies[:, -1]).max() < 0.02 * scale
