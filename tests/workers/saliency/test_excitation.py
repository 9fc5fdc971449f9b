from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from recorded import batch_of, network_of, noise, randomized
from torch import Tensor, nn
from torchvision.models import resnet18, squeezenet1_1

from extremal.workers.errors import LayerError
from extremal.workers.extremal.settings import ChannelConfig, SpatialConfig
from extremal.workers.networks.network import Network, load_network
from extremal.workers.saliency import METHODS, check_methods
from extremal.workers.saliency.config import SaliencyConfig
from extremal.workers.saliency.excitation import Excitation, contrastive, marginal
from extremal.workers.saliency.layers import layers_of
from extremal.workers.saliency.recorded_pass import Trace, record
from extremal.workers.saliency.settings import Layers

Floats = npt.NDArray[np.float64]
IMAGES = ("ILSVRC2012_val_00000347", "train_n01491361")


@pytest.mark.parametrize("image", IMAGES)
def test_maps_are_the_reference_implementations(image: str, shared_data: Path) -> None:
    network = load_network("squeezenet1_1", shared_data / "weights" / "squeezenet1_1.pth")
    stored = np.load(shared_data / "reference" / f"saliency_squeezenet1_1_{image}.npz")
    layers = Layers(*(str(name) for name in stored["layers"]))
    assert layers_of(network, Layers()) == layers
    batch = batch_of(network, torch.from_numpy(stored["input"]), [int(stored["target"])], layers)
    for name in ("mwp", "cmwp"):
        found, wanted = METHODS[name].method.compute(batch).maps, stored[name][0, 0]
        assert np.corrcoef(found[0].flatten(), wanted.flatten())[0, 1] > 0.9999, name
        assert int(found.argmax()) == int(wanted.argmax()), name
        np.testing.assert_allclose(found[0], wanted, atol=1e-5 * wanted.max(), err_msg=name)


def traced(module: nn.Module, images: Tensor, targets: list[int], *layers: str, classifier: str) -> Trace:
    """The recorded pass of a float64 module."""
    network = network_of(module.double(), images.shape[2])
    rules = Excitation(module.get_submodule(classifier).weight)
    return record(batch_of(network, images, targets, Layers()), layers, rules)


def shared_out(p: Floats, weights: Floats, x: Floats) -> Floats:
    """What units of shares p, one per row of the weights, hand to their inputs x; a loop over connections."""
    given = np.zeros_like(x)
    for unit, share in enumerate(p):
        strength = [max(w, 0) * max(value, 0) for w, value in zip(weights[unit], x, strict=True)]
        if sum(strength) > 0:
            given += share * np.array(strength) / sum(strength)
    return given


def test_a_perceptron_by_hand() -> None:
    """Every connection in a loop; the shares of a layer sum to one at every depth."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape) for shape in ((30, 12), (20, 30), (4, 20))]
    names = ("one", "two", "three")
    linears = [nn.Linear(w.shape[1], w.shape[0]) for w in weights]
    for linear, w in zip(linears, weights, strict=True):
        linear.weight.data, linear.bias.data = torch.from_numpy(w), torch.from_numpy(rng.normal(size=len(w)))
    module = nn.Sequential()
    module.add_module("flat", nn.Flatten())
    for name, linear in zip(names, linears, strict=True):
        module.add_module(name, linear)
        if name != "three":
            module.add_module(f"relu_{name}", nn.ReLU(inplace=True))
    images = noise(1, 2, dtype=torch.float64).abs()
    trace = traced(module, images, [2], "flat", "relu_one", "relu_two", classifier="three")
    x = [images.numpy().flatten()]
    for linear, w in zip(linears[:2], weights[:2], strict=True):
        x.append(np.maximum(w @ x[-1] + linear.bias.detach().numpy(), 0))
    wanted = {}
    for rule, last in (("excitation", weights[2]), ("contrast", -weights[2])):
        p = np.eye(4)[2]
        for name, w, below in zip(
            ("relu_two", "relu_one", "flat"), (last, weights[1], weights[0]), x[::-1], strict=True
        ):
            p = shared_out(p, w, below)
            np.testing.assert_allclose(trace.back(name, rule)[0], p, atol=1e-12, err_msg=f"{name} {rule}")
            assert p.sum() == pytest.approx(1)
            wanted[name, rule] = p
    down = trace.send(
        "relu_two",
        trace.back("relu_two", "excitation") - trace.back("relu_two", "contrast"),
        "flat",
        "excitation",
    )
    difference = wanted["flat", "excitation"] - wanted["flat", "contrast"]
    np.testing.assert_allclose(down[0], difference, atol=1e-12)
    assert down.sum() == pytest.approx(0, abs=1e-12)


def as_matrix(operation: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Floats:
    """(outputs, inputs): a linear operation, read off from what it does to each unit input."""
    units = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
    with torch.no_grad():
        return np.asarray(operation(units).flatten(1).T - operation(torch.zeros_like(units)).flatten(1).T)


class Scaled(nn.Module):
    """By constants, some negative, in the ways of writing it."""

    def forward(self, x: Tensor) -> Tensor:
        y = 3 * x * torch.tensor([-1.0, -1.0, 2.0, -0.5], dtype=x.dtype)[:, None, None] / 2
        y *= 3
        return torch.mul(torch.full_like(y, 0.3), y).div_(7)


OPERATIONS: dict[str, nn.Module] = {
    "conv": nn.Conv2d(3, 4, 3, stride=2, padding=1),
    "groups": nn.Conv2d(3, 6, (1, 3), groups=3, dilation=(1, 2)),
    "same": nn.Conv2d(3, 2, 3, padding="same"),
    "folded": nn.Sequential(nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5)),
    "average": nn.AvgPool2d(3, stride=2, padding=1),
    "adaptive": nn.AdaptiveAvgPool2d((2, 3)),
    "scaled": nn.Sequential(nn.Conv2d(3, 4, 3), Scaled()),
    "flat": nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(75, 7)),
}


class Above(nn.Module):
    """An operation on the recorded layer `below`, a ReLU and a linear classifier."""

    def __init__(self, operation: nn.Module) -> None:
        super().__init__()
        self.below, self.operation, self.relu = nn.ReLU(), operation, nn.ReLU()
        out = operation.double().eval()(torch.zeros(1, 3, 5, 5, dtype=torch.float64)).numel()
        self.fc = nn.Linear(out, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.operation(self.below(x)))
        logits: Tensor = self.fc(x.flatten(1))
        return logits


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_against_their_matrices(name: str) -> None:
    """Batch normalisation is folded by this: the matrix is of both layers, with scales of either sign."""
    module = randomized(Above(OPERATIONS[name]))
    images = noise(1, 5, dtype=torch.float64)
    trace = traced(module, images, [1], "below", "relu", classifier="fc")
    x, y = images.clamp(min=0).numpy().flatten(), trace.at("relu").numpy().flatten()
    weights = as_matrix(module.operation, (3, 5, 5))
    if name == "folded":
        assert (module.operation[1].weight < 0).any()
    p = shared_out(np.eye(4)[1], module.fc.weight.detach().numpy(), y)
    np.testing.assert_allclose(trace.back("relu", "excitation").flatten(), p, atol=1e-12)
    if name == "scaled":  # unlike a batch normalisation, it is not folded: a negative scale excites nothing
        conv = module.operation[0]
        weights = as_matrix(conv, (3, 5, 5))
        excited = conv(images.clamp(min=0)).detach().numpy().flatten() > 0
        assert ((p > 0) & ~excited).any()
        p = p * excited
    p = shared_out(p, weights, x)
    np.testing.assert_allclose(trace.back("below", "excitation").flatten(), p, atol=1e-12)
    np.testing.assert_allclose(marginal(trace, "below")[0], p.reshape(3, 5, 5).sum(0), atol=1e-12)


ADDITIONS: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda a, b: a + b, torch.add, Tensor.add, Tensor.add_, lambda a, b: a.__iadd__(b),
    lambda a, b: torch.stack([a, b]).sum(0), lambda a, b: 2 * torch.stack([a, b], 1).mean(1),
]  # fmt: skip


class Residual(nn.Module):
    """Two branches added, one of which may be negative, maxima, and both concatenated with the sum."""

    def __init__(self, add: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.add = add
        self.left, self.right, self.relu = nn.Identity(), nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True)
        self.fc = nn.Linear(6 * 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        left = self.left(F.relu(x))
        both = self.relu(self.add(self.right(left), left))
        logits: Tensor = self.fc(F.max_pool2d(torch.cat([both, left], 1), 2).flatten(1))
        return logits


@pytest.mark.parametrize("add", ADDITIONS)
def test_sums_maxima_and_concatenations(add: Callable[[Tensor, Tensor], Tensor]) -> None:
    module = randomized(Residual(add))
    images = noise(1, 4, dtype=torch.float64)
    trace = traced(module, images, [3], "left", classifier="fc")
    left = images[0].clamp(min=0)
    right = module.right(left).detach()
    both = (left + right).clamp(min=0)
    pooled, where = F.max_pool2d(torch.cat([both, left]), 2, return_indices=True)
    p = shared_out(np.eye(4)[3], module.fc.weight.detach().numpy(), pooled.numpy().flatten())
    unpooled = np.zeros((6, 16))
    for channel, (indices, shares) in enumerate(zip(where, p.reshape(6, 2, 2), strict=True)):
        unpooled[channel, indices.numpy().flatten()] = shares.flatten()
    summed, beside = unpooled.reshape(2, 3, 4, 4)
    strength = np.maximum(left.numpy(), 0) + np.maximum(right.numpy(), 0)
    part = np.divide(summed, strength, out=np.zeros_like(summed), where=strength > 0)
    through = part * np.maximum(right.numpy(), 0)
    down = np.zeros((3, 4, 4))
    for v, u in np.ndindex(4, 4):
        weights = module.right.weight.detach().numpy()[:, :, 0, 0]
        down[:, v, u] = shared_out(through[:, v, u], weights, left.numpy()[:, v, u])
    wanted = beside + part * left.numpy() + down
    np.testing.assert_allclose(trace.back("left", "excitation")[0], wanted, atol=1e-12)
    assert wanted.sum() <= 1 + 1e-12
    assert (right < 0).any()


@pytest.mark.parametrize(
    ("relu", "ceiling"),
    [(nn.ReLU(), None), (F.relu, None), (torch.relu_, None), (F.relu6, 6), (nn.ReLU6(inplace=True), 6)],
)
def test_relus_pass_the_signal_on(relu: Callable[[Tensor], Tensor], ceiling: float | None) -> None:
    """Also above the ceiling of a ReLU6, where its gradient is zero."""

    class Ceiling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(64, 4)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.fc(relu(self.conv(x)).flatten(1))
            return logits

    module = randomized(Ceiling())
    trace = traced(module, noise(1, 4, dtype=torch.float64) * 20, [0], "conv", classifier="fc")
    before = trace.at("conv")
    assert (before > 6).any()
    y = before.clamp(0, ceiling).numpy().flatten()
    p = shared_out(np.eye(4)[0], module.fc.weight.detach().numpy(), y)
    np.testing.assert_allclose(trace.back("conv", "excitation").flatten(), p, atol=1e-12)


@pytest.mark.parametrize(("build", "classifier"), [(resnet18, "fc"), (squeezenet1_1, "classifier.1")])
def test_shares_sum_to_one_at_every_depth(build: Callable[[], nn.Module], classifier: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(num_classes=4)  # type: ignore[call-arg]
    depths = {
        "fc": ("maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool"),
        "classifier.1": ("features.2", "features.5", "features.8", "features.12", classifier),
    }[classifier]
    trace = traced(module, noise(2, 64, dtype=torch.float64), [0, 3], *depths, classifier=classifier)
    for layer in depths:
        p = trace.back(layer, "excitation")
        assert p.min() >= 0, layer
        # A unit that only its bias excites hands nothing on; these networks have none, or none that matters.
        torch.testing.assert_close(p.flatten(1).sum(1), torch.ones(2, dtype=p.dtype), atol=1e-9, rtol=0)


def test_contrast_is_a_difference_clamped_in_the_map() -> None:
    module = randomized(Above(nn.Conv2d(3, 4, 3)))
    trace = traced(module, noise(2, 5, dtype=torch.float64), [1, 0], "below", "relu", classifier="fc")
    found = contrastive(trace, "relu", "below")
    own = marginal(trace, "below")
    module.fc.weight.data.neg_()
    negated = traced(module, noise(2, 5, dtype=torch.float64), [1, 0], "below", classifier="fc")
    torch.testing.assert_close(found, (own - marginal(negated, "below")).clamp(min=0))
    assert (found == 0).any()
    assert (found > 0).any()


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x)) * torch.sigmoid(self.gate(x))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class Bare(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.amax((2, 3))


class Minus(Gated):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x)) - F.relu(self.gate(x))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def check(network: Network, name: str, **layers: str) -> None:
    config = SaliencyConfig(methods=(name,), layers=Layers(**layers))
    check_methods(network, config, (SpatialConfig(), ChannelConfig()))


def test_networks_without_rules_are_refused() -> None:
    good = network_of(randomized(Above(nn.Conv2d(3, 4, 3))).float(), 5)
    check(good, "mwp", excitation="below")
    check(good, "cmwp", excitation="below", contrast="relu", classifier="fc")
    with pytest.raises(LayerError, match=r"cmwp .* contrast = .* classifier = .* in the TOML. Or leave cmwp"):
        check(good, "cmwp", excitation="below")
    with pytest.raises(LayerError, match=r"weights of 'relu' do not matter at layer 'relu'"):
        check(good, "cmwp", excitation="below", contrast="relu", classifier="relu")
    with pytest.raises(LayerError, match=r"below does not depend on layer 'relu'"):
        check(good, "cmwp", excitation="relu", contrast="below", classifier="fc")
    with pytest.raises(LayerError, match=r"mwp .*layer 'fc' gives \(1, 4\), not maps"):
        check(good, "mwp", excitation="fc")
    with pytest.raises(LayerError, match=r"mwp .*no rule for .*: sigmoid"):
        check(network_of(Gated()), "mwp", excitation="conv")
    with pytest.raises(LayerError, match=r"mwp .*not shared out by what the network does above"):
        check(network_of(randomized(Minus())), "mwp", excitation="gate")
    with pytest.raises(LayerError, match=r"mwp .*network calls none"):
        check(network_of(nn.Sequential(nn.Identity(), Bare())), "mwp", excitation="0")


def test_no_default_names_them() -> None:
    """Their authors claim a patent and allow non-commercial use only."""
    assert not {"mwp", "cmwp"} & set(SaliencyConfig().methods)
