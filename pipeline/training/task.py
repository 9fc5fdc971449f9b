"""What to train on what, and where to put it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from extremal.pipeline.errors import ConfigError
from extremal.workers.device import chosen_device
from extremal.workers.training.registry import TRAININGS

# Names in FILE.training, the storage path of Ray Train.
START = "start"  # folder of what a worker begins with
WEIGHTS = "weights.pth"  # there, of the network before its first epoch
RUN = "epochs"  # folder of Ray Train's run
CHECKPOINT = "checkpoint"  # a state, in START or as reported

Record = dict[str, Any]
"""For JSON: the measurements of an epoch, settings, or the content of a checkpoint."""


@dataclass(frozen=True)
class Task:
    """A training to conduct.

    Attributes:
        network: arguments of `load_network`. out: file of the weights; the others are named after it.
        config: settings of the training, of the class that its method has.
        threads: that decode images. device: None = a GPU if there is one.
        method: name in `TRAININGS`.
    """

    dataset: str
    root: str
    split: str
    test_split: str
    network: dict[str, Any]
    out: Path
    config: Any
    threads: int = 4
    device: str | None = None
    method: str = "finetune"

    def beside(self, suffix: str) -> Path:
        """The file of that suffix beside the weights."""
        return self.out.with_name(self.out.name + suffix)


def kept(task: Task) -> str:
    """What a stopped training left, and how to go on."""
    path = task.beside(".checkpoint")
    if not path.exists():
        return "No epoch is complete; the same command starts again."
    return f"{path} is whole; run the same command to resume from it."


def configure(
    settings: Mapping[str, Any], precision: str | None, device_name: str | None, method: str = "finetune"
) -> Any:
    """The settings of a training; without a precision bf16 if it will run on a GPU.

    Raises:
        ConfigError: one of them is out of range.
    """
    usual = "float32" if chosen_device(device_name, elsewhere=True).type == "cpu" else "bf16"
    try:
        return TRAININGS[method].settings(**settings, precision=precision or usual)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def device(task: Task) -> torch.device:
    """Where a task's worker computes: cpu, cuda for the GPU that Ray gives it, or cuda:N for that one.

    Raises:
        DeviceError: there is no such device. ConfigError: the precision is not for it.
    """
    chosen = chosen_device(task.device, elsewhere=bool(os.environ.get("RAY_ADDRESS")))
    if chosen.type == "cpu" and task.config.precision == "fp16":
        raise ConfigError("--precision fp16 is for GPUs; give float32 or bf16 on a CPU.")
    return chosen
