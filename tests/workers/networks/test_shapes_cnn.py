from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from extremal.workers.networks.network import load_network
from extremal.workers.networks.shapes_cnn import PREPROCESS, SHAPES, normalise, shapes_cnn, train_shapes_cnn


def drawn(count: int) -> tuple[Tensor, Tensor]:
    """Squares, frames and plus signs on dark noise: (N, 3, 48, 48) uint8, and which are there, (N, 3)."""
    frame = torch.ones(12, 12)
    frame[3:9, 3:9] = 0
    plus = torch.zeros(12, 12)
    plus[5:7] = plus[:, 5:7] = 1
    shapes = (torch.ones(12, 12), frame, plus)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 40, (count, 3, 48, 48), generator=generator).to(torch.uint8)
    labels = torch.randint(0, 2, (count, 3), generator=generator).float()
    for image, label in zip(images, labels, strict=True):
        for index in label.nonzero().flatten().tolist():
            y = int(torch.randint(0, 36, (), generator=generator))
            image[:, y : y + 12, index * 16 : index * 16 + 12] += (shapes[index] * 200).to(torch.uint8)
    return images, labels


def test_any_size_and_any_number_of_classes() -> None:
    network = shapes_cnn(4).eval()
    assert network(torch.zeros(2, 3, 128, 128)).shape == (2, 4)
    assert network(torch.zeros(1, 3, 50, 71)).shape == (1, 4)
    assert network.classes is None
    assert shapes_cnn().classes == SHAPES
    assert sum(p.numel() for p in shapes_cnn().parameters()) < 150_000


def test_normalise_is_the_preprocessing() -> None:
    image = Image.effect_mandelbrot((128, 128), (-3, -2.5, 2, 2.5), 20).convert("RGB")
    stored = torch.tensor(list(image.tobytes()), dtype=torch.uint8).view(128, 128, 3).permute(2, 0, 1)
    torch.testing.assert_close(normalise(stored[None])[0], PREPROCESS(image))


def test_training_learns_and_depends_only_on_the_seed() -> None:
    images, labels = drawn(160)
    seen: list[tuple[int, int, float]] = []
    state = torch.get_rng_state()
    network, accuracy = train_shapes_cnn(
        images, labels, epochs=8, seed=3, progress=lambda *done: seen.append(done)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert accuracy > 0.9
    assert [done[:2] for done in seen] == [(i, 8) for i in range(1, 9)]
    assert seen[-1][2] < seen[0][2]
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    again, _ = train_shapes_cnn(images, labels, epochs=1, seed=3)
    same, _ = train_shapes_cnn(images, labels, epochs=1, seed=3)
    other, _ = train_shapes_cnn(images, labels, epochs=1, seed=4)
    assert torch.equal(again.fc.weight, same.fc.weight)
    assert not torch.equal(again.fc.weight, other.fc.weight)


@pytest.mark.parametrize("classes", [6, 3])
def test_saved_and_loaded(tmp_path: Path, classes: int) -> None:
    module = shapes_cnn(classes).eval()
    torch.save(module.state_dict(), tmp_path / "shapes.pth")
    network = load_network("shapes_cnn", tmp_path / "shapes.pth")
    x = torch.rand(1, 3, 128, 128)
    torch.testing.assert_close(network(x), module(x))
    assert (network.outputs, network.preprocess) == (classes, PREPROCESS)
    assert network.classes == (SHAPES if classes == 6 else None)
