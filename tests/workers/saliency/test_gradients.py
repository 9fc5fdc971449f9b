import gc
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recorded import batch_of, network_of, noise, randomized
from torch import Tensor, nn
from torchvision.models import VisionTransformer, get_model

from extremal.pipeline.config import build_config, merge, method_trees
from extremal.pipeline.datasets.shapes import make_shapes
from extremal.pipeline.prepare import prepare, worker_spec
from extremal.storage import kinds
from extremal.workers.config import RunConfig
from extremal.workers.errors import LayerError
from extremal.workers.extremal.settings import ChannelConfig, SpatialConfig
from extremal.workers.networks.network import Network, load_network
from extremal.workers.saliency import METHODS, Batch, attribute, check_methods
from extremal.workers.saliency import gradients as g
from extremal.workers.saliency.config import SaliencyConfig
from extremal.workers.saliency.layers import layers_of
from extremal.workers.saliency.recorded_pass import record
from extremal.workers.saliency.settings import Layers
from extremal.workers.shard.worker import Worker

AT_INPUT = ("gradient", "deconvnet", "guided")
AT_LAYER = ("grad_cam", "linear_approximation", "norm_grad", "selective_norm_grad")
ALL = (*AT_INPUT, *AT_LAYER, "mwp", "cmwp")
REFERENCE = ("gradient", "deconvnet", "guided", "grad_cam", "linear_approximation")
IMAGES = ("ILSVRC2012_val_00000347", "train_n01491361")
LAYERS = Layers("relu2", "relu1", "relu2", "fc")


class Tiny(nn.Module):
    """Two convolutions with ReLUs called in a way of choice, a mean and a linear layer."""

    def __init__(self, relu: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.relu1, self.relu2 = Called(relu), Called(relu)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.conv1(x))
        x = self.relu2(self.conv2(x))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


class Called(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def tiny(relu: Callable[[Tensor], Tensor] = F.relu, **changes: object) -> Network:
    return network_of(randomized(Tiny(relu)), **changes)


def as_statement(x: Tensor) -> Tensor:
    x.relu_()
    return x


def maps(batch: Batch, names: tuple[str, ...] = ALL) -> dict[str, Tensor]:
    return {name: result.maps for name, result in attribute(batch, names).items()}


@pytest.fixture(scope="module", params=("squeezenet1_1", "resnet50"))
def reference(request: pytest.FixtureRequest, shared_data: Path) -> Network:
    return load_network(request.param, shared_data / "weights" / f"{request.param}.pth")


@pytest.mark.parametrize("image", IMAGES)
def test_maps_are_the_reference_implementations(reference: Network, image: str, shared_data: Path) -> None:
    stored = np.load(shared_data / "reference" / f"saliency_{reference.name}_{image}.npz")
    layers = Layers(cam=str(stored["layers"][0]))
    batch = batch_of(reference, torch.from_numpy(stored["input"]), [int(stored["target"])], layers)
    assert layers_of(reference, Layers()).cam == layers.cam
    for name, found in maps(batch, REFERENCE).items():
        wanted = stored[name.replace("approximation", "approx")][0, 0]
        assert found.dtype == torch.float32
        assert np.corrcoef(found[0].flatten(), wanted.flatten())[0, 1] > 0.9999, name
        assert int(found.argmax()) == int(wanted.argmax()), name
        np.testing.assert_allclose(found[0], wanted, atol=1e-5 * np.abs(wanted).max(), err_msg=name)


def test_a_linear_networks_gradient_is_its_weights() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)).double()
    weights = module[1].weight.detach().reshape(4, 3, 16, 16)
    images = noise(3, dtype=torch.float64)
    trace = record(batch_of(network_of(module), images, [2, 0, 3], Layers()), [], g.ReluRules())
    torch.testing.assert_close(g.at_input(trace, "plain"), weights[[2, 0, 3]].abs().amax(1))


@pytest.mark.parametrize("ceiling", [float("inf"), 0.8])
@pytest.mark.parametrize("rule", ["plain", "deconvnet", "guided"])
def test_backward_rules_by_hand(rule: str, ceiling: float) -> None:
    """The chain of matrices of a perceptron, in numpy, with each rule written out at its two ReLUs."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape) / shape[1] ** 0.5 for shape in ((30, 48), (20, 30), (4, 20))]
    layers: list[nn.Module] = [nn.Flatten()]
    for matrix in weights:
        linear = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False).double()
        linear.weight.data = torch.from_numpy(matrix)
        layers += [linear, nn.Hardtanh(0, ceiling)]
    network = network_of(nn.Sequential(*layers[:-1]), side=4)
    images = noise(2, 4, dtype=torch.float64)
    trace = record(batch_of(network, images, [1, 3], Layers()), [], g.ReluRules())
    found = g.at_input(trace, rule)
    for image, target, one in zip(images.numpy(), [1, 3], found, strict=True):
        before = [weights[0] @ image.flatten()]
        before.append(weights[1] @ np.clip(before[0], 0, ceiling))
        signal = weights[2][target]
        for value, matrix in ((before[1], weights[1]), (before[0], weights[0])):
            passed = np.ones_like(value) if rule == "deconvnet" else (value > 0) & (value < ceiling)
            signal = passed * (signal if rule == "plain" else np.maximum(signal, 0)) @ matrix
        np.testing.assert_allclose(one, np.abs(signal.reshape(3, 4, 4)).max(0), atol=1e-12)


def test_layer_maps_by_hand() -> None:
    """Position by position, from the definitions (CMP-8, CMP-10, NG-3, NG-4)."""
    rng = np.random.default_rng(1)
    x, d = rng.normal(size=(2, 3, 5, 4, 6))
    wanted = {name: np.zeros((3, 4, 6)) for name in AT_LAYER}
    for n, v, u in np.ndindex(3, 4, 6):
        a, b = x[n, :, v, u], d[n, :, v, u]
        wanted["grad_cam"][n, v, u] = max(0, sum(d[n, k].mean() * a[k] for k in range(5)))
        wanted["linear_approximation"][n, v, u] = sum(a[k] * b[k] for k in range(5))
        # What this position adds to the gradient of the identity's K x K weights, and to that of K scales.
        wanted["norm_grad"][n, v, u] = np.linalg.norm(np.outer(b, a), "fro")
        wanted["selective_norm_grad"][n, v, u] = np.linalg.norm([max(0, a[k] * b[k]) for k in range(5)])
    for name in AT_LAYER:
        found = getattr(g, name)(torch.from_numpy(x), torch.from_numpy(d))
        np.testing.assert_allclose(found, wanted[name], atol=1e-12, err_msg=name)


def test_layer_methods_read_the_layer_and_its_gradient() -> None:
    """Above the layer are a mean and a linear layer, so the gradient is known: weights / positions."""
    network, images = tiny(), noise(2)
    found = maps(batch_of(network, images, [4, 1], LAYERS), AT_LAYER)
    module = network.module
    x = F.relu(module.conv2(F.relu(module.conv1(images))))
    d = (module.fc.weight[[4, 1]] / 64)[:, :, None, None].expand_as(x)
    for name in AT_LAYER:
        torch.testing.assert_close(found[name], getattr(g, name)(x, d))
    assert found["linear_approximation"].min() < 0
    torch.testing.assert_close(found["grad_cam"], found["linear_approximation"].clamp(min=0))


def test_maps_start_from_a_softmax_over_space() -> None:
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1))
    network, images = network_of(randomized(module)), noise(2)
    trace = record(batch_of(network, images, [1, 3], Layers()), ["1"], g.ReluRules())
    scores = module(images)[[0, 1], [1, 3]]
    weight = scores.exp() / scores.exp().sum(dim=(1, 2), keepdim=True)
    wanted = weight[:, None] * module[2].weight[[1, 3]]
    torch.testing.assert_close(trace.back("1", "plain"), wanted)


@pytest.mark.parametrize(
    "relu",
    [F.relu, torch.relu, Tensor.relu, F.relu_, torch.relu_, Tensor.relu_, as_statement,
     lambda x: F.relu(x, inplace=True), lambda x: F.relu(input=x), nn.ReLU(inplace=True)],
)  # fmt: skip
def test_every_relu_is_found(relu: Callable[[Tensor], Tensor]) -> None:
    modules = maps(batch_of(tiny(nn.ReLU()), noise(2), [4, 1], LAYERS))
    for name, found in maps(batch_of(tiny(relu), noise(2), [4, 1], LAYERS)).items():
        torch.testing.assert_close(found, modules[name], msg=name)


@pytest.mark.parametrize(
    "relu",
    [F.relu6, nn.ReLU6(inplace=True), lambda x: F.relu6(x, inplace=True), lambda x: F.hardtanh(x, 0, 6),
     lambda x: F.hardtanh(x, min_val=0, max_val=6, inplace=True), lambda x: F.hardtanh_(x, 0.0, 6.0)],
)  # fmt: skip
def test_every_relu6_is_found(relu: Callable[[Tensor], Tensor]) -> None:
    images = noise(2) * 8
    modules = maps(batch_of(tiny(nn.ReLU6()), images, [4, 1], LAYERS))
    assert not torch.allclose(modules["guided"], maps(batch_of(tiny(), images, [4, 1], LAYERS))["guided"])
    for name, found in maps(batch_of(tiny(relu), images, [4, 1], LAYERS)).items():
        torch.testing.assert_close(found, modules[name], msg=name)


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_captum_agrees() -> None:
    """On ReLU modules, which its hooks reach; it gives signed colours, of which we take the largest size."""
    network, images, targets = tiny(nn.ReLU()), noise(3), [4, 1, 0]

    class Plain(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    module = Plain().eval()
    module.load_state_dict(network.module.state_dict())
    x, target = images.clone().requires_grad_(), torch.tensor(targets)
    found = maps(batch_of(network, images, targets, LAYERS), (*AT_INPUT, "grad_cam"))
    wanted = {
        "gradient": captum.attr.Saliency(module).attribute(x, target),
        "deconvnet": captum.attr.Deconvolution(module).attribute(x, target),
        "guided": captum.attr.GuidedBackprop(module).attribute(x, target),
        "grad_cam": captum.attr.LayerGradCam(module, module.relu2).attribute(
            x, target, relu_attributions=True
        ),
    }
    for name, one in wanted.items():
        torch.testing.assert_close(found[name], one.detach().abs().amax(1), msg=name)


@pytest.mark.parametrize("slots", [None, 3])
def test_eight_at_once_are_eight_of_one(slots: int | None) -> None:
    network, images, targets = tiny(), noise(8), [0, 1, 2, 3, 4, 0, 1, 2]
    together = maps(batch_of(network, images, targets, LAYERS, slots=slots))
    for i, target in enumerate(targets):
        for name, alone in maps(batch_of(network, images[i : i + 1], [target], LAYERS)).items():
            torch.testing.assert_close(together[name][i : i + 1], alone, msg=name)


def test_pairs_of_one_image_and_a_single_forward_pass() -> None:
    network, images = tiny(), noise(2)
    passes: list[object] = []
    with network.module.register_forward_pre_hook(lambda *_: passes.append(1)):
        batch = batch_of(network, images, [0, 1], LAYERS)
        pairs = replace(batch, image=[1, 0, 1], targets=torch.tensor([1, 0, 3]), seeds=[0, 1, 2])
        found, whole = maps(pairs), maps(batch)
    assert len(passes) == 4  # one for the gradients and one for the excitation, of each batch
    for name in ALL:
        torch.testing.assert_close(found[name][:2], whole[name].flip(0), msg=name)


def test_bf16_maps_are_float32() -> None:
    images = noise(2)
    full = maps(batch_of(tiny(), images, [4, 1], LAYERS))
    for name, found in maps(batch_of(tiny(precision="bf16"), images, [4, 1], LAYERS)).items():
        assert found.dtype == torch.float32
        pair = torch.stack([found.flatten(), full[name].flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.98, name
        assert not torch.equal(found, full[name])


class Failing(Tiny):
    broken = True

    def forward(self, x: Tensor) -> Tensor:
        x = x.mul_(1.0)  # works in place on its input
        x = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        if self.broken:
            raise RuntimeError("in the middle")
        logits: Tensor = self.fc(x.amax(dim=(2, 3)))
        return logits


@pytest.mark.parametrize("broken", [True, False])
@pytest.mark.parametrize("name", ["guided", "grad_cam", "mwp"])
def test_nothing_is_left_behind(name: str, broken: bool) -> None:
    module = randomized(Failing())
    network, images = network_of(module), noise(2)
    module.broken = broken  # type: ignore[assignment]
    module.relu1.train()
    before = images.clone(), [p.clone() for p in module.parameters()]
    batch = batch_of(network, images, [0, 1], LAYERS)
    if broken:
        with pytest.raises(RuntimeError, match="in the middle"):
            METHODS[name].method.compute(batch)
    else:
        METHODS[name].method.compute(batch)
    for part in module.modules():
        assert not any((part._forward_hooks, part._forward_pre_hooks, part._backward_hooks))
        assert part.training == (part is module.relu1)
    assert not any(p.requires_grad or p.grad is not None for p in module.parameters())
    assert torch.equal(images, before[0])
    assert not images.requires_grad
    assert all(torch.equal(p, was) for p, was in zip(module.parameters(), before[1], strict=True))
    assert torch.is_grad_enabled()
    leaf = torch.ones(1, requires_grad=True)
    assert type(F.relu(leaf).grad_fn).__name__.startswith("ReluBackward")


def test_a_batch_is_given_up_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        batch = batch_of(tiny(), noise(2), [0, 1], LAYERS)
        maps(batch)
        kept = [weakref.ref(trace.output) for trace in batch.shared.values()]
        kept += [weakref.ref(x) for trace in batch.shared.values() for x in trace.outputs.values()]
        assert len(kept) == 7
        del batch
        assert not any(one() is not None for one in kept)
    finally:
        gc.enable()


def test_gradients_work_where_gradients_are_off() -> None:
    batch, same = (batch_of(tiny(), noise(2), [0, 1], LAYERS) for _ in range(2))
    with torch.no_grad():
        found = maps(batch)
    for name, wanted in maps(same).items():
        torch.testing.assert_close(found[name], wanted, msg=name)


def check(network: Network, *names: str, **layers: str) -> None:
    config = SaliencyConfig(methods=names, layers=Layers(**layers))
    check_methods(network, config, (SpatialConfig(), ChannelConfig()))


def test_transformers_and_gelus_are_refused() -> None:
    vit = network_of(VisionTransformer(32, 16, 1, 2, 16, 32, num_classes=5), 32, "vit_tiny")
    check(vit, "gradient")
    for name in AT_LAYER:
        with pytest.raises(LayerError, match=f'^{name} cannot .* vit_tiny: .*cam = "..." in the TOML. Or'):
            check(vit, name)
    with pytest.raises(LayerError, match=r"not maps \(N, channels, height, width\)"):
        check(vit, "grad_cam", cam="encoder.ln")
    for network in (vit, tiny(F.gelu), tiny(F.silu)):
        for name in ("deconvnet", "guided"):
            with pytest.raises(LayerError, match=f"^{name} .*ReLUs.* calls none. Or leave {name} out"):
                check(network, "gradient", name)


def test_networks_with_other_activations_beside_relus_are_refused() -> None:
    for other in (nn.GELU(), nn.Tanh(), nn.Mish(), nn.PReLU()):
        module = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), other, nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        mixed = network_of(module, 16, "mixed")
        check(mixed, "gradient")
        for name in ("deconvnet", "guided"):
            with pytest.raises(LayerError, match=f"^{name} .* the network also calls .*leave {name} out"):
                check(mixed, name)
        with pytest.raises(LayerError, match=r"^mwp .*no rule for a function"):
            check(mixed, "mwp", excitation="0")


def test_a_network_that_gives_no_numbers_is_refused() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)) * float("nan")

    with pytest.raises(LayerError, match=r"gradient .*output for an image of noise is not finite"):
        check(network_of(Broken(), 16, "broken"), "gradient")


def test_layers_of_no_use_are_refused() -> None:
    check(tiny(), *AT_INPUT, *AT_LAYER, cam="relu2")
    with pytest.raises(LayerError, match="has no layer 'relu3'; close: relu"):
        check(tiny(), "gradient", cam="relu3")
    with pytest.raises(LayerError, match="layer 'fc' gives"):
        check(tiny(), "grad_cam", cam="fc")
    with pytest.raises(LayerError, match=r"grad_cam cannot .*layer 'twice' is called twice"):
        check(network_of(Odd()), "grad_cam", cam="twice")
    with pytest.raises(LayerError, match="layer 'never' is never called"):
        check(network_of(Odd()), "grad_cam", cam="never")
    with pytest.raises(LayerError, match="the output does not depend on layer 'aside'"):
        check(network_of(Odd()), "grad_cam", cam="aside")
    with pytest.raises(LayerError, match="layer 'last' gives"):
        check(network_of(Odd()), "grad_cam", cam="last")


class Odd(nn.Module):
    """A layer called twice, one never, one in vain, and one whose channels are last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.never = nn.Conv2d(3, 5, 1), nn.Conv2d(3, 5, 1)
        self.aside = nn.Conv2d(3, 5, 1)
        self.twice = nn.ReLU()
        self.last = Called(lambda x: x.permute(0, 2, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        self.aside(x)
        x = self.twice(self.twice(self.conv(x)))
        logits: Tensor = self.last(x).mean((1, 2))
        return logits


def test_a_layer_may_be_called_input() -> None:
    module = nn.Sequential(
        OrderedDict(input=nn.Conv2d(3, 4, 3), relu=nn.ReLU(), mean=nn.AdaptiveAvgPool2d(1))
    )
    check(network_of(module), "gradient", "grad_cam", cam="input")


def test_a_pass_that_changes_while_recorded_is_refused() -> None:
    drawn: Iterator[float] = iter(range(100))
    network = network_of(Called(lambda x: F.relu(x).mean((2, 3)) + next(drawn)))
    with pytest.raises(LayerError, match=r"guided .* does not give the network's logits"):
        check(network, "guided")


@pytest.mark.parametrize(
    "name",
    ["vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn", "resnet18",
     "resnet50", "wide_resnet50_2", "resnext50_32x4d", "googlenet", "squeezenet1_0", "squeezenet1_1",
     "mobilenet_v2", "densenet121"],
)  # fmt: skip
def test_the_table_knows_the_layers(name: str) -> None:
    with torch.device("meta"):
        options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
        module = get_model(name, weights=None, **options)
    network = network_of(module, name=name)
    layers = layers_of(network, Layers())
    for layer in layers.names():
        module.get_submodule(layer)
    weighted = [n for n, m in module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert layers.classifier == weighted[-1]
    if name.startswith("vgg"):
        parts = list(module.features.named_children())
        relus = [n for n, m in parts if isinstance(m, nn.ReLU)]
        pools = [n for n, m in parts if isinstance(m, nn.MaxPool2d)]
        assert layers.cam == f"features.{relus[-1]}"
        assert layers.excitation == f"features.{pools[3]}"
    changed = layers_of(network, Layers(cam=layers.excitation))
    assert (changed.cam, changed.classifier) == (layers.excitation, layers.classifier)


def test_the_table_matches_whole_names() -> None:
    with torch.device("meta"):
        module = get_model("resnet18", weights=None)
    assert layers_of(network_of(module, name="resnet18_mine"), Layers()) == Layers()
    for name in ("vgg16_voc", "vgg16_coco", "resnet50_voc", "resnet50_coco", "bvlc_googlenet"):
        assert layers_of(network_of(module, name=name), Layers()) != Layers()
    others = ("wide_resnet101_2", "resnext101_64x4d", "resnet152", "densenet201")
    assert all(layers_of(network_of(module, name=name), Layers()) != Layers() for name in others)


def smooth_network() -> nn.Module:
    """For runs, by name: as many classes as there are shapes, and no ReLU."""
    return nn.Sequential(nn.Conv2d(3, 6, 8, stride=8), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def run_config(root: Path, network: str, methods: tuple[str, ...]) -> RunConfig:
    tree = {
        "dataset": {"name": "shapes", "split": "test", "root": str(root)},
        "network": {"name": network, "weights": "random" if network == "shapes_cnn" else None, "resize": 64},
        "method": "saliency",
        "saliency": {"methods": list(methods)},
        "batch": 3,
    }
    return build_config(merge(method_trees("fast"), tree))


def test_a_run_of_all_methods(tmp_path: Path) -> None:
    make_shapes(tmp_path, train=1, test=2)
    config = run_config(tmp_path, "shapes_cnn", ALL)
    run, _ = prepare(config, str(tmp_path / "run"))
    worker = Worker(worker_spec(config, run, "cpu"))
    for shard in set(run.plan(["shard"])["shard"].to_pylist()):
        list(worker.run_shard(shard))
    points = run.table(kinds.POINTS).to_pylist()
    assert len(points) == 4 * (len(ALL) + 1)
    assert {point["method"] for point in points} == {"center", *ALL}
    assert run.table(kinds.SALIENCY).num_rows == 4 * len(ALL)


def test_a_run_is_refused_before_it_is_made(tmp_path: Path) -> None:
    make_shapes(tmp_path, train=1, test=1)
    name = f"{__name__}:smooth_network"
    for method, advice in (("guided", "calls none"), ("grad_cam", r'\[saliency.layers\] cam = "..."')):
        with pytest.raises(LayerError, match=f"^{method} cannot work on {name}: .*{advice}"):
            prepare(run_config(tmp_path, name, ("gradient", method)), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    prepare(run_config(tmp_path, name, ("gradient",)), str(tmp_path / "run"))
