"""A training on Ray Train: its worker trains and reports, this process hears of it as it happens.

A state is reported to Ray Train, which keeps it in its storage path and begins again from the last one
where the worker or its node is lost. Counts and measurements come through a queue, since Ray Train itself
tells the process that waits for it nothing before the end.
"""

import os
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from typing import Any

import ray
import ray.train
import torch
from ray.exceptions import RayError
from ray.train.backend import Backend
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Empty, Queue

from extremal.pipeline.driving.driver import Pool, start_ray
from extremal.pipeline.driving.signals import stoppable
from extremal.pipeline.errors import DriverError
from extremal.pipeline.training.loop import Assignment, work
from extremal.pipeline.training.messages import Ended, Message
from extremal.pipeline.training.task import RUN, kept

MAX_LOST_WORKERS = 3
POLL_S = 0.5
STOP_S = 10.0  # for a worker to end its step
SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(POLL_S),
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a user's module is imported from the current folder
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one more process, whose news no training here would use
}


def conduct(assignment: Assignment) -> Generator[Message, None, None]:
    """What a worker says while it trains, the last message being of the last epoch.

    Close it to stop the training. Ray is started where none runs.

    Raises:
        UserError, OutOfMemoryError, OSError: as the worker raised it.
        DriverError: the worker was lost again and again, or Ray cannot be started.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    start_ray(Pool(1), threads=1)
    # Of one message: a worker is never further ahead of who publishes than that.
    messages = Queue(maxsize=1, actor_options={"num_cpus": 0})
    trainer = _trainer(assignment, messages)
    ended: Future[Any] = Future()
    thread = threading.Thread(target=_fit, args=(trainer, ended), daemon=True)
    thread.start()
    try:
        with stoppable():
            yield from _heard(messages, ended)
    except (RayError, ray.train.TrainingFailedError) as error:
        raise DriverError(f"The training has lost its worker: {error} {kept(assignment.task)}") from error
    finally:
        messages.shutdown(force=True)  # a worker that still trains stops at its next message
        thread.join(STOP_S)


def _trainer(assignment: Assignment, messages: Queue) -> TorchTrainer:
    # A GPU that was asked for by its number is not Ray's to choose.
    use_gpu = assignment.device == torch.device("cuda")
    return TorchTrainer(
        work,
        # By reference: what the controller unpacks it imports, and it has no use for the data and for us.
        train_loop_config={"assignment": ray.put(assignment), "messages": messages},
        torch_config=_alone(),
        scaling_config=ray.train.ScalingConfig(num_workers=1, use_gpu=use_gpu),
        run_config=ray.train.RunConfig(
            name=RUN,
            storage_path=str(assignment.folder),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
            failure_config=ray.train.FailureConfig(max_failures=MAX_LOST_WORKERS),
        ),
    )


def _alone() -> TorchConfig:
    """No process group: one worker has nobody to talk to, and torch's store listens on every interface."""

    class Alone(TorchConfig):
        @property
        def backend_cls(self) -> type[Backend]:
            return Backend

    return Alone()


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
                ended.result()
                raise DriverError(
                    "The training's worker ended in silence; run the same command again."
                ) from None
            continue
        if not isinstance(message, Ended):
            yield message
        elif message.error is not None:
            raise message.error
        else:
            return
