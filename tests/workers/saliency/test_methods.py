"""Every method of the table, by the same tests: a card in METHODS is all that a new one needs here."""

import functools
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.modules.module as module_globals
from torch import Tensor, nn
from torchvision.models import googlenet, mobilenet_v2, resnet18, squeezenet1_1
from torchvision.models.vgg import VGG, make_layers

from extremal.workers.extremal.settings import ChannelConfig, MaskConfig, Schedule, SpatialConfig
from extremal.workers.networks.cut import Split, split_network
from extremal.workers.networks.network import IMAGENET, Network
from extremal.workers.saliency import METHODS, Batch
from extremal.workers.saliency.config import SaliencyConfig
from extremal.workers.saliency.layers import layers_of
from extremal.workers.saliency.settings import Layers, OcclusionConfig, RiseConfig

CLASSES = 5
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
RANDOM_METHODS = ("rise",)

every_method = pytest.mark.parametrize("method", METHODS)


class SmallVGG(nn.Module):
    """The layout of VGG, ReLUs in place and all, in miniature."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(
            nn.Linear(32, 16), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(16, CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return logits


LAYERS = Layers("features.6", "features.2", "classifier.1", "classifier.3")
CONVOLUTION = "features.3"  # in the middle of SmallVGG
SALIENCY = SaliencyConfig(
    methods=tuple(METHODS), rise=RiseConfig(8, 3, 0.5), occlusion=OcclusionConfig(12, 10)
)
SPATIAL = SpatialConfig(
    areas=(0.2,),
    levels=3,
    sigma_max=3.0,
    jitter="random",
    mask=MaskConfig(step=6, sigma=6.0),
    schedule=Schedule(4, 0.05, 0.9, 0.0, 100.0, "growing"),
)
CHANNEL = ChannelConfig("features.4", (2, 8), schedule=Schedule(3, 0.05, 0.9, 0.0, 10.0, "ramp"))


@functools.cache
def small_vgg() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = SmallVGG().eval().requires_grad_(False)
    return Network("small_vgg", module, IMAGENET, None, "")


@functools.cache
def small_split() -> Split:
    return split_network(small_vgg(), CHANNEL.layer, (24, 24))


def make_batch(image: list[int], height: int = 24, width: int = 24, seed: int = 0) -> Batch:
    """Pairs over images of noise; pair i explains another class than its neighbours."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(max(image) + 1, 3, height, width, generator=generator)
    targets = torch.arange(len(image)) * 2 % CLASSES
    seeds = [100 + i for i in range(len(image))]
    return Batch(
        network=small_vgg(),
        images=images,
        image=image,
        targets=targets,
        seeds=seeds,
        seed=seed,
        layers=LAYERS,
        config=SALIENCY,
        sections=(SPATIAL, CHANNEL),
        split=small_split(),
    )


def shortened(batch: Batch) -> Batch:
    """The same with optimizations of two steps."""
    sections = (
        replace(config, schedule=replace(config.schedule, steps=2))
        for config in (batch.settings(SpatialConfig), batch.settings(ChannelConfig))
    )
    return replace(batch, sections=tuple(sections))


def one_of(batch: Batch, pair: int) -> Batch:
    """A batch of one pair of another."""
    image, one = batch.image[pair], slice(pair, pair + 1)
    return replace(
        batch,
        images=batch.images[image : image + 1].clone(),
        image=[0],
        targets=batch.targets[one],
        seeds=batch.seeds[one],
    )


# ---- what comes out --------------------------------------------------------------------------


@every_method
def test_maps_are_finite_float32_of_each_pair(method: str) -> None:
    batch = make_batch([0, 1, 1], 24, 32)
    found = METHODS[method].method.compute(batch)
    assert found.maps.dtype == torch.float32
    assert found.maps.ndim == 3
    assert len(found.maps) == 3
    assert all(0 < side <= limit for side, limit in zip(found.maps.shape[1:], (24, 32), strict=True))
    assert found.maps.isfinite().all()
    assert found.maps.flatten(1).std(1).min() > 0, "a flat map points nowhere"
    assert not found.maps.requires_grad
    for name, values in found.diagnostics.items():
        assert (values.shape, values.dtype) == ((3,), torch.float32), name


# Pairs that share images, pairs that do not, and images that are no squares.
@pytest.mark.parametrize(
    ("image", "height", "width"), [([0, 0, 1, 2, 2, 2, 3, 4], 24, 24), (list(range(8)), 24, 34)]
)
@every_method
def test_batch_of_eight_equals_eight_of_one(method: str, image: list[int], height: int, width: int) -> None:
    batch = make_batch(image, height, width)
    together = METHODS[method].method.compute(batch)
    for pair in range(8):
        alone = METHODS[method].method.compute(one_of(batch, pair))
        limit = 1e-4 * float(alone.maps.abs().max())
        torch.testing.assert_close(together.maps[pair], alone.maps[0], atol=limit, rtol=1e-4)
        for name, values in together.diagnostics.items():
            torch.testing.assert_close(values[pair], alone.diagnostics[name][0], atol=1e-4, rtol=1e-4)


@every_method
def test_maps_depend_on_the_seed_if_the_method_is_random_and_on_no_other_generator(method: str) -> None:
    batch = make_batch([0, 1])
    first = METHODS[method].method.compute(batch).maps
    torch.rand(3)
    assert METHODS[method].method.compute(make_batch([0, 1])).maps.equal(first)
    other = METHODS[method].method.compute(make_batch([0, 1], seed=1)).maps
    assert other.equal(first) == (method not in RANDOM_METHODS)


# ---- what is left behind ---------------------------------------------------------------------


def state(batch: Batch) -> dict[str, Any]:
    """All that a method might leave changed."""
    network = batch.network.module
    return {
        "modules": [(name, type(m), m.training, sorted(vars(m))) for name, m in network.named_modules()],
        "in place": [getattr(m, "inplace", None) for m in network.modules()],
        "hooks": [len(getattr(m, name)) for m in network.modules() for name in HOOKS],
        "forwards": [m.forward for m in network.modules()],
        "global hooks": [len(getattr(module_globals, "_global" + name)) for name in HOOKS],
        "gradients": [(p.requires_grad, p.grad is None) for p in network.parameters()],
        "weights": [value.tolist() for value in network.state_dict().values()],
        "images": (batch.images.tolist(), batch.images.requires_grad, batch.images.grad),
        "targets": batch.targets.tolist(),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "default": torch.get_default_dtype(),
    }


class Blown(Exception):
    """What the fuse raises."""


class _Counted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, passed: Callable[[], None]) -> Tensor:
        ctx.passed = passed
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ctx.passed()
        return grad, None


class Fuse:
    """Counts the passes through a layer, forward and backward, and blows from the given one on."""

    def __init__(self, forward: int = 10**9, backward: int = 10**9) -> None:
        self.limits = {"forward": forward, "backward": backward}
        self.passed = dict.fromkeys(self.limits, 0)

    def _pass(self, way: str) -> None:
        self.passed[way] += 1
        if self.passed[way] >= self.limits[way]:
            raise Blown

    @contextmanager
    def within(self, layer: nn.Module) -> Iterator[None]:
        honest = layer.forward

        def fused(x: Tensor) -> Tensor:
            self._pass("forward")
            y: Tensor = _Counted.apply(honest(x), functools.partial(self._pass, "backward"))
            return y

        layer.forward = fused  # type: ignore[method-assign]
        try:
            yield
        finally:
            del layer.forward


@every_method
def test_nothing_is_left_behind_not_even_after_an_error_in_the_network(method: str) -> None:
    layer = small_vgg().module.get_submodule(CONVOLUTION)

    def run(fuse: Fuse, blows: bool) -> None:
        batch = make_batch([0, 1, 1])
        with fuse.within(layer):
            before = state(batch)
            if blows:
                with pytest.raises(Blown):
                    METHODS[method].method.compute(batch)
            else:
                METHODS[method].method.compute(batch)
            assert state(batch) == before

    honest = Fuse()
    run(honest, blows=False)
    assert honest.passed["forward"] > 0
    for way, passes in honest.passed.items():
        # The first pass, and one in the middle: a method may do several.
        for at in sorted({1, (passes + 1) // 2} if passes else set()):
            run(Fuse(**{way: at}), blows=True)


@every_method
def test_memory_does_not_grow_over_a_hundred_batches(method: str) -> None:
    def living() -> tuple[int, int]:
        gc.collect()
        objects = gc.get_objects()
        return sum(issubclass(type(o), Tensor) for o in objects), len(objects)

    def some(count: int) -> None:
        for _ in range(count):
            METHODS[method].method.compute(shortened(make_batch([0], 12, 12)))

    some(3)  # what is cached is there after these
    tensors, objects = living()
    some(100)
    more_tensors, more_objects = living()
    assert more_tensors <= tensors
    assert more_objects < objects + 100


# ---- architectures ---------------------------------------------------------------------------


def _vgg16() -> nn.Module:
    """VGG16's layers by number and name, an eighth as wide."""
    widths: list[str | int] = [8, 8, "M", 16, 16, "M", 32, 32, 32, "M", 64, 64, 64, "M", 64, 64, 64, "M"]
    with torch.device("meta"):  # its classifier, replaced below, has a hundred million weights
        network = VGG(nn.Sequential(), init_weights=False)
    network.features = make_layers(widths)
    network.classifier = nn.Sequential(
        nn.Linear(64 * 49, 32), nn.ReLU(True), nn.Dropout(),
        nn.Linear(32, 32), nn.ReLU(True), nn.Dropout(),
        nn.Linear(32, 10),
    )  # fmt: skip
    return network


MINIATURES: dict[str, Callable[[], nn.Module]] = {
    "vgg16": _vgg16,
    "resnet18": lambda: resnet18(num_classes=10),
    "googlenet": lambda: googlenet(num_classes=10, aux_logits=False, init_weights=False),
    "squeezenet1_1": lambda: squeezenet1_1(num_classes=10),
    "mobilenet_v2": lambda: mobilenet_v2(num_classes=10, width_mult=0.25),
}


@functools.cache
def miniature(name: str) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = MINIATURES[name]().eval().requires_grad_(False)
    return Network(name, module, IMAGENET, None, "")


@pytest.mark.parametrize("name", MINIATURES)
@every_method
def test_every_method_works_on_every_architecture(method: str, name: str) -> None:
    network = miniature(name)
    layers = layers_of(network, Layers())
    channel = replace(CHANNEL, layer=layers.cam, schedule=replace(CHANNEL.schedule, steps=2))
    batch = shortened(make_batch([0, 0, 0, 0], 64, 64))
    batch = replace(
        batch,
        network=network,
        layers=layers,
        config=replace(SALIENCY, occlusion=OcclusionConfig(32, 32)),
        sections=(batch.settings(SpatialConfig), channel),
        split=None,
    )
    maps = METHODS[method].method.compute(batch).maps
    assert len(maps) == 4
    assert maps.isfinite().all()
    assert maps.abs().max() > 0, "a map may be zero, but not those of four classes"
