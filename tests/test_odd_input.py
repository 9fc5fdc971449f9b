"""Odd networks, numbers and files: one message each, and never a silent wrong result."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from runs import SETTINGS, compute, config
from torch import Tensor, nn

from extremal.jobs.options import assemble
from extremal.jobs.run import execute
from extremal.pipeline.config import build_config, merge, method_trees
from extremal.pipeline.datasets.shapes import make_shapes
from extremal.pipeline.driving.driver import Pool
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.prepare import prepare
from extremal.workers import channel_attribution, decode, extremal_perturbation, load_network
from extremal.workers.config import RunConfig
from extremal.workers.errors import ImageError, NetworkError

NETWORKS = """
import torch
from torch import nn
from extremal.workers import Preprocess

class Plain(nn.Module):
    preprocess = Preprocess(resize=32, crop=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    classes = ("a", "b", "c")
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 5)
    def forward(self, x):
        return self.conv(x).abs().mean((2, 3))

class InPlace(Plain):
    def forward(self, x):
        return super().forward(x.sub_(0.3).mul_(2.0))

class Half(Plain):
    def __init__(self):
        super().__init__()
        self.half()

class Numbered(Plain):
    classes = (1, 2, 3)

class Short(Plain):
    classes = ("a",)
"""


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of odd networks in the current folder; returns its name."""
    name = f"odd_networks_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    make_shapes(tmp_path / "shapes", train=1, test=2)
    return tmp_path / "shapes"


def folder_config(root: Path, network: str) -> RunConfig:
    tree = merge(method_trees("torchray"), SETTINGS)
    tree["dataset"] = {"name": "folder", "root": str(root)}
    tree["network"] = {"name": network}
    return build_config(tree)


class NoGradient(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return x.mean((2, 3))


def test_a_network_that_works_in_place_gets_the_scores_of_its_input(networks: str, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    Image.effect_noise((40, 40), 90).convert("RGB").save(images / "a.png")
    settings = folder_config(images, f"{networks}:InPlace")
    run = compute(settings, tmp_path / "run")
    (row,) = run.table(run.kind).to_pylist()
    network = load_network(f"{networks}:InPlace")
    x = network.preprocess(decode(images / "a.png"))[None]
    expected = network(x.clone())[0, row["target"]].item()
    assert row["score_full"] == pytest.approx(expected, abs=1e-5)


def test_a_network_without_gradients_is_refused() -> None:
    x, target = torch.rand(1, 3, 32, 32), torch.tensor([0])
    with pytest.raises(ValueError, match="has no gradient"):
        extremal_perturbation(NoGradient(), x, target, steps=3)


def test_channel_attribution_leaves_its_images_alone() -> None:
    network = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x = torch.randn(2, 3, 16, 16)
    before = x.clone()
    channel_attribution(network, x, torch.tensor([0, 1]), "1", [1, 4], steps=3)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("network", "message"), [("Half", "float32"), ("Numbered", "list of names"), ("Short", "names 1 classes")]
)
def test_networks_that_do_not_fit_are_refused_before_the_run(
    networks: str, shapes: Path, tmp_path: Path, network: str, message: str
) -> None:
    settings = folder_config(shapes, f"{networks}:{network}")
    with pytest.raises((NetworkError, ConfigError), match=message):
        prepare(settings, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("spatial", "tau", float("nan")),
        ("spatial", "areas", [0.1, float("nan")]),
        ("spatial", "smooth", -1.0),
        ("spatial", "sigma_max", -1.0),
        ("spatial", "schedule", {"lr": float("inf")}),
        ("spatial", "schedule", {"momentum": -1.0}),
        ("spatial", "mask", {"step": 9, "sigma": 2.0}),
        ("channel", "schedule", {"ramp": -5}),
        ("dataset", "limit", 0),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, section: str, key: str, value: object) -> None:
    with pytest.raises(ConfigError):
        build_config(merge(method_trees("torchray"), {section: {key: value}}))


def test_a_section_that_is_no_table_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("network = 'vgg16'\n")
    with pytest.raises(ConfigError, match="network must be a table"):
        assemble(file, None, {"network": {"name": None}})
    file.write_text("[spatial]\nschedule = 5\n")
    with pytest.raises(ConfigError, match="schedule must be a table"):
        assemble(file, None, {"steps": 9})


def test_a_pipe_named_like_an_image_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        decode(tmp_path / "x.jpg")


def test_impossible_boxes_cost_only_their_pair(shapes: Path, tmp_path: Path) -> None:
    annotation = shapes / "VOCdevkit" / "VOC2007" / "Annotations" / "000002.xml"
    text = annotation.read_text()
    start = text.index("<xmax>")
    end = text.index("</xmax>")
    annotation.write_text(text[:start] + "<xmax>999999999999" + text[end:])
    run, _ = prepare(config(shapes), str(tmp_path / "run"))
    rows = run.plan().to_pylist()
    assert sum(row["targets"] == [] for row in rows) == 1
    assert len(rows) == 4


def test_a_run_of_failures_alone_is_no_success_the_second_time_either(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").write_bytes(b"no image")
    tree = merge(method_trees("torchray"), SETTINGS)
    tree["dataset"] = {"name": "folder", "root": str(images)}
    settings = build_config(tree)
    run = compute(settings, tmp_path / "run")
    assert run.missing() == []
    assert execute(settings, run.uri, Pool(1, device="cpu"), Console(quiet=True))[1] == 1
