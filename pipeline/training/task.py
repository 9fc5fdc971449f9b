"""What to train on what, and where to put it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from extremal.pipeline.errors import ConfigError
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
    usual = "float32" if _device_name(device_name) == "cpu" else "bf16"
    try:
        return TRAININGS[method].settings(**settings, precision=precision or usual)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def device(task: Task) -> torch.device:
    """Where a task's worker computes: cpu, cuda for the GPU that Ray gives it, or cuda:N for that one.

    Raises:
        ConfigError: there is no such device, or the precision is not for it.
    """
    name = _device_name(task.device)
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise ConfigError(f"--device is cpu or cuda, not {name!r}.")
    # The GPU of a cluster need not be in this machine.
    if name != "cpu" and not torch.cuda.is_available() and not os.environ.get("RAY_ADDRESS"):
        raise ConfigError(f"--device {name}: this machine has no GPU. Leave --device out, or give cpu.")
    if name == "cpu" and task.config.precision == "fp16":
        raise ConfigError("--precision fp16 is for GPUs; give float32 or bf16 on a CPU.")
    return torch.device(name)


def _device_name(wanted: str | None) -> str:
    return wanted or ("cuda" if torch.cuda.is_available() else "cpu")
