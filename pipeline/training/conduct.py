"""A training on Ray Train: its worker trains and reports, this process hears of it as it happens.

A state is reported to Ray Train, which keeps it in its storage path and begins again from the last one
where the worker or its node is lost. Counts and measurements come through a queue, since Ray Train itself
tells the process that waits for it nothing before the end.
"""

import os
import tempfile
import threading
import time
import traceback
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.exceptions import RayError
from ray.train.backend import Backend
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Empty, Queue

from extremal.pipeline.driving.driver import Pool, start_ray
from extremal.pipeline.errors import ConfigError, DriverError
from extremal.pipeline.training.files import CHECKPOINT, START, WEIGHTS, Record, kept
from extremal.pipeline.training.task import Task
from extremal.workers.errors import NetworkError
from extremal.workers.networks.network import load_network
from extremal.workers.training.registry import TRAININGS
from extremal.workers.training.training import Data, Training, TrainingError

RUN = "epochs"  # Ray Train's name of the run: a folder below its storage path
MAX_LOST_WORKERS = 3
POLL_S = 0.5
COUNT_EVERY_S = 0.2
STOP_S = 10.0  # for a worker to end its step
MEANT_FOR_PEOPLE = (TrainingError, NetworkError, ConfigError, OSError, torch.OutOfMemoryError)


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


@dataclass(frozen=True)
class Begun:
    """A worker begins, or begins again, after so many epochs."""

    epochs: int


@dataclass(frozen=True)
class Counted:
    """Images done since the last message, and those of them that cannot be read."""

    images: int
    failed: int


@dataclass(frozen=True)
class Measured:
    """An epoch is complete.

    Attributes:
        report: `records` of the epochs so far, and `faults` of the images.
        state: file of the reported checkpoint, there until the next message is taken.
    """

    report: Record
    state: Path


@dataclass(frozen=True)
class _Ended:
    error: Exception | None = None


Message = Begun | Counted | Measured


class _Alone(TorchConfig):
    """No process group: one worker has nobody to talk to, and torch's store listens on every interface."""

    @property
    def backend_cls(self) -> type[Backend]:
        return Backend


# ---- this process -----------------------------------------------------------------------------------


def conduct(assignment: Assignment) -> Generator[Message, None, None]:
    """What a worker says while it trains, the last message being of the last epoch.

    Close it to stop the training. Ray is started where none runs.

    Raises:
        TrainingError, NetworkError, ConfigError, OutOfMemoryError, OSError: as the worker raised it.
        DriverError: the worker was lost again and again, or Ray cannot be started.
    """
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(POLL_S))
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # a user's module is imported from the current one
    start_ray(Pool(1), threads=1)
    # Of one message: a worker is never further ahead of who publishes than that.
    messages = Queue(maxsize=1, actor_options={"num_cpus": 0})
    trainer = _trainer(assignment, messages)
    ended: Future[Any] = Future()
    thread = threading.Thread(target=_fit, args=(trainer, ended), daemon=True)
    thread.start()
    try:
        yield from _heard(messages, ended)
        ended.result()
    except RayError as error:
        raise DriverError(f"The training lost its worker: {error}") from error
    finally:
        messages.shutdown(force=True)  # a worker that still trains stops at its next message
        thread.join(STOP_S)


def _trainer(assignment: Assignment, messages: Queue) -> TorchTrainer:
    # A GPU that was asked for by its number is not Ray's to choose.
    use_gpu = assignment.device == torch.device("cuda")
    return TorchTrainer(
        _work,
        train_loop_config={"assignment": assignment, "messages": messages},
        torch_config=_Alone(),
        scaling_config=ray.train.ScalingConfig(num_workers=1, use_gpu=use_gpu),
        run_config=ray.train.RunConfig(
            name=RUN,
            storage_path=str(assignment.folder),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
            failure_config=ray.train.FailureConfig(max_failures=MAX_LOST_WORKERS),
        ),
    )


def _fit(trainer: TorchTrainer, ended: "Future[Any]") -> None:
    try:
        ended.set_result(trainer.fit())
    except BaseException as error:
        ended.set_exception(error)


def _heard(messages: Queue, ended: "Future[Any]") -> Iterator[Message]:
    while True:
        over = ended.done()  # before the queue is looked at: nothing can follow then
        try:
            message = messages.get(timeout=POLL_S)
        except Empty:
            if over:
                return
            continue
        if not isinstance(message, _Ended):
            yield message
        elif message.error is not None:
            raise message.error
        else:
            return


# ---- the worker -------------------------------------------------------------------------------------


def _work(config: dict[str, Any]) -> None:
    """What Ray Train runs in the worker. It retries what raises: lost processes, no errors of ours."""
    messages: Queue = config["messages"]
    with suppress(RayError):  # nobody listens any more: the training was stopped
        try:
            _train(config["assignment"], messages)
            messages.put(_Ended())
        except MEANT_FOR_PEOPLE as error:
            messages.put(_Ended(error))
        except RayError:
            raise
        except Exception:
            messages.put(_Ended(RuntimeError(traceback.format_exc())))


def _train(assignment: Assignment, messages: Queue) -> None:
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
            torch.save(state, Path(folder) / CHECKPOINT)
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
