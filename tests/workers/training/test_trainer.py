"""Fine-tuning: precision, heads, masks of the loss, resuming, and that something is learnt."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from extremal.workers.training.trainer import average_precision, multilabel_loss, schedule, with_new_head
from PIL import Image
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision import models
from torchvision.transforms import InterpolationMode
from typer.testing import CliRunner, Result

from extremal.jobs.cli.app import app
from extremal.jobs.finetune import _try_whole_image, labelled
from extremal.pipeline.config import build_config, merge, method_trees
from extremal.pipeline.datasets.open import open_dataset
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.prepare import prepare
from extremal.storage.folder import open_root
from extremal.workers.errors import NetworkError
from extremal.workers.images import Preprocess, decode
from extremal.workers.networks.classifier import find_head, fold_input, rectified, replace_head
from extremal.workers.networks.network import load_network
from extremal.workers.networks.zoo import _classifier, _options
from extremal.workers.training.batches import ABSENT, IGNORED, PRESENT, Images, Labelled, shuffled, vary

runner = CliRunner()
COLOURS = {"red": (230, 30, 30), "green": (30, 200, 30), "blue": (40, 40, 240), "yellow": (240, 230, 20)}
SIDE = 48
TRAIN, TEST = 60, 32
SMALL = Preprocess(resize=32, crop=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class Tiny(nn.Module):
    """With a batch norm and dropout, whose states a resumed training must have too."""

    preprocess = SMALL

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 24, 3, stride=2), nn.BatchNorm2d(24), nn.ReLU(), nn.Dropout(0.1)
        )
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).amax((2, 3)))


def tiny() -> nn.Module:
    return Tiny()


class Squashed(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sigmoid()


def squashed() -> nn.Module:
    return Squashed()


def headless() -> nn.Module:
    network = Tiny()
    network.head = nn.Identity()
    return network


# ---- a dataset that is learnt in seconds: squares of one or two of four colours on grey ---------------


def draw(root: Path) -> Path:
    folder = root / "VOCdevkit/VOC2007"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    (folder / "classes.txt").write_text("\n".join(COLOURS))
    for split, numbers in (("train", range(TRAIN)), ("test", range(TRAIN, TRAIN + TEST))):
        (folder / f"ImageSets/Main/{split}.txt").write_text("".join(f"{n:06d}\n" for n in numbers))
        for number in numbers:
            names = rng.choice(list(COLOURS), size=rng.integers(1, 3), replace=False)
            pixels = rng.normal(128, 15, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
            objects = []
            for place, name in enumerate(names):
                x, y = rng.integers(0, 10) + 24 * place, rng.integers(0, 34)
                pixels[y : y + 14, x : x + 14] = COLOURS[name]
                objects.append((str(name), int(x), int(y), False))
            Image.fromarray(pixels).save(folder / f"JPEGImages/{number:06d}.jpg", quality=95)
            annotate(folder, number, objects)
    return root


def annotate(folder: Path, number: int, objects: list[tuple[str, int, int, bool]]) -> None:
    found = "".join(
        f"<object><name>{name}</name><difficult>{int(difficult)}</difficult><bndbox><xmin>{x + 1}</xmin>"
        f"<ymin>{y + 1}</ymin><xmax>{x + 14}</xmax><ymax>{y + 14}</ymax></bndbox></object>"
        for name, x, y, difficult in objects
    )
    size = f"<size><width>{SIDE}</width><height>{SIDE}</height></size>"
    (folder / f"Annotations/{number:06d}.xml").write_text(f"<annotation>{size}{found}</annotation>")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("colours"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return draw(tmp_path / "data")


def command(root: Path, out: Path, *more: str) -> list[str]:
    places = ["--root", str(root), "--out", str(out), "--dataset", "voc"]
    splits = ["--split", "2007:train", "--test-split", "2007:test"]
    usual = ["--epochs", "3", "--batch", "16", "--lr", "0.1", "--workers", "1", "--device", "cpu"]
    network = [] if "--network" in more else ["--network", "test_finetune:tiny"]
    return ["finetune", *places, *splits, *usual, *network, *more]


def call(root: Path, out: Path, *more: str) -> Result:
    return runner.invoke(app, command(root, out, *more))


def metrics(out: Path) -> dict:
    return json.loads(out.with_name(out.name + ".json").read_text())


# ---- average precision ------------------------------------------------------------------------------


def by_definition(scores: np.ndarray, labels: np.ndarray) -> float:
    """A pass over all images for each threshold."""
    known = [(s, label) for s, label in zip(scores, labels, strict=True) if label != IGNORED]
    positives = sum(label == PRESENT for _, label in known)
    total, before = 0.0, 0.0
    for threshold in sorted({s for s, _ in known}, reverse=True):
        taken = [label for s, label in known if s >= threshold]
        recall = sum(label == PRESENT for label in taken) / positives
        total += (recall - before) * sum(label == PRESENT for label in taken) / len(taken)
        before = recall
    return total


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_average_precision_is_its_definition_with_ties_too(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for n in (1, 2, 7, 60):
        scores = rng.integers(0, levels, n) / levels - 0.3
        labels = rng.choice([PRESENT, ABSENT, ABSENT, IGNORED], n)
        labels[rng.integers(n)] = PRESENT
        found = average_precision(scores, labels)
        assert found == pytest.approx(by_definition(scores, labels), abs=1e-12)
        order = rng.permutation(n)
        assert average_precision(scores[order], labels[order]) == pytest.approx(found, abs=1e-12)


def test_average_precision_of_known_cases() -> None:
    labels = np.array([PRESENT, ABSENT, PRESENT, ABSENT])
    assert average_precision(np.array([4.0, 3, 2, 1]), labels) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.zeros(4), labels) == 0.5  # no order at all: the share of positives
    assert average_precision(np.zeros(2), np.array([ABSENT, IGNORED])) is None
    assert average_precision(np.zeros(0), np.zeros(0, dtype=int)) is None
    with pytest.raises(ValueError, match="not a number"):
        average_precision(np.array([np.nan, 1, 2, 3]), labels)


# ---- loss and labels --------------------------------------------------------------------------------


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


def test_labels_of_a_dataset(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = own / "VOCdevkit/VOC2007"
    annotate(folder, 0, [("red", 0, 0, True), ("green", 20, 0, True), ("green", 20, 20, False)])
    annotate(folder, 1, [("purple", 0, 0, False)])
    (folder / "Annotations/000002.xml").write_text("<annotation>")
    images = labelled(open_dataset("voc", str(own), "2007:train"), Console())
    assert len(images) == TRAIN - 1
    assert images[0].labels == (IGNORED, PRESENT, ABSENT, ABSENT)
    assert images[0].width == SIDE
    assert images[1].labels == (ABSENT,) * 4
    assert "1 images with a broken annotation left out" in capsys.readouterr().out


def test_the_rate_rises_and_falls_to_nothing() -> None:
    rates = [schedule(i / 1000) for i in range(1001)]
    top = int(np.argmax(rates))
    assert rates[0] == 0
    assert rates[top] == pytest.approx(1)
    assert rates[-1] == pytest.approx(0)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)


# ---- images -----------------------------------------------------------------------------------------


def test_variations_depend_on_seed_epoch_and_image_alone(colours: Path) -> None:
    names = [f"VOCdevkit/VOC2007/JPEGImages/{n:06d}.jpg" for n in range(3)]
    listed = [Labelled(name, name, (0,)) for name in names]
    images = Images(open_root(str(colours)), listed, SMALL, 32, seed=0, threads=2)
    fewer = replace(images, images=listed[2:])
    before = torch.get_rng_state()
    once = images.input(2, epoch=4)[1]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(images.input(2, epoch=4)[1], once)
    assert torch.equal(fewer.input(0, epoch=4)[1], once)
    assert once.shape == (3, 32, 32)
    assert not torch.equal(images.input(2, epoch=5)[1], once)
    assert not torch.equal(replace(images, seed=1).input(2, epoch=4)[1], once)
    with Image.open(colours / names[2]) as picture:
        assert torch.equal(replace(images, side=None).input(2, epoch=4)[1], SMALL(picture))


def test_variations_are_parts_of_the_image_of_many_sizes_mirrored_or_not() -> None:
    ramp = np.linspace(0, 255, 80).astype(np.uint8)  # its columns tell where a part was taken
    picture = Image.fromarray(np.broadcast_to(ramp[None, :, None], (60, 80, 3)).copy())
    parts = [vary(picture, 32, InterpolationMode.BILINEAR, random.Random(n)) for n in range(300)]
    rows = np.array([np.asarray(part)[16, :, 0].astype(int) for part in parts])
    slopes = rows[:, -1] - rows[:, 0]
    widths = np.abs(slopes) / 255
    assert {part.size for part in parts} == {(32, 32)}
    assert 0.4 < (slopes < 0).mean() < 0.6
    assert 0.3 < widths.min() < 0.5  # a quarter of the area: half of a side, times the square root of 3/4
    assert widths.max() > 0.9
    thin = vary(Image.new("RGB", (500, 1)), 8, InterpolationMode.BILINEAR, random.Random(0))
    assert thin.size == (8, 8)


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
    network = load_network("test_finetune:tiny")
    torch.save(with_new_head(network, 4, seed=0), tmp_path / "w.pth")
    loaded = load_network("test_finetune:tiny", tmp_path / "w.pth")
    x = torch.randn(2, 3, 32, 40)
    assert (loaded.outputs, loaded.classes) == (4, None)
    assert torch.equal(loaded(x), network(x))
    wrong = Tiny()
    wrong.head, wrong.features[0] = nn.Linear(24, 4), nn.Conv2d(3, 24, 5)
    torch.save(wrong.state_dict(), tmp_path / "w.pth")
    with pytest.raises(NetworkError, match="of another shape"):
        load_network("test_finetune:tiny", tmp_path / "w.pth")


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


# ---- whole trainings --------------------------------------------------------------------------------


def weights_of(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)


def test_learns_writes_what_run_loads_and_says_that_nothing_is_left(colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "new/folder/w.pth"
    result = call(colours, out, "--epochs", "6", "--workers", "3")
    assert result.exit_code == 0, result.output
    assert "Next: extremal run --dataset " in result.output
    assert f"--weights {out}" in result.output
    epochs = metrics(out)["epochs"]
    assert len(epochs) == 6
    assert epochs[-1]["mean_ap"] > 0.9  # chance is the share of images with a colour, below 0.5
    assert epochs[-1]["loss"] < epochs[0]["loss"]
    counted = [entry["present"] + entry["absent"] + entry["ignored"] for entry in epochs[-1]["classes"]]
    assert counted == [TEST] * 4
    assert [entry["class"] for entry in epochs[-1]["classes"]] == list(COLOURS)
    with Image.open(out.with_name("w.pth.png")) as picture:
        assert picture.size == (1200, 800)

    # The file gives the scores that were measured, as whole images through `load_network`.
    network = load_network("test_finetune:tiny", out, crop=0)
    images = labelled(open_dataset("voc", str(colours), "2007:test"), Console())
    x = torch.stack([network.preprocess(decode(colours / image.path)) for image in images])
    scores = network(x).double().numpy()
    labels = np.array([image.labels for image in images])
    for c, entry in enumerate(epochs[-1]["classes"]):
        assert entry["ap"] == pytest.approx(by_definition(scores[:, c], labels[:, c]), abs=1e-9)

    # Its outputs stand for the dataset's classes, one for one, when a run is planned.
    found = {"name": "voc", "root": str(colours), "split": "2007:test"}
    wanted = {"dataset": found, "network": {"name": "test_finetune:tiny", "weights": str(out)}}
    run, _ = prepare(build_config(merge(method_trees("fast"), wanted)), str(tmp_path / "run"))
    plan = run.plan(["class_id", "targets"]).to_pylist()
    assert plan
    assert all(row["targets"] == [row["class_id"]] for row in plan)

    written = out.read_bytes()
    again = call(colours, out, "--epochs", "6")
    assert again.exit_code == 0
    assert "nothing left to train" in again.output
    assert out.read_bytes() == written
    out.unlink()
    gone = call(colours, out, "--epochs", "6")
    assert gone.exit_code == 2
    assert "is gone" in gone.output


def stop_after(monkeypatch: pytest.MonkeyPatch, images: int, error: type[BaseException]) -> None:
    """Raise once so many images have been counted."""
    from extremal.pipeline.progress import ProgressReport

    add = ProgressReport.add

    def counted(self: ProgressReport, pairs: int, failed: int) -> None:
        add(self, pairs, failed)
        if self.done >= images:
            raise error

    monkeypatch.setattr(ProgressReport, "add", counted)


def test_a_stopped_training_resumes_to_the_same_bits(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole.pth", tmp_path / "parts.pth"
    assert call(colours, whole).exit_code == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 40, KeyboardInterrupt)
        early = call(colours, parts)
    assert early.exit_code == 130
    assert "No epoch is complete" in early.output
    with monkeypatch.context() as patch:  # in the middle of the second epoch
        stop_after(patch, TRAIN + TEST + 30, KeyboardInterrupt)
        stopped = call(colours, parts)
    assert stopped.exit_code == 130
    assert "parts.pth.checkpoint is whole; run the same command to resume" in stopped.output
    assert not parts.exists()
    assert len(metrics(parts)["epochs"]) == 1
    resumed = call(colours, parts)
    assert resumed.exit_code == 0
    assert "resuming after epoch 1 of 3" in resumed.output
    expected, found = weights_of(whole), weights_of(parts)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())
    assert metrics(parts)["epochs"] == metrics(whole)["epochs"]
    assert not list(tmp_path.glob("*.start"))


def test_other_settings_and_foreign_files_are_refused(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "w.pth"
    with monkeypatch.context() as patch:
        stop_after(patch, TRAIN + TEST + 10, KeyboardInterrupt)
        assert call(colours, out).exit_code == 130
    other = call(colours, out, "--lr", "0.2", "--freeze")
    assert other.exit_code == 2
    assert "training.lr: 0.1 -> 0.2" in other.output
    assert "training.freeze: False -> True" in other.output
    assert "Repeat the stored options" in other.output
    checkpoint = tmp_path / "w.pth.checkpoint"
    content = torch.load(checkpoint, weights_only=True)
    for damage in ({"records": None}, {"records": [1] * 99}, {"model": None}):
        torch.save({key: value for key, value in (content | damage).items() if value is not None}, checkpoint)
        broken = call(colours, out)
        assert broken.exit_code == 2
        assert "cannot be read" in broken.output
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    broken = call(colours, out)
    assert broken.exit_code == 2
    assert "cannot be read" in broken.output
    checkpoint.unlink()
    out.write_bytes(b"somebody's weights")
    foreign = call(colours, out)
    assert foreign.exit_code == 2
    assert "without a checkpoint" in foreign.output
    assert out.read_bytes() == b"somebody's weights"


def test_a_single_step_trains(colours: Path, tmp_path: Path) -> None:
    """With a rate like this one, which only shows if it is not zero."""
    out = tmp_path / "w.pth"
    one = call(colours, out, "--epochs", "1", "--batch", str(TRAIN), "--lr", "1000", "--freeze")
    assert one.exit_code == 0, one.output
    assert max(tensor.abs().max().item() for tensor in weights_of(out).values()) > 10


def test_a_name_too_long_for_a_file_is_refused(colours: Path, tmp_path: Path) -> None:
    refused = call(colours, tmp_path / ("a" * 300))
    assert refused.exit_code == 2
    assert "Give another --out" in refused.output


def test_frozen_but_for_the_head(colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "w.pth"
    assert call(colours, out, "--freeze", "--epochs", "1", "--precision", "bf16").exit_code == 0
    before = load_network("test_finetune:tiny").module.state_dict()
    after = weights_of(out)
    changed = {key for key, tensor in after.items() if not torch.equal(tensor, before[key])}
    assert changed == {"head.weight", "head.bias"}
    assert all(tensor.dtype == before[key].dtype for key, tensor in after.items())


def test_images_that_cannot_be_read_are_named_once_and_skipped(own: Path, tmp_path: Path) -> None:
    folder = own / "VOCdevkit/VOC2007/JPEGImages"
    (folder / "000003.jpg").write_bytes(b"no image")
    (folder / f"{TRAIN + 1:06d}.jpg").unlink()
    out = tmp_path / "w.pth"
    result = call(own, out, "--epochs", "2")
    assert result.exit_code == 0, result.output
    assert result.output.count("000003.jpg") == 1
    assert result.output.count(f"{TRAIN + 1:06d}.jpg") == 1
    assert "2 images could not be read" in result.output
    found = metrics(out)
    assert {Path(path).name for path in found["unreadable"]} == {"000003.jpg", f"{TRAIN + 1:06d}.jpg"}
    assert found["epochs"][-1]["test_images"] == TEST - 1
    for path in folder.iterdir():
        path.write_bytes(b"")
    result = call(own, tmp_path / "none.pth")
    assert result.exit_code == 2
    assert "not one training image can be read" in result.output


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--network", "resnet51"), "close: resnet50"),
        (("--network", "test_finetune:headless"), "no head to replace"),
        (("--network", "test_finetune:squashed"), "return plain logits"),
        (("--weights", "absent.pth"), "absent.pth: no such file"),
        (("--dataset", "imagenet"), "give one of coco, shapes, voc"),
        (("--test-split", "2007:train"), "must not be measured on"),
        (("--split", "2007:dev"), "choose one of: 2007:test, 2007:train"),
        (("--epochs", "0"), "at least 1"),
        (("--lr", "nan"), "lr must be a positive number"),
        (("--lr", "1e30"), "give a lower --lr"),
        (("--precision", "fp8"), "float32, bf16, fp16"),
        (("--precision", "fp16"), "fp16 is for GPUs"),
        (("--device", "tpu"), "cpu or cuda"),
        (("--device", "cuda"), "no GPU"),
        (("--out", "/dev/null/w.pth"), "Cannot write /dev/null/w.pth.start"),
    ],
)
def test_mistakes_get_one_message(
    colours: Path, tmp_path: Path, more: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = call(colours, tmp_path / "w.pth", *more)
    assert result.exit_code == 2
    assert f"{message}" in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_a_network_for_squares_is_told_to_crop() -> None:
    """Before training and not after its first epoch."""
    network = load_network("test_finetune:tiny", crop=0)
    wide = [Labelled("a", "a.jpg", (0,), width=60, height=40)]
    _try_whole_image(network, wide)
    network.module.features.append(nn.Flatten())
    network.module.features.append(nn.Unflatten(1, (24, 15, 15)))
    with pytest.raises(ConfigError, match=r"whole images \(32x48\).*--crop 224"):
        _try_whole_image(network, wide)
    _try_whole_image(network, [Labelled("a", "a.jpg", (0,), width=40, height=40)])


def test_lost_storage_is_no_fault_of_the_images(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise OSError("connection timed out")

    monkeypatch.setattr("extremal.workers.training.batches.load", lost)
    result = call(colours, tmp_path / "w.pth")
    assert result.exit_code == 2
    assert "cannot be read: connection timed out; check the address" in result.output


def test_help_teaches_with_examples() -> None:
    result = runner.invoke(app, ["finetune", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "extremal finetune --dataset voc" in result.output


def test_real_images_and_weights(shared_data: Path, tmp_path: Path) -> None:
    """The way only: 40 training images say nothing of what the network can learn."""
    out = tmp_path / "squeezenet1_1_voc.pth"
    weights = ["--network", "squeezenet1_1", "--weights", str(shared_data / "weights/squeezenet1_1.pth")]
    small = ["--split", "2007:train", "--freeze", "--epochs", "1", "--resize", "96", "--batch", "8"]
    result = call(shared_data, out, *weights, *small)
    assert result.exit_code == 0, result.output
    assert load_network("squeezenet1_1", out).outputs == 20
    (epoch,) = metrics(out)["epochs"]
    assert epoch["test_images"] == 35
    assert sum(entry["ignored"] for entry in epoch["classes"]) > 0  # classes that are difficult throughout
