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
from extremal.workers.training.finetuning import Finetuning
from extremal.workers.training.settings import FinetuneConfig
from extremal.workers.training.start import with_new_head

EPOCHS = 3
EACH = TRAIN + TEST  # images of an epoch
MORE = ("--network", "toy_training:slow", "--batch", "4", "--epochs", str(EPOCHS))


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A Ray whose workers find the toy networks, and one thread here as there: sums depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        tests = str(Path(__file__).resolve().parents[2])
        patch.setenv("PYTHONPATH", os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")]))
        init_ray(LOCAL_RAY)
        yield
        ray.shutdown()
    torch.set_num_threads(threads)


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


def killed_after_an_epoch(arguments: list[str], out: Path) -> set[str]:
    """Runs the command, kills it in its second epoch; the addresses at which it and its Ray listened."""
    process = start([part for part in arguments if part not in ("--out", str(out))], out)
    deadline = time.monotonic() + 400
    while not out.with_name("w.pth.checkpoint").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGSTOP)  # the worker waits for whom it tells of its progress
    addresses = listening(process.pid)
    process.kill()
    process.communicate()
    return addresses


def test_whatever_is_killed_or_stopped_the_bits_are_those_of_a_training_without_ray(
    colours: Path, tmp_path: Path, expected: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One training in three calls, as each costs the start of Ray Train's processes."""
    out = tmp_path / "w.pth"
    addresses = killed_after_an_epoch([*EXTREMAL, *command(colours, out, *MORE)], out)
    assert addresses
    assert addresses <= LOOPBACK
    assert {"w.pth.json", "w.pth.checkpoint", "w.pth.training"} == {path.name for path in tmp_path.iterdir()}
    assert len(metrics(out)["epochs"]) == 1

    with monkeypatch.context() as patch:
        once_counted(patch, EACH + 8, interrupt)
        stopped = call(colours, out)
    assert stopped.exit_code == 130, stopped.output
    assert "resuming after epoch 1 of 3" in stopped.output
    assert "w.pth.checkpoint is whole; run the same command to resume" in stopped.output
    assert {path.name for path in tmp_path.iterdir()} == {"w.pth.json", "w.pth.checkpoint"}
    assert workers() == []

    lost = []

    def kill() -> None:
        lost.extend(workers())
        os.kill(lost[0], signal.SIGKILL)

    with monkeypatch.context() as patch:
        once_counted(patch, 2 * EACH + 8, kill)
        result = call(colours, out)
    assert result.exit_code == 0, result.output
    assert len(lost) == 1
    assert f"{EPOCHS * EACH}/{EPOCHS * EACH} images" in result.output
    assert equal(weights_of(out), expected[0])
    assert metrics(out)["epochs"] == expected[1]
    files = {"w.pth", "w.pth.json", "w.pth.png", "w.pth.checkpoint"}
    assert {path.name for path in tmp_path.iterdir()} == files


def test_what_goes_wrong_in_the_worker_is_one_message(colours: Path, tmp_path: Path) -> None:
    result = call(colours, tmp_path / "w.pth", "--network", "toy_training:squashed")
    assert result.exit_code == 2, result.output
    assert "return plain logits" in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())
