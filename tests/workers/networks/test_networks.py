import csv
import logging
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import models

from extremal.workers.errors import NetworkError
from extremal.workers.images import Preprocess, decode
from extremal.workers.networks.bvlc_googlenet import bvlc_googlenet
from extremal.workers.networks.network import IMAGENET, Network, frozen, load_network, pool_logits

SMALL = "squeezenet1_1"


@pytest.fixture
def state() -> dict[str, Tensor]:
    return dict(load_network(SMALL, "random").module.state_dict())


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, **options: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)


def test_random_weights_are_the_same_each_time_and_leave_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second = load_network(SMALL, "random"), load_network(SMALL, "random")
    assert torch.equal(torch.get_rng_state(), before)
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 64
    assert not first.module.training
    assert not any(p.requires_grad for p in first.module.parameters())
    assert first.outputs == 1000
    assert first.classes is not None
    assert (first.classes[0], len(first.classes)) == ("tench", 1000)
    assert first(torch.zeros(2, 3, 64, 80)).shape == (2, 1000)
    assert first.to("cpu").device == torch.device("cpu")


def test_preprocessing_belongs_to_the_weights_and_can_be_changed() -> None:
    assert load_network(SMALL, "random").preprocess == IMAGENET
    other = load_network("inception_v3", "random").preprocess
    assert (other.resize, other.crop) == (342, 299)
    halves = (0.5, 0.5, 0.5)
    changed = load_network(SMALL, "random", resize=300, crop=0, mean=halves, std=halves).preprocess
    assert changed == Preprocess(300, None, halves, halves)
    with pytest.raises(NetworkError, match=r"crop \(224\).*resize \(128\)"):
        load_network(SMALL, "random", resize=128)


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "module.", "half", "ordered"])
def test_layouts_of_a_file(tmp_path: Path, state: dict[str, Tensor], wrap: str) -> None:
    contents = {
        "plain": state,
        "state_dict": {"epoch": 3, "state_dict": state},
        "model": {"model": state, "optimizer": {"lr": 0.1}},
        "module.": {f"module.{key}": tensor for key, tensor in state.items()},
        "half": {key: tensor.half() for key, tensor in state.items()},
        "ordered": OrderedDict(sorted(state.items())),
    }
    torch.save(contents[wrap], tmp_path / "w.pth")
    network = load_network(SMALL, tmp_path / "w.pth")
    assert all(p.dtype == torch.float32 for p in network.module.parameters())
    same = network.fingerprint == load_network(SMALL, "random").fingerprint
    assert same == (wrap != "half")


def test_number_of_classes_follows_the_file(tmp_path: Path) -> None:
    torch.save(models.resnet18(num_classes=7).state_dict(), tmp_path / "seven.pth")
    network = load_network("resnet18", str(tmp_path / "seven.pth"))
    assert (network.outputs, network.classes) == (7, None)


def test_every_weight_changes_the_fingerprint(tmp_path: Path, state: dict[str, Tensor]) -> None:
    state["features.0.weight"] = state["features.0.weight"].clone()
    state["features.0.weight"][3, 1, 0, 2] += 1e-3
    torch.save(state, tmp_path / "w.pth")
    assert load_network(SMALL, tmp_path / "w.pth").fingerprint != load_network(SMALL, "random").fingerprint


def test_old_names_counters_and_auxiliary_classifiers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dense = load_network("densenet121", "random")
    old = {
        key.replace(".norm1", ".norm.1").replace(".conv2", ".conv.2"): tensor
        for key, tensor in dense.module.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    torch.save(old, tmp_path / "dense.pth")
    assert load_network("densenet121", tmp_path / "dense.pth").fingerprint == dense.fingerprint

    caplog.set_level(logging.INFO)
    whole = models.googlenet(aux_logits=True, init_weights=False)
    torch.save(whole.state_dict(), tmp_path / "google.pth")
    google = load_network("googlenet", tmp_path / "google.pth")
    assert "auxiliary classifiers left out" in caplog.text
    assert google.module.transform_input is False
    # torchvision's own file, known by its name, expects torchvision's own input.
    (tmp_path / "google.pth").rename(tmp_path / "googlenet-1378be20.pth")
    assert load_network("googlenet", tmp_path / "googlenet-1378be20.pth").module.transform_input is True


def bad_file(kind: str, path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, path)
    whole = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "html":
        path.write_bytes(b"<html>404</html>")
    elif kind == "text":
        path.write_bytes(b"hello there")
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a.txt", "a")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"a": 1}, protocol=2))
    elif kind == "objects":
        torch.save(nn.Linear(2, 2), path)
    elif kind == "list":
        torch.save([torch.zeros(2)], path)
    elif kind == "numbers":
        torch.save({"a": 1.0}, path)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("truncated", "truncated or corrupt"),
        ("empty", "truncated or corrupt"),
        ("html", "corrupt, or not a file of torch.save"),
        ("text", "corrupt"),
        ("zip", "corrupt"),
        ("pickle", "corrupt"),
        ("objects", "refused because loading them could run code"),
        ("list", "not a state dict"),
        ("numbers", "not a state dict"),
    ],
)
def test_unusable_files(tmp_path: Path, state: dict[str, Tensor], kind: str, cause: str) -> None:
    path = tmp_path / "bad.pth"
    bad_file(kind, path, state)
    with pytest.raises(NetworkError, match=cause) as error:
        load_network(SMALL, path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_do_not_fit(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "w.pth"
    state["extra"] = state.pop("features.0.bias")
    state["features.0.weight"] = torch.zeros(2, 2)
    torch.save(state, path)
    with pytest.raises(NetworkError) as error:
        load_network(SMALL, path)
    assert str(error.value) == (
        f"{path}: does not fit SqueezeNet: 1 missing (features.0.bias); 1 unexpected (extra); "
        "1 of another shape (features.0.weight is (2, 2), not (64, 3, 3, 3))"
    )
    with pytest.raises(NetworkError, match=r"missing \(conv1.weight, bn1.weight, bn1.bias, .*, \.\.\.\)"):
        load_network("resnet18", path)


def test_unknown_names_and_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"close: .*resnet50"):
        load_network("resnet5O", "random")
    with pytest.raises(NetworkError, match="no weights to download; give the file"):
        load_network("bvlc_googlenet")
    with pytest.raises(
        NetworkError, match="no such file, and resnet50 has only IMAGENET1K_V1, IMAGENET1K_V2"
    ):
        load_network("resnet50", "IMAGENET1K_V3")
    with pytest.raises(NetworkError, match=r"gone\.pth: no such file"):
        load_network("shapes_cnn", tmp_path / "gone.pth")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("weights", [None, "IMAGENET1K_V1"])
def test_download_that_fails(weights: str | None) -> None:
    with pytest.raises(NetworkError, match=r"could not download https://.*no route to host.*give the file"):
        load_network(SMALL, weights)


def test_download_by_name(monkeypatch: pytest.MonkeyPatch, state: dict[str, Tensor]) -> None:
    urls: list[str] = []

    def give(url: str, **options: object) -> dict[str, Tensor]:
        urls.append(url)
        return models.resnet50().state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", give)
    resizes = [load_network("resnet50", weights).preprocess.resize for weights in (None, "IMAGENET1K_V1")]
    assert resizes == [232, 256]
    assert urls == [models.ResNet50_Weights[name].url for name in ("IMAGENET1K_V2", "IMAGENET1K_V1")]


USER = """
import torch
from torch import nn
from extremal.workers.images import Preprocess

class Maps(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
    def forward(self, x):
        return self.conv(x)

def plain():
    return Maps()

def complete():
    network = Maps()
    network.preprocess = Preprocess(40, None, (0, 0, 0), (1, 1, 1))
    network.classes = list("abcde")
    return network

def number():
    return 3

def broken():
    raise OSError("no weights here")
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"user_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(USER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["."])
    return name


def test_network_of_a_user(user: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = load_network(f"{user}:complete")
    assert (network.outputs, network.classes) == (5, ("a", "b", "c", "d", "e"))
    assert network.preprocess.input_shape(80, 40) == (40, 80)
    x = torch.rand(2, 3, 9, 9)
    torch.testing.assert_close(network(x), network.module(x).mean(dim=(2, 3)))
    assert not caplog.records
    assert load_network(f"{user}:plain").preprocess == IMAGENET
    assert "ImageNet's is used" in caplog.text
    zeros = {key: torch.zeros_like(tensor) for key, tensor in network.module.state_dict().items()}
    torch.save(zeros, tmp_path / "zeros.pth")
    assert not load_network(f"{user}:complete", tmp_path / "zeros.pth")(x).any()


def test_mistakes_of_a_user(user: str) -> None:
    for function, cause in {
        "number": "must return an nn.Module, not int",
        "broken": "OSError: no weights here",
        "absent": "AttributeError",
    }.items():
        with pytest.raises(NetworkError, match=cause):
            load_network(f"{user}:{function}")
    with pytest.raises(NetworkError, match="ModuleNotFoundError"):
        load_network("no_such_module_here:function")


def test_outputs_that_are_no_logits() -> None:
    with pytest.raises(NetworkError, match=r"shape \(2,\)"):
        pool_logits(torch.zeros(2))
    with pytest.raises(NetworkError, match="not tuple"):
        pool_logits((torch.zeros(2, 3),))


def test_frozen_puts_a_module_back() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    module[1].eval()
    module[0].bias.requires_grad_(False)

    def flags() -> list[bool]:
        return [m.training for m in module.modules()] + [p.requires_grad for p in module.parameters()]

    def use() -> None:
        with frozen(module) as network:
            assert not any(flags())
            assert network(torch.zeros(1, 3, 8, 8)).shape == (1, 4)
            raise KeyError

    before = flags()
    with pytest.raises(KeyError):
        use()
    assert flags() == before
    ready = load_network(SMALL, "random")
    with frozen(ready) as same:
        assert same is ready


def test_bvlc_googlenet_differs_from_torchvisions_in_three_ways() -> None:
    module = bvlc_googlenet().eval()
    convolution = module.get_submodule("inception4d.branch3.1.conv")
    assert (convolution.kernel_size, convolution.padding) == ((5, 5), (2, 2))
    assert isinstance(module.maxpool1[1], nn.LocalResponseNorm)
    assert isinstance(module.maxpool2[0], nn.LocalResponseNorm)
    assert module.maxpool4.kernel_size == 3
    assert bvlc_googlenet(10).eval()(torch.zeros(1, 3, 224, 224)).shape == (1, 10)


# With real weights.

NAMES = ["resnet50", "resnet18", "squeezenet1_1", "mobilenet_v2", "bvlc_googlenet"]


def real(shared_data: Path, name: str) -> Network:
    return load_network(name, shared_data / "weights" / f"{name}.pth")


@pytest.mark.parametrize("name", NAMES)
def test_real_weights_fit(shared_data: Path, name: str) -> None:
    network = real(shared_data, name)
    assert network.preprocess == IMAGENET
    assert network.outputs == 1000


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet50"])
def test_reference_logits(shared_data: Path, name: str) -> None:
    network = real(shared_data, name)
    files = sorted((shared_data / "reference").glob(f"saliency_{name}_*.npz"))
    assert len(files) == 2
    for file in files:
        with np.load(file) as arrays:
            logits = network(torch.from_numpy(arrays["input"]))
            np.testing.assert_allclose(logits.numpy(), arrays["logits"].reshape(1, -1), atol=1e-4)
            image = decode(
                shared_data / "imagenet" / "images" / f"{file.stem.removeprefix(f'saliency_{name}_')}.JPEG"
            )
            ours = network.preprocess(image)
            np.testing.assert_allclose(ours.numpy(), arrays["input"][0], atol=1e-5)


def test_bvlc_googlenet_classifies(shared_data: Path) -> None:
    network = real(shared_data, "bvlc_googlenet")
    with (shared_data / "imagenet" / "labels.csv").open(newline="") as file:
        chosen = list(csv.DictReader(file))[::12][:40]
    images = [network.preprocess(decode(shared_data / "imagenet" / "images" / row["file"])) for row in chosen]
    found = torch.cat([network(torch.stack(images[i : i + 10])).argmax(1) for i in range(0, 40, 10)])
    right = [int(row["label"]) == label for row, label in zip(chosen, found.tolist(), strict=True)]
    assert sum(right) >= 30


def test_real_images_keep_their_stored_size(shared_data: Path) -> None:
    for file in sorted((shared_data / "imagenet" / "images").glob("train_*.JPEG"))[:10]:
        with Image.open(file) as stored:
            assert decode(file).size == stored.size
