"""Fine-tuning: loss, rate, batches, heads, and what a training depends on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision import models
from toy_training import Squashed, Tiny

from extremal.workers.errors import NetworkError
from extremal.workers.networks.classifier import find_head, fold_input, rectified, replace_head
from extremal.workers.networks.network import load_network
from extremal.workers.networks.zoo import _classifier, _options
from extremal.workers.training.batches import Labelled, shuffled
from extremal.workers.training.finetuning import multilabel_loss, schedule
from extremal.workers.training.start import try_whole_image, with_new_head


def test_ignored_labels_have_no_part_in_the_loss() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1, 0, -1, 0], [-1, -1, -1, -1], [0, 1, 1, -1]])
    loss = multilabel_loss(logits, labels)
    known = [(i, j) for i in range(3) for j in range(4) if labels[i, j] >= 0]
    expected = [binary_cross_entropy_with_logits(logits[i, j], labels[i, j].double()) for i, j in known]
    assert loss.item() == pytest.approx(sum(expected).item() / len(known))
    loss.backward()
    assert torch.equal(logits.grad != 0, labels >= 0)
    assert multilabel_loss(logits, torch.full((3, 4), -1)) == 0


def test_the_rate_rises_and_falls_to_nothing() -> None:
    rates = [schedule(i / 1000) for i in range(1001)]
    top = int(np.argmax(rates))
    assert rates[0] == 0
    assert rates[top] == pytest.approx(1)
    assert rates[-1] == pytest.approx(0)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)


@pytest.mark.parametrize(("count", "batch"), [(1, 4), (9, 4), (8, 4), (65, 64)])
def test_batches_hold_every_image_once_and_are_even(count: int, batch: int) -> None:
    first = shuffled(count, batch, seed=3, epoch=0)
    sizes = [len(indices) for indices in first]
    assert sorted(index for indices in first for index in indices) == list(range(count))
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1
    assert shuffled(count, batch, seed=3, epoch=0) == first
    assert count == 1 or shuffled(count, batch, seed=3, epoch=1) != first


# ---- heads ------------------------------------------------------------------------------------------

FAMILIES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t",
    "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "resnet50", "shufflenet_v2_x0_5", "squeezenet1_1",
    "swin_t", "vgg16", "vit_b_16",
)  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_a_new_head_makes_the_network_that_a_file_is_loaded_into(name: str) -> None:
    """Shapes without numbers: torchvision built for 20 classes is the network whose head was replaced."""
    options = _options(name, None)
    with torch.device("meta"):
        module = models.get_model(name, weights=None, **options)
        head = find_head(module, 1000)
        replace_head(module, head, 20)
        built = models.get_model(name, weights=None, num_classes=20, **options)
    assert {key: t.shape for key, t in module.state_dict().items()} == {
        key: t.shape for key, t in built.state_dict().items()
    }
    assert _classifier(module).startswith(head + ".")


@pytest.mark.parametrize("name", ["squeezenet1_1", "googlenet", "mobilenet_v2", "regnet_x_400mf"])
def test_new_heads_come_back_from_their_files_with_equal_logits(name: str, tmp_path: Path) -> None:
    network = load_network(name, "random", crop=0)
    state = with_new_head(network, 7, seed=3)
    torch.save(state, tmp_path / "w.pth")
    x = torch.randn(2, 3, 64, 80)
    loaded = load_network(name, tmp_path / "w.pth", crop=0)
    assert loaded.outputs == 7
    assert torch.equal(loaded(x), network(x))
    again = with_new_head(load_network(name, "random"), 7, seed=3)
    other = with_new_head(load_network(name, "random"), 7, seed=4)
    key = _classifier(network.module)
    assert torch.equal(again[key], state[key])
    assert not torch.equal(other[key.replace("bias", "weight")], state[key.replace("bias", "weight")])


def test_a_network_of_the_user_comes_back_with_another_head(tmp_path: Path) -> None:
    network = load_network("toy_training:tiny")
    torch.save(with_new_head(network, 4, seed=0), tmp_path / "w.pth")
    loaded = load_network("toy_training:tiny", tmp_path / "w.pth")
    x = torch.randn(2, 3, 32, 40)
    assert (loaded.outputs, loaded.classes) == (4, None)
    assert torch.equal(loaded(x), network(x))
    wrong = Tiny()
    wrong.head, wrong.features[0] = nn.Linear(24, 4), nn.Conv2d(3, 24, 5)
    torch.save(wrong.state_dict(), tmp_path / "w.pth")
    with pytest.raises(NetworkError, match="of another shape"):
        load_network("toy_training:tiny", tmp_path / "w.pth")


@pytest.mark.parametrize(("build", "border"), [(models.googlenet, 32), (models.inception_v3, 0)])
def test_the_hidden_input_transform_is_folded_in(build: Callable[..., nn.Module], border: int) -> None:
    """Exactly where no padding reaches: an image whose border is what the padding stands for."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build(aux_logits=False, init_weights=False, transform_input=True, num_classes=5).eval()
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.running_mean, -0.1, 0.1)
        x = torch.rand(2, 3, 128, 128)
    first = "conv1" if border else "Conv2d_1a_3x3"
    seen: list[Tensor] = []
    hook = module.get_submodule(first).register_forward_hook(lambda *args: seen.append(args[2]))
    with torch.no_grad():
        before = module(x)
        fold_input(module)
        after = module(x)
    hook.remove()
    inner = slice(2, -2) if border else slice(None)
    torch.testing.assert_close(seen[1][..., inner, inner], seen[0][..., inner, inner], atol=1e-5, rtol=1e-5)
    assert module.transform_input is False
    if not border:
        torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_what_follows_the_head_is_found_out() -> None:
    x = torch.rand(1, 3, 64, 64)
    for name, expected in (("squeezenet1_1", True), ("mobilenet_v2", False)):
        module = load_network(name, "random").module
        head = module.get_submodule(find_head(module, 1000))
        weight = head.weight.clone()
        assert rectified(module, head, x) is expected
        assert torch.equal(head.weight, weight)
    maps = nn.Sequential(nn.Conv2d(3, 5, 1), nn.AvgPool2d(7, stride=3)).eval()
    assert rectified(lambda x: maps(x).mean((2, 3)), maps[0], x) is False
    network = Squashed().eval()
    with pytest.raises(NetworkError, match="return plain logits"):
        rectified(network, network.head, x)


def test_a_network_for_squares_is_told_to_crop() -> None:
    """Before training and not after its first epoch."""
    network = load_network("toy_training:tiny", crop=0)
    wide = [Labelled("a", "a.jpg", (0,), width=60, height=40)]
    try_whole_image(network, wide)
    network.module.features.append(nn.Flatten())
    network.module.features.append(nn.Unflatten(1, (24, 15, 15)))
    with pytest.raises(NetworkError, match=r"whole images \(32x48\).*--crop 224"):
        try_whole_image(network, wide)
    try_whole_image(network, [Labelled("a", "a.jpg", (0,), width=40, height=40)])
