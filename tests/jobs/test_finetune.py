"""`extremal finetune`: its files, resuming, refusals and messages; the worker's part runs in this process."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from toy_training import COLOURS, TEST, TRAIN, by_definition, command, draw, equal, metrics, weights_of
from typer.testing import CliRunner, Result

from extremal.jobs.cli.app import app
from extremal.jobs.finetune import finetune
from extremal.pipeline.config import build_config, merge, method_trees
from extremal.pipeline.datasets.open import open_dataset
from extremal.pipeline.prepare import prepare
from extremal.pipeline.training import loop
from extremal.pipeline.training.labelled import labelled
from extremal.pipeline.training.task import Task, configure
from extremal.workers.images import decode
from extremal.workers.networks.network import load_network
from extremal.workers.training.augmentations import AUGMENTATIONS
from extremal.workers.training.finetuning import FINETUNE, Finetuning
from extremal.workers.training.registry import TRAININGS
from extremal.workers.training.training import Counter

runner = CliRunner()


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("colours"))


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `conduct` hears of a worker, without Ray; with it: tests/pipeline/training."""

    def here(assignment: loop.Assignment) -> Iterator[object]:
        def report(*_: object, checkpoint: "loop.ray.train.Checkpoint", checkpoint_dir_name: str) -> None:
            shutil.copytree(checkpoint.path, assignment.folder / loop.RUN / checkpoint_dir_name)

        monkeypatch.setattr("ray.train.report", report)
        monkeypatch.setattr("ray.train.get_checkpoint", lambda: None)
        heard = Heard()
        loop.train(assignment, heard)
        yield from heard.messages

    monkeypatch.setattr("extremal.jobs.finetune.conduct", here)


class Heard:
    """The messages that were put."""

    def __init__(self) -> None:
        self.messages: list[object] = []

    def put(self, message: object) -> None:
        self.messages.append(message)


def call(root: Path, out: Path, *more: str) -> Result:
    return runner.invoke(app, command(root, out, *more))


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
    network = load_network("toy_training:tiny", out, crop=0)
    images = labelled(open_dataset("voc", str(colours), "2007:test"), print)
    x = torch.stack([network.preprocess(decode(colours / image.path)) for image in images])
    scores = network(x).double().numpy()
    labels = np.array([image.labels for image in images])
    for c, entry in enumerate(epochs[-1]["classes"]):
        assert entry["ap"] == pytest.approx(by_definition(scores[:, c], labels[:, c]), abs=1e-9)

    # Its outputs stand for the dataset's classes, one for one, when a run is planned.
    found = {"name": "voc", "root": str(colours), "split": "2007:test"}
    wanted = {"dataset": found, "network": {"name": "toy_training:tiny", "weights": str(out)}}
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
    assert equal(weights_of(parts), weights_of(whole))
    assert metrics(parts)["epochs"] == metrics(whole)["epochs"]
    assert not list(tmp_path.glob("*.training"))


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


def test_a_checkpoint_that_knows_nothing_of_newer_settings_is_resumed(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, checkpoint = tmp_path / "w.pth", tmp_path / "w.pth.checkpoint"
    with monkeypatch.context() as patch:
        stop_after(patch, TRAIN + TEST + 10, KeyboardInterrupt)
        assert call(colours, out).exit_code == 130
    content = torch.load(checkpoint, weights_only=True)
    for name in ("method", "augmentation"):
        del content["settings"]["training"][name]
    torch.save(content, checkpoint)
    resumed = call(colours, out)
    assert resumed.exit_code == 0, resumed.output
    assert "resuming after epoch 1 of 3" in resumed.output


def test_another_training_and_another_augmentation_are_an_entry_each(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grey(picture: Image.Image, side: int, *_: object) -> Image.Image:
        return Image.new("RGB", (side, side), (128, 128, 128))

    class Longer(Finetuning):
        def evaluate(self, epoch: int, count: Counter) -> dict[str, Any]:
            return {**super().evaluate(epoch, count), "longer": epoch}

    monkeypatch.setitem(cast(dict, AUGMENTATIONS), "grey", grey)
    monkeypatch.setitem(cast(dict, TRAININGS), "longer", replace(FINETUNE, build=Longer))
    config = configure({"epochs": 1, "augmentation": "grey"}, None, "cpu", "longer")
    network = {"name": "toy_training:tiny", "weights": None, "resize": None, "crop": 0}
    task = Task("voc", str(colours), "2007:train", "2007:test", network, tmp_path / "w.pth", config, 1, "cpu")
    finetune(replace(task, method="longer"), Console(quiet=True))
    record = metrics(task.out)
    assert record["settings"]["training"]["augmentation"] == "grey"
    assert record["epochs"][0]["longer"] == 0


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
    before = load_network("toy_training:tiny").module.state_dict()
    after = weights_of(out)
    changed = {key for key, tensor in after.items() if not torch.equal(tensor, before[key])}
    assert changed == {"head.weight", "head.bias"}
    assert all(tensor.dtype == before[key].dtype for key, tensor in after.items())


def test_images_that_cannot_be_read_are_named_once_and_skipped(tmp_path: Path) -> None:
    own = draw(tmp_path / "data")
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
        (("--network", "toy_training:headless"), "no head to replace"),
        (("--network", "toy_training:squashed"), "return plain logits"),
        (("--weights", "absent.pth"), "absent.pth: no such file"),
        (("--dataset", "imagenet"), "give one of coco, shapes, voc"),
        (("--test-split", "2007:train"), "must not be measured on"),
        (("--split", "2007:dev"), "choose one of: 2007:test, 2007:train"),
        (("--epochs", "0"), "at least 1"),
        (("--lr", "nan"), "lr must be a positive number"),
        (("--lr", "1e30"), "give a lower --lr"),
        (("--precision", "fp8"), "float32, bf16, fp16"),
        (("--precision", "fp16"), "fp16 is for GPUs"),
        (("--device", "tpu"), "cpu, cuda or cuda:N"),
        (("--device", "cuda"), "no GPU"),
        (("--out", "/dev/null/w.pth"), "Cannot write /dev/null/w.pth.training"),
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
