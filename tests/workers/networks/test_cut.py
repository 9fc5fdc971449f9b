from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from extremal.workers.errors import LayerError
from extremal.workers.images import Preprocess
from extremal.workers.networks.cut import Activation, Split, layer_names, split_network
from extremal.workers.networks.network import Network, load_network

CASES = [
    ("resnet18", "layer3", 256, 64),
    ("resnet18", "layer3.0.conv1", 256, 64),  # the block's input goes round it
    ("resnet18", "layer3.0.bn1", 256, 64),  # a ReLU in place follows
    ("resnet18", "maxpool", 64, 64),
    ("googlenet", "inception4d", 528, 64),
    ("bvlc_googlenet", "inception4d", 528, 64),
    ("bvlc_googlenet", "inception4d.branch1", 112, 64),  # three other branches go round it
    ("vgg11", "features.10", 256, 64),
    ("squeezenet1_1", "features.9", 384, 64),
    ("mobilenet_v2", "features.10", 64, 64),
    ("convnext_tiny", "features.5", 384, 64),
    ("densenet121", "features.denseblock3.denselayer2", 32, 64),
    ("swin_t", "features.3", 192, 64),
    ("vit_b_16", "encoder.layers.encoder_layer_6", 768, 224),
]


class Whimsical(nn.Module):
    """Asks for a value, which tracing cannot know, and calls one of its layers twice and one never."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3)
        self.twice = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(6, 4, 3)
        self.never = nn.Conv2d(6, 4, 3)
        self.pair = Pair()

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.first(x))
        if x.sum() > -1:
            x = x * 2
        a, b = self.pair(self.twice(self.second(x)))
        logits: Tensor = a + b
        return logits


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x.flip(1)


class Sizes(nn.Module):
    """The batch size is read before the layer and used after it: such a cut would be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.aside = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        self.aside(x)
        return self.layer(x).reshape(batch, 4, -1).mean(2)


class Side(nn.Module):
    """A weight, a number and an overwritten tensor cross the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        self.scale = nn.Parameter(torch.rand(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        aside = x * 2
        factor = self.scale * 3
        width = x.shape[3]
        y = self.layer(x)
        aside += y
        y.mul_(factor)
        return (aside + y).sum((2, 3)) / width


def network_of(module: nn.Module, side: int = 16) -> Network:
    module.eval().requires_grad_(False)
    return Network("own", module, Preprocess(side, None, (0, 0, 0), (1, 1, 1)), None, "")


def seeded(kind: type[nn.Module]) -> Network:
    torch.manual_seed(0)
    return network_of(kind())


def everyone(activation: Activation) -> Tensor:
    return torch.arange(len(activation.value))


def check_split(network: Network, split: Split, side: int, batch: int = 2) -> None:
    """Head and tail give the network's output, for repeats too; gradients flow and nothing is overwritten."""
    x = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(5))
    logits = network(x)
    activation = split.head(x)
    value = activation.value.clone()
    assert value.shape[split.channel_dim(value)] == split.channels
    torch.testing.assert_close(
        split.tail(activation.value, activation, everyone(activation)), logits, atol=1e-5, rtol=1e-4
    )

    changed = value.repeat_interleave(3, 0) * torch.linspace(0.5, 1.5, 3).repeat(batch).view(
        -1, *[1] * (value.ndim - 1)
    )
    changed.requires_grad_(True)
    together = split.tail(changed, activation, everyone(activation).repeat_interleave(3))
    together.square().sum().backward()
    assert changed.grad is not None
    assert changed.grad.flatten(1).any(1).all()
    for i in range(batch):
        single = split.head(x[i : i + 1])
        for j in range(3):
            separate = split.tail(changed[3 * i + j : 3 * i + j + 1].detach(), single, everyone(single))
            torch.testing.assert_close(together[3 * i + j : 3 * i + j + 1], separate, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(activation.value, value, atol=0, rtol=0)
    torch.testing.assert_close(
        split.tail(value, activation, everyone(activation)), logits, atol=1e-5, rtol=1e-4
    )
    assert not any(module._forward_hooks for module in network.module.modules())


@pytest.mark.parametrize(("name", "layer", "channels", "side"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_torchvision(
    name: str, layer: str, channels: int, side: int, caplog: pytest.LogCaptureFixture
) -> None:
    network = load_network(name, "random")
    if name == "vit_b_16":  # torchvision starts its classifier from zeros
        network.module.heads.head.weight.copy_(torch.linspace(-0.05, 0.05, 768_000).view(1000, 768))
    split = split_network(network, layer, (side, side))
    assert split.traced, caplog.text
    assert split.channels == channels
    assert split.channels_last == (name in ("swin_t", "vit_b_16"))
    check_split(network, split, side, batch=1 if name == "vit_b_16" else 2)


def test_bf16_does_not_make_a_good_cut_look_bad() -> None:
    network = replace(load_network("resnet18", "random"), precision="bf16")
    split = split_network(network, "layer3", (64, 64))
    assert split.traced
    x = torch.randn(2, 3, 64, 64)
    activation = split.head(x)
    assert activation.value.dtype == torch.bfloat16
    logits = split.tail(activation.value, activation, everyone(activation))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, network(x), atol=1e-2, rtol=1e-2)


def test_the_tail_does_not_run_the_head() -> None:
    network = load_network("resnet18", "random")
    split = split_network(network, "layer3", (64, 64))
    activation = split.head(torch.rand(1, 3, 64, 64))
    calls: list[nn.Module] = []
    for module in network.module.modules():
        module.register_forward_hook(lambda module, *_: calls.append(module))
    split.tail(activation.value, activation, everyone(activation))
    assert set(calls).isdisjoint(network.module.layer3.modules())
    assert network.module.fc in calls


@pytest.mark.parametrize(("kind", "layer"), [(Whimsical, "first"), (Whimsical, "second"), (Sizes, "layer")])
def test_fallback_to_hooks(kind: type[nn.Module], layer: str, caplog: pytest.LogCaptureFixture) -> None:
    network = seeded(kind)
    split = split_network(network, layer)
    assert not split.traced
    assert len(caplog.records) == 1
    assert "every step runs it whole" in caplog.text
    check_split(network, split, 16)


def test_no_hook_is_left_after_an_error() -> None:
    network = seeded(Whimsical)
    split = split_network(network, "first")
    activation = split.head(torch.rand(2, 3, 16, 16))
    with pytest.raises(RuntimeError):
        split.tail(activation.value[:, :2], activation, everyone(activation))
    assert not any(module._forward_hooks for module in network.module.modules())
    with pytest.raises(RuntimeError):
        split.head(torch.rand(2, 5, 16, 16))
    assert not any(module._forward_hooks for module in network.module.modules())


def test_weights_numbers_and_overwritten_tensors_cross_the_cut() -> None:
    network = seeded(Side)
    split = split_network(network, "layer")
    assert split.traced
    check_split(network, split, 16)
    # Numbers such as the width belong to the activation, not to the cut.
    x = torch.rand(1, 3, 7, 9)
    activation = split.head(x)
    torch.testing.assert_close(split.tail(activation.value, activation, everyone(activation)), network(x))


def test_vectors() -> None:
    network = network_of(nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 2)), side=4)
    split = split_network(network, "1")
    assert (split.channels, split.channels_last) == (5, False)
    check_split(network, split, 4)


@pytest.mark.parametrize(
    ("layer", "cause"),
    [
        ("frist", "no layer 'frist'; close: first; its top-level layers: first, twice, second, never, pair"),
        ("", "no layer ''"),
        ("twice", "called 2 times"),
        ("never", "called 0 times"),
        ("pair", "not tuple"),
    ],
)
def test_layers_that_cannot_be_cut(layer: str, cause: str) -> None:
    with pytest.raises(LayerError, match=cause):
        split_network(seeded(Whimsical), layer)


def test_layer_without_influence() -> None:
    with pytest.raises(LayerError, match="does not depend on layer 'aside'"):
        split_network(seeded(Sizes), "aside")


def test_layer_names() -> None:
    names = layer_names(seeded(Whimsical))
    assert names == ("first", "twice", "second", "never", "pair")
