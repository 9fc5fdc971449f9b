"""Methods made of methods, by a card and a function: nothing of the house is touched."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from recorded import batch_of, network_of, noise, randomized
from torch import Tensor, nn

from extremal.pipeline.config import build_config, stored_tree
from extremal.pipeline.errors import ConfigError
from extremal.workers.config import DatasetConfig, NetworkConfig, RunConfig
from extremal.workers.errors import LayerError
from extremal.workers.inversion.settings import InversionConfig
from extremal.workers.networks.network import Network
from extremal.workers.saliency import METHODS, Batch, Card, Maps, Method, attribute, check_methods
from extremal.workers.saliency.config import SaliencyConfig
from extremal.workers.saliency.gradients import ReluRules, grad_cam
from extremal.workers.saliency.recorded_pass import Recording, Trace, read
from extremal.workers.saliency.settings import Layers

LAYERS = Layers(cam="second")
COPIES, SIGMA = 3, 0.2


class Net(nn.Module):
    """Two layers with space, and a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU())
        self.fc = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.second(self.first(x)).mean((2, 3)))
        return logits


def net(seed: int) -> Network:
    return network_of(randomized(Net(), seed), name=f"net{seed}")


OTHER = net(1)


def smooth(method: str) -> Method:
    """SmoothGrad (Smilkov et al., 2017): the mean of a method's maps over noisy copies of the image."""

    def compute(batch: Batch) -> Maps:
        shifts = [SIGMA * noise(len(batch.images), seed=copy) for copy in range(COPIES)]
        noisy = (replace(batch, images=batch.images + shift) for shift in shifts)
        return Maps(torch.stack([METHODS[method].method.compute(one).maps for one in noisy]).mean(0))

    return Method(compute)


def less_another_network(method: str) -> Method:
    """The method's maps less those of the same pairs before another network."""

    def compute(batch: Batch) -> Maps:
        one, other = (
            METHODS[method].method.compute(seen).maps for seen in (batch, batch.seen_by(OTHER, LAYERS))
        )
        return Maps(one - other)

    return Method(compute, recorded=True)


def layer_sum(batch: Batch) -> Maps:
    """Grad-CAM of two layers in one recorded pass, added on the smaller one's grid."""
    recording = Recording(lambda layers: ("first", "second"), lambda batch: ReluRules())

    def maps(trace: Trace) -> Tensor:
        first, second = (grad_cam(trace.at(name), trace.back(name, "plain")) for name in ("first", "second"))
        return second + nn.functional.adaptive_avg_pool2d(first, second.shape[-2:])

    return read(batch, recording, maps)


SMOOTH, LESS_CAM, LESS_NORM = (
    smooth("gradient"), less_another_network("grad_cam"), less_another_network("norm_grad"),
)  # fmt: skip
SUM = Method(layer_sum, recorded=True)


@pytest.fixture(autouse=True)
def cards(monkeypatch: pytest.MonkeyPatch) -> None:
    for attribute_name in ("SMOOTH", "LESS_CAM", "LESS_NORM", "SUM"):
        name = attribute_name.lower()
        card = Card(name, name, "this test", f"{__name__}:{attribute_name}")
        monkeypatch.setitem(METHODS, name, card)


def batch() -> Batch:
    return batch_of(net(0), noise(2), [0, 2], LAYERS)


def test_smoothed_maps_are_the_mean_over_noisy_images() -> None:
    pairs = batch()
    maps = attribute(pairs, ["gradient", "smooth"])
    expected = []
    for copy in range(COPIES):
        x = (pairs.images + SIGMA * noise(2, seed=copy)).requires_grad_()
        score = pairs.network.module(x).gather(1, pairs.targets[:, None]).sum()
        expected.append(torch.autograd.grad(score, x)[0].abs().amax(1))
    torch.testing.assert_close(maps["smooth"].maps, torch.stack(expected).mean(0))
    assert not torch.allclose(maps["smooth"].maps, maps["gradient"].maps)


def test_a_second_network_has_recorded_passes_of_its_own_which_wrappers_share() -> None:
    pairs, alone = batch(), ["grad_cam", "norm_grad"]
    passes: list[str] = []
    with (
        pairs.network.module.register_forward_pre_hook(lambda *_: passes.append("first")),
        OTHER.module.register_forward_pre_hook(lambda *_: passes.append("second")),
    ):
        maps = attribute(pairs, [*alone, "less_cam", "less_norm"])
    assert sorted(passes) == ["first", "second"]
    before = attribute(batch_of(OTHER, noise(2), [0, 2], LAYERS), alone)
    for name, wrapper in zip(alone, ("less_cam", "less_norm"), strict=True):
        assert torch.equal(maps[wrapper].maps, maps[name].maps - before[name].maps)
        assert maps[wrapper].maps.abs().max() > 0


def test_a_method_reads_several_layers_in_one_pass() -> None:
    pairs = batch()
    passes: list[int] = []
    with pairs.network.module.register_forward_pre_hook(lambda *_: passes.append(1)):
        (maps,) = (one.maps for one in attribute(pairs, ["sum"]).values())
    assert len(passes) == 1
    of_layer = {
        layer: attribute(replace(pairs, layers=Layers(cam=layer)), ["grad_cam"])["grad_cam"].maps
        for layer in ("first", "second")
    }
    pooled = nn.functional.adaptive_avg_pool2d(of_layer["first"], maps.shape[-2:])
    torch.testing.assert_close(maps, of_layer["second"] + pooled)


def steps(batch: Batch) -> Maps:
    """Maps that say what a section of the run holds."""
    value = float(batch.settings(InversionConfig).steps)
    return Maps(torch.full((len(batch.targets), 2, 2), value))


STEPS = Method(steps, check=steps)


def test_a_card_may_read_the_section_of_any_study(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card("steps", "Steps", "this test", f"{__name__}:STEPS", reads="inversion")
    monkeypatch.setitem(METHODS, "steps", card)
    settings = SaliencyConfig(methods=("steps",))
    config = RunConfig(
        DatasetConfig("folder"),
        NetworkConfig("net"),
        method="saliency",
        saliency=settings,
        inversion=InversionConfig(steps=7),
    )
    sections = config.read_sections()
    assert sections == (InversionConfig(steps=7), settings)
    check_methods(net(0), settings, sections)
    maps = attribute(replace(batch(), sections=sections), ["steps"])["steps"].maps
    assert maps.unique().tolist() == [7]
    with pytest.raises(KeyError, match=r"InversionConfig, which Batch\.sections does not hold"):
        attribute(batch(), ["steps"])


def test_layers_of_a_role_may_be_several() -> None:
    layers = Layers("a", None, ("b", "c"), "d")
    assert layers.names("cam", "excitation") == ("a",)
    assert layers.names("contrast", "classifier") == ("b", "c", "d")
    assert layers.names() == ("a", "b", "c", "d")
    assert Layers(("a",)) == Layers("a")
    assert layers.single("cam") == "a"
    with pytest.raises(LayerError, match=r"one layer as contrast, not several \(b, c\)"):
        layers.single("contrast")
    with pytest.raises(LayerError, match="one layer as excitation, and none is named"):
        layers.single("excitation")
    with pytest.raises(ValueError, match="cam must name a layer"):
        Layers(())


def test_several_layers_are_read_from_a_file_and_refused_by_methods_of_one() -> None:
    tree: dict[str, Any] = {"dataset": {"name": "voc"}, "network": {"name": "vgg16"}, "method": "saliency"}
    tree["saliency"] = {"layers": {"cam": ["first", "second"]}, "methods": ["grad_cam"]}
    config = build_config(tree)
    assert config.saliency.layers == Layers(("first", "second"))
    assert stored_tree(config)["saliency"]["layers"]["cam"] == ["first", "second"]
    assert build_config({**tree, "saliency": stored_tree(config)["saliency"]}) == config
    with pytest.raises(LayerError, match=r"grad_cam cannot work on net0: it reads one layer as cam, not sev"):
        check_methods(net(0), config.saliency, config.read_sections())
    with pytest.raises(ConfigError, match=r"saliency\.layers\.cam"):
        build_config({**tree, "saliency": {"layers": {"cam": 3}}})
