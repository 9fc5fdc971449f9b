"""What the worker of Ray Train does: epochs, and a report after each."""

import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.exceptions import RayError
from ray.util.queue import Queue

from extremal.pipeline.errors import ConfigError
from extremal.pipeline.training.messages import Begun, Counted, Ended, Measured
from extremal.pipeline.training.task import CHECKPOINT, RUN, START, WEIGHTS, Record, Task, kept
from extremal.storage.errors import UserError
from extremal.workers.networks.network import load_network
from extremal.workers.training.registry import TRAININGS
from extremal.workers.training.training import Data, Training

COUNT_EVERY_S = 0.2
MEANT_FOR_PEOPLE = (UserError, OSError, torch.OutOfMemoryError)


@dataclass(frozen=True)
class Assignment:
    """What a worker gets.

    Attributes:
        settings: of the checkpoints, to be stored with them.
        folder: what `prepared` made; Ray Train's storage path.
        device: `cuda` = the GPU that Ray gives it.
        cores: threads of torch, as in this process.
    """

    task: Task
    data: Data
    settings: Record
    folder: Path
    device: torch.device
    cores: int = field(default_factory=torch.get_num_threads)


def work(config: dict[str, Any]) -> None:
    """What Ray Train runs in the worker. It retries what raises: lost processes, no errors of ours."""
    messages: Queue = config["messages"]
    with suppress(RayError):  # nobody listens any more: the training was stopped
        try:
            train(ray.get(config["assignment"]), messages)
            messages.put(Ended())
        except MEANT_FOR_PEOPLE as error:
            messages.put(Ended(error))
        except RayError:
            raise
        except Exception:
            messages.put(Ended(RuntimeError(traceback.format_exc())))


def train(assignment: Assignment, messages: Queue) -> None:
    """The epochs that are missing, told of in messages.

    Raises:
        UserError, OutOfMemoryError, OSError: with the fix.
        RayError: nobody takes the messages any more.
    """
    torch.set_num_threads(assignment.cores)  # Ray set them to the number of CPUs that it was asked for
    training, records = _begin(assignment)
    counter = _Counter(messages)
    messages.put(Begun(len(records)))
    while len(records) < assignment.task.config.epochs:
        epoch = len(records)
        loss = training.epoch(epoch, counter.add)
        counter.flush()
        measured = training.evaluate(epoch, counter.add)
        counter.flush()  # with the second message after the last epoch's, that one has been published
        records = [*records, {"epoch": epoch + 1, "loss": loss, **measured}]
        state = {**training.state(), "settings": assignment.settings, "records": records}
        path = _report(assignment, state)
        messages.put(Measured({"records": records, "faults": training.faults}, path))


def _begin(assignment: Assignment) -> tuple[Training, list[Record]]:
    """The training as Ray Train's last checkpoint has it, or the start, and the records of its epochs."""
    task, start = assignment.task, assignment.folder / START
    network = load_network(**{**task.network, "weights": str(start / WEIGHTS)})
    device = assignment.device
    if device == torch.device("cuda"):
        device = ray.train.torch.get_device()
    build = TRAININGS[task.method].build
    training = build(network, task.config, assignment.data, task.threads, device)
    reported = ray.train.get_checkpoint()
    path = Path(reported.path if reported else start) / CHECKPOINT
    if not path.exists():
        return training, []
    state = torch.load(path, map_location="cpu", weights_only=True)
    training.load_state(state)
    return training, state["records"]


def _report(assignment: Assignment, state: Record) -> Path:
    """Hands a state to Ray Train; the file that it becomes in the storage path."""
    records = state["records"]
    name = f"epoch-{len(records)}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            buffer = BytesIO()  # writing to a full disk, torch would not raise OSError
            torch.save(state, buffer)
            (Path(folder) / CHECKPOINT).write_bytes(buffer.getbuffer())
            checkpoint = ray.train.Checkpoint.from_directory(folder)
            metrics = {key: records[-1][key] for key in ("epoch", "loss", "mean_ap")}
            ray.train.report(metrics, checkpoint=checkpoint, checkpoint_dir_name=name)
    except OSError as error:
        raise ConfigError(
            f"Cannot write {assignment.folder}: {error.strerror or error}. {kept(assignment.task)}"
        ) from error
    return assignment.folder / RUN / name / CHECKPOINT


class _Counter:
    """Sums counts, so that a batch of few images costs no message of its own."""

    def __init__(self, messages: Queue) -> None:
        self._messages = messages
        self._images = self._failed = 0
        self._last = time.monotonic()

    def add(self, images: int, failed: int) -> None:
        self._images += images
        self._failed += failed
        if time.monotonic() - self._last > COUNT_EVERY_S:
            self.flush()

    def flush(self) -> None:
        self._messages.put(Counted(self._images, self._failed))
        self._images = self._failed = 0
        self._last = time.monotonic()
