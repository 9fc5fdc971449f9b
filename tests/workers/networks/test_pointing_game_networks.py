"""The pointing game's networks against torchvision, a plain forward pass, and files of every layout."""

import logging
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision import models

from extremal.pipeline.prepare import prepare
from extremal.storage import ConfigMismatch
from extremal.workers import extremal_perturbation
from extremal.workers.config import DatasetConfig, NetworkConfig, RunConfig
from extremal.workers.errors import NetworkError
from extremal.workers.images import Preprocess
from extremal.workers.networks.cut import layer_names, split_network
from extremal.workers.networks.network import Network, load_network
from extremal.workers.networks.pointing_game import (
    BENCHMARK,
    PREPROCESS,
    FullyConvolutional,
    fill_benchmark,
    fully_convolutional_resnet50,
    fully_convolutional_vgg16,
)
from extremal.workers.saliency.layers import layers_of
from extremal.workers.saliency.settings import Layers

NARROW = 4
State = dict[str, Tensor]


def lively(module: FullyConvolutional) -> FullyConvolutional:
    """In evaluation, with weights and statistics of which each one shows in the logits."""
    generator = torch.Generator().manual_seed(1)
    for key, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            scale = (2 / tensor[0].numel()) ** 0.5 if tensor.ndim == 4 else 0.1
            tensor.normal_(0, scale, generator=generator)
            if tensor.ndim == 1 and (key.endswith("running_var") or ("bn" in key and "weight" in key)):
                tensor.abs_().add_(0.5)
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def vgg() -> FullyConvolutional:
    return lively(fully_convolutional_vgg16(20, NARROW))


@pytest.fixture(scope="module")
def resnet() -> FullyConvolutional:
    return lively(fully_convolutional_resnet50(20, NARROW))


@pytest.fixture(params=["vgg16_voc", "resnet50_voc"])
def network(request: pytest.FixtureRequest) -> Network:
    return as_network(
        request.getfixturevalue("vgg" if request.param.startswith("vgg") else "resnet"), request.param
    )


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The four names with few channels: the real VGG16 has half a gigabyte of weights."""
    for name in BENCHMARK:
        build = fully_convolutional_vgg16 if name.startswith("vgg") else fully_convolutional_resnet50
        monkeypatch.setitem(BENCHMARK, name, partial(build, 20 if name.endswith("voc") else 80, NARROW))


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def as_network(module: nn.Module, name: str) -> Network:
    return Network(name, module, PREPROCESS, None, "")


# ---- the modules --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "usual", "extra"),
    [
        ("vgg16_voc", "vgg16", set()),
        ("vgg16_coco", "vgg16", set()),
        ("resnet50_voc", "resnet50", {"conv1.bias"}),
        ("resnet50_coco", "resnet50", {"conv1.bias"}),
    ],
)
def test_published_sizes_and_names(name: str, usual: str, extra: set[str]) -> None:
    """Tensor by tensor torchvision's, but for Caffe's bias; on the meta device, which holds no numbers."""
    outputs = 20 if name.endswith("voc") else 80
    with torch.device("meta"):
        modules = BENCHMARK[name](), models.get_model(usual, num_classes=outputs)
    ours, theirs = (
        {key: (tensor.shape[:1], tensor.numel()) for key, tensor in module.state_dict().items()}
        for module in modules
    )
    assert extra <= ours.keys()
    assert {key: size for key, size in ours.items() if key not in extra} == theirs


def plain_vgg(state: State, x: Tensor) -> Tensor:
    """Logits (B, C) of a square of 224: torchvision's features, then dense layers."""
    channels = [m * NARROW if isinstance(m, int) else m for m in
                (1, 1, "M", 2, 2, "M", 4, 4, 4, "M", 8, 8, 8, "M", 8, 8, 8, "M")]  # fmt: skip
    features = models.vgg.make_layers(channels).eval()
    features.load_state_dict({k.removeprefix("features."): v for k, v in state.items() if "features" in k})
    x = features(x).flatten(1)
    for layer in ("classifier.0", "classifier.3", "classifier.6"):
        x = F.linear(x if layer == "classifier.0" else x.relu(), state[f"{layer}.weight"].flatten(1))
        x = x + state[f"{layer}.bias"]
    return x


def test_vgg_is_torchvisions_on_a_square(vgg: FullyConvolutional) -> None:
    x = noise(2, 3, 224, 224)
    with torch.no_grad():
        maps, wanted = vgg(x), plain_vgg(dict(vgg.state_dict()), x)
    assert maps.shape == (2, 20, 1, 1)
    assert wanted.std() > 0.1
    torch.testing.assert_close(maps[..., 0, 0], wanted, atol=1e-4, rtol=1e-4)


def test_vgg_on_a_wide_image_slides_its_window(vgg: FullyConvolutional) -> None:
    x = noise(1, 3, 224, 298)
    with torch.no_grad():
        maps, last = vgg(x), vgg.features(x)
        assert last.shape == (1, 8 * NARROW, 7, 10)  # rounded down, 298 would become 9
        assert maps.shape == (1, 20, 1, 4)
        for place in range(4):
            torch.testing.assert_close(vgg.classifier(last[..., place : place + 7])[..., 0], maps[..., place])
        logits = as_network(vgg, "vgg16_voc")(x)
    torch.testing.assert_close(logits, maps.mean((2, 3)))


def plain_resnet(state: State, x: Tensor) -> Tensor:
    """The map (B, 2048, h, w) before the pool, by Caffe's definition: strides and paddings written out."""

    def unit(x: Tensor, conv: str, bn: str, stride: int = 1, padding: int = 0) -> Tensor:
        x = F.conv2d(x, state[f"{conv}.weight"], state.get(f"{conv}.bias"), stride, padding)
        mean, var, scale, shift = (
            state[f"{bn}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, scale, shift, eps=1e-5)

    x = F.max_pool2d(unit(x, "conv1", "bn1", 2, 3).relu(), 3, 2, padding=0, ceil_mode=True)
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = unit(x, f"{at}.conv1", f"{at}.bn1", stride).relu()
            y = unit(y, f"{at}.conv2", f"{at}.bn2", padding=1).relu()
            y = unit(y, f"{at}.conv3", f"{at}.bn3")
            skip = unit(x, f"{at}.downsample.0", f"{at}.downsample.1", stride) if block == 0 else x
            x = (y + skip).relu()
    return x


@pytest.mark.parametrize(("size", "last"), [((224, 298), (7, 10)), ((96, 131), (3, 5))])
def test_resnet_is_caffes(resnet: FullyConvolutional, size: tuple[int, int], last: tuple[int, int]) -> None:
    state, x = dict(resnet.state_dict()), noise(1, 3, *size)
    with torch.no_grad():
        features = plain_resnet(state, x)
        assert features.shape[2:] == last
        wanted = F.linear(features.mean((2, 3)), state["fc.weight"].flatten(1), state["fc.bias"])
        logits = resnet(x)
    assert logits.shape == (1, 20, 1, 1)
    torch.testing.assert_close(logits[..., 0, 0], wanted, atol=1e-3 * float(wanted.abs().max()), rtol=0)


def test_dense_pools_seven_by_seven_with_the_same_layers(resnet: FullyConvolutional) -> None:
    network = as_network(resnet, "resnet50_voc")
    dense = network.dense
    assert network.dense is dense  # its pool is found again by whoever hooks it
    own, shared = dict(resnet.named_modules()), dict(dense.named_modules())
    assert list(own) == list(shared)
    assert {name for name in own if own[name] is not shared[name]} == {"", "avgpool"}
    assert not dense.training
    with torch.no_grad():
        square = noise(1, 3, 224, 224)
        torch.testing.assert_close(dense(square), resnet(square))
        wide = noise(1, 3, 224, 298)
        features = resnet[:-2](wide)
        windows = torch.stack([features[..., i : i + 7].mean((2, 3)) for i in range(4)], dim=-1)
        wanted = F.conv1d(windows, resnet.fc.weight.flatten(2), resnet.fc.bias)[:, :, None]
        torch.testing.assert_close(dense(wide), wanted, atol=1e-3 * float(wanted.abs().max()), rtol=0)


def test_dense_of_other_networks_is_the_module(vgg: FullyConvolutional) -> None:
    assert as_network(vgg, "vgg16_voc").dense is vgg
    usual = load_network("resnet18", "random")
    assert usual.dense is usual.module


# ---- what is done with them ---------------------------------------------------------------------


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("name", list(BENCHMARK))
def test_random_weights_and_layers_of_the_table(name: str) -> None:
    network = load_network(name, "random")
    assert (network.preprocess, network.classes) == (PREPROCESS, None)
    assert network.outputs == (20 if name.endswith("voc") else 80)
    assert network.fingerprint == load_network(name, "random").fingerprint
    assert not any(p.requires_grad for p in network.module.parameters())
    chosen = vars(layers_of(network, Layers()))
    assert None not in chosen.values()
    assert set(chosen.values()) <= set(layer_names(network))
    with pytest.raises(NetworkError, match=f"{name}: no weights to download; give the file"):
        load_network(name)


def test_cut_at_the_last_map(network: Network) -> None:
    layer, channels = {"vgg16_voc": ("features.29", 8 * NARROW), "resnet50_voc": ("layer4", 2048)}[
        network.name
    ]
    split = split_network(network, layer)
    assert (split.channels, split.channels_last, split.traced) == (channels, False, True)
    x = noise(1, 3, 224, 256)
    cut = split.head(x)
    assert cut.value.shape[1] == channels
    torch.testing.assert_close(
        split.tail(cut.value, cut, torch.tensor([0])), network(x), atol=1e-3, rtol=1e-3
    )


def test_extremal_perturbation_explains_the_mean_over_space(vgg: FullyConvolutional) -> None:
    network = as_network(vgg, "vgg16_voc")
    x, target = noise(1, 3, 224, 256), torch.tensor([7])
    result = extremal_perturbation(network, x, target, areas=[0.5], steps=2)
    with torch.no_grad():
        maps = vgg(x)
    assert maps.shape == (1, 20, 1, 2)
    assert result.masks.shape == (1, 1, 224, 256)
    torch.testing.assert_close(result.score_full, maps[:, 7].mean((1, 2)))


# ---- preprocessing ------------------------------------------------------------------------------


def photo(width: int, height: int) -> tuple[Image.Image, np.ndarray]:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return Image.fromarray(pixels), pixels


@pytest.mark.parametrize("size", [(500, 375), (333, 500), (224, 224), (224, 301), (100, 60), (301, 224)])
def test_preprocessing_is_item_6(size: tuple[int, int]) -> None:
    image, pixels = photo(*size)
    width, height = size
    short = min(size)
    shape = (224, int(224 * width / short)) if width > height else (int(224 * height / short), 224)
    values = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()  # 0 to 255
    resized = F.interpolate(values, shape, mode="bilinear", align_corners=False, antialias=False)
    wanted = resized - torch.tensor([123.68, 116.779, 103.939])[:, None, None]
    ours = PREPROCESS(image)
    assert ours.dtype == torch.float32
    assert tuple(ours.shape[1:]) == PREPROCESS.input_shape(*size) == shape
    torch.testing.assert_close(ours, wanted[0], atol=1e-3, rtol=0)
    if short > 300:  # where the image shrinks, averaging gives another one
        other = Preprocess(224, None, PREPROCESS.mean, PREPROCESS.std)(image)
        assert (other - ours).abs().max() > 20


def test_crop_without_antialias_is_the_center() -> None:
    image, _ = photo(300, 200)
    whole = PREPROCESS(image)
    cropped = Preprocess(224, 200, PREPROCESS.mean, PREPROCESS.std, antialias=False)
    left = (whole.shape[2] - 200) // 2
    torch.testing.assert_close(cropped(image), whole[:, 12:212, left : left + 200])


def test_only_bilinear_goes_without_antialias() -> None:
    with pytest.raises(ValueError, match="bicubic interpolation needs antialias"):
        Preprocess(224, None, PREPROCESS.mean, PREPROCESS.std, "bicubic", antialias=False)


# ---- files --------------------------------------------------------------------------------------


def torchvision_layout(state: State) -> State:
    """RGB, the classifier of dense layers."""
    dense = re.compile(r"(classifier\.\d|fc)\.weight")
    return {key: value.flatten(1) if dense.fullmatch(key) else value for key, value in state.items()}


def caffe_layout(state: State) -> State:
    """As published: layers counted without dropout, normalisations in two layers, no counters, BGR."""
    parts = {"running_mean": "0", "running_var": "0", "weight": "1", "bias": "1"}
    found: State = {}
    for key, value in torchvision_layout(state).items():
        layer, _, kind = key.rpartition(".")
        if kind == "num_batches_tracked":
            continue
        if re.search(r"bn\d$|downsample\.1$", layer):
            layer = f"{layer}.{parts[kind]}"
        layer = {"classifier.3": "classifier.2", "classifier.6": "classifier.4"}.get(layer, layer)
        found[f"{layer}.{kind}"] = value[:, [2, 1, 0]] if value.shape[1:2] == (3,) else value
    return found


def trailing_ones(state: State) -> State:
    """Caffe's dense layers as 1x1 convolutions of all their inputs."""
    layout = caffe_layout(state)
    return {k: v[:, :, None, None] if v.ndim == 2 else v for k, v in layout.items()}


LAYOUTS = {
    "our own": dict,
    "torchvision's": torchvision_layout,
    "Caffe's": caffe_layout,
    "Caffe's, 1x1": trailing_ones,
    "DataParallel's": lambda state: {f"module.{k}": v for k, v in caffe_layout(state).items()},
    "wrapped": lambda state: {"epoch": 1, "state_dict": torchvision_layout(state)},
    "model": lambda state: {"model": caffe_layout(state)},
}


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_every_layout_gives_the_same_network(
    network: Network, tmp_path: Path, layout: str, caplog: pytest.LogCaptureFixture
) -> None:
    state = network.module.state_dict()
    path = tmp_path / f"{network.name}-0123abcd.pth.tar"
    torch.save(LAYOUTS[layout](dict(state)), path)
    caplog.set_level(logging.INFO)
    loaded = load_network(network.name, path).module.state_dict()
    assert loaded.keys() == state.keys()
    for key, value in state.items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(loaded[key], value), key
    caffe = layout in ("Caffe's", "Caffe's, 1x1", "DataParallel's", "model")
    assert ("Caffe's, BGR" if caffe else "torchvision's, RGB") in caplog.text


def refusal(module: FullyConvolutional, state: State) -> str:
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(NetworkError) as error:
        fill_benchmark(module, state, Path("w.pth.tar"))
    for key, value in module.state_dict().items():  # all or nothing
        assert torch.equal(before[key], value)
    return str(error.value)


def test_files_that_do_not_fit(vgg: FullyConvolutional, resnet: FullyConvolutional) -> None:
    state = caffe_layout(dict(vgg.state_dict()))
    del state["classifier.2.bias"]
    state["conv9.weight"] = torch.zeros(1)
    state["classifier.4.weight"] = torch.zeros(80, 64 * NARROW)
    assert refusal(vgg, state) == (
        "w.pth.tar: does not fit FullyConvolutional: 1 missing (classifier.3.bias); "
        "1 unexpected (conv9.weight); "
        f"1 of another shape (classifier.6.weight is (80, {64 * NARROW}), not (20, {64 * NARROW}, 1, 1))"
    )
    assert "missing" in refusal(resnet, caffe_layout(dict(vgg.state_dict())))
    # torchvision's own ResNet50 has no bias in its first convolution.
    usual = torchvision_layout(dict(resnet.state_dict()))
    del usual["conv1.bias"]
    assert "1 missing (conv1.bias)" in refusal(resnet, usual)


def test_mixed_names_and_odd_tensors_are_refused(vgg: FullyConvolutional, resnet: FullyConvolutional) -> None:
    state = dict(resnet.state_dict())
    state["bn1.1.weight"] = state["bn1.weight"]
    assert "mixes Caffe's names and torchvision's: two tensors are bn1.weight" in refusal(resnet, state)
    both = dict(vgg.state_dict()) | {"classifier.2.weight": torch.zeros(1)}
    assert "two tensors are classifier.3.weight" in refusal(vgg, both)
    sparse = dict(vgg.state_dict())
    sparse["classifier.6.weight"] = sparse["classifier.6.weight"].flatten(1).to_sparse()
    assert "classifier.6.weight is (20" in refusal(vgg, sparse)


# ---- as a run -----------------------------------------------------------------------------------

XML = """<annotation><size><width>250</width><height>200</height></size><object><name>dog</name>
<difficult>0</difficult><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>90</xmax><ymax>90</ymax></bndbox>
</object></annotation>"""


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    folder = tmp_path / "VOC2007"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    (folder / "ImageSets/Main/test.txt").write_text("000001\n")
    (folder / "Annotations/000001.xml").write_text(XML)
    photo(250, 200)[0].save(folder / "JPEGImages/000001.jpg")
    return tmp_path


@pytest.mark.usefixtures("narrow")
def test_a_run_on_voc(voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(
        dataset=DatasetConfig(name="voc", root=str(voc), split="2007:test"),
        network=NetworkConfig(name="vgg16_voc", weights="random"),
    )
    run, _ = prepare(config, str(voc / "run"))
    assert run.shard_plan(0)["targets"].to_pylist() == [[11]]  # dog, of the alphabetical list
    model = run.manifest.model
    assert (model.resize, model.crop, model.antialias) == (224, None, False)
    usual = Preprocess(224, None, PREPROCESS.mean, PREPROCESS.std)
    monkeypatch.setattr("extremal.workers.networks.zoo.PREPROCESS", usual)
    with pytest.raises(ConfigMismatch, match="antialias"):
        prepare(config, str(voc / "run"))
