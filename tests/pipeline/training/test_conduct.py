"""Training on a real Ray: the same bits as without it, whatever is killed; stops and errors reach people."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
import torch
from processes import EXTREMAL, LOCAL_RAY, LOOPBACK, below, listening, start
from torch import Tensor
from toy_training import TEST, TRAIN, command, draw, equal, metrics, weights_of
from typer.testing import CliRunner, Result

from extremal.jobs.cli.app import app
from extremal.pipeline.driving.driver import init_ray
from extremal.pipeline.progress import ProgressReport
from extremal.pipeline.training.labelled import labelled_data
from extremal.pipeline.training.task import Task
from extremal.workers.networks.network import load_network
from extremal.workers.training.finetuning import FinetuneConfig, Finetuning, with_new_head

EPOCHS = 3
MORE = ("--network", "toy_training:slow", "--batch", "4", "--epochs", str(EPOCHS))


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A Ray whose workers find the toy networks."""
    with pytest.MonkeyPatch.context() as patch:
        tests = str(Path(__file__).resolve().parents[2])
        patch.setenv("PYTHONPATH", os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")]))
        init_ray(LOCAL_RAY)
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def expected(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], list[dict]]:
    """Weights and measurements of a training without Ray: the `Training`, epoch after epoch."""
    path = tmp_path_factory.mktemp("start") / "w.pth"
    network = {"name": "toy_training:tiny", "weights": None, "resize": None, "crop": 0}
    config = FinetuneConfig(EPOCHS, batch=4, lr=0.1)
    task = Task("voc", str(colours), "2007:train", "2007:test", network, path, config, 1, "cpu")
    torch.save(with_new_head(load_network(**network), 4, config.seed), path)
    data = labelled_data(task, lambda _: None)
    begun = load_network(**{**network, "weights": str(path)})
    training = Finetuning(begun, config, data, 1, torch.device("cpu"))
    records = []
    for epoch in range(EPOCHS):
        loss = training.epoch(epoch, lambda *_: None)
        records.append({"epoch": epoch + 1, "loss": loss, **training.evaluate(epoch, lambda *_: None)})
    return training.state()["model"], records


def call(root: Path, out: Path, *more: str) -> Result:
    return CliRunner().invoke(app, command(root, out, *MORE, *more))


def once_counted(patch: pytest.MonkeyPatch, images: int, act: Callable[[], None]) -> None:
    """Do something as soon as so many images have been counted."""
    add, left = ProgressReport.add, [act]

    def counted(self: ProgressReport, pairs: int, failed: int) -> None:
        add(self, pairs, failed)
        if self.done >= images and left:
            left.pop()()

    patch.setattr(ProgressReport, "add", counted)


def interrupt() -> None:
    raise KeyboardInterrupt


def workers() -> list[int]:
    return [pid for pid, args in below(os.getpid()).items() if args.startswith("ray::RayTrainWorker")]


def test_a_killed_worker_costs_nothing_but_time(
    colours: Path, tmp_path: Path, expected: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "w.pth"
    killed = []

    def kill() -> None:
        killed.extend(workers())
        os.kill(killed[0], signal.SIGKILL)

    once_counted(monkeypatch, TRAIN + TEST + 8, kill)  # in the middle of the second epoch
    result = call(colours, out)
    assert result.exit_code == 0, result.output
    assert killed
    assert "epoch 1/3" in result.output
    assert f"{EPOCHS * (TRAIN + TEST)}/{EPOCHS * (TRAIN + TEST)} images" in result.output
    assert equal(weights_of(out), expected[0])
    assert metrics(out)["epochs"] == expected[1]
    assert {path.name for path in tmp_path.iterdir()} == {
        "w.pth", "w.pth.json", "w.pth.png", "w.pth.checkpoint"
    }  # fmt: skip


def test_a_stopped_training_ends_its_worker_and_resumes_to_the_same_bits(
    colours: Path, tmp_path: Path, expected: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "w.pth"
    with monkeypatch.context() as patch:
        once_counted(patch, TRAIN + TEST + 8, interrupt)
        stopped = call(colours, out)
    assert stopped.exit_code == 130, stopped.output
    assert "w.pth.checkpoint is whole; run the same command to resume" in stopped.output
    assert {path.name for path in tmp_path.iterdir()} == {"w.pth.json", "w.pth.checkpoint"}
    assert workers() == []
    resumed = call(colours, out)
    assert resumed.exit_code == 0, resumed.output
    assert "resuming after epoch 1 of 3" in resumed.output
    assert equal(weights_of(out), expected[0])
    assert metrics(out)["epochs"] == expected[1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--network", "toy_training:squashed"), "return plain logits"),
        (("--lr", "1e30"), "the loss became nan in epoch 1; give a lower --lr"),
    ],
)
def test_what_goes_wrong_in_the_worker_is_one_message(
    colours: Path, tmp_path: Path, more: tuple[str, ...], message: str
) -> None:
    result = call(colours, tmp_path / "w.pth", *more)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_a_killed_process_resumes_to_the_same_bits(colours: Path, tmp_path: Path, expected: tuple) -> None:
    """kill -9 of the command, in the middle of an epoch; with a Ray of its own, on loopback alone."""
    out = tmp_path / "w.pth"
    arguments = [*EXTREMAL, *command(colours, out, *MORE)]
    process = start([part for part in arguments if part not in ("--out", str(out))], out)
    deadline = time.monotonic() + 240
    while not out.with_name("w.pth.checkpoint").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    heard = listening(process.pid)
    process.kill()
    process.communicate()
    assert heard
    assert heard <= LOOPBACK
    assert not out.exists()
    resumed = call(colours, out)
    assert resumed.exit_code == 0, resumed.output
    assert "resuming after epoch" in resumed.output
    assert equal(weights_of(out), expected[0])
    assert metrics(out)["epochs"] == expected[1]
