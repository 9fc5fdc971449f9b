"""The settings of fine-tuning."""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from extremal.workers.training.augmentations import AUGMENTATIONS

# Of autocast, by precision.
DTYPES = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class FinetuneConfig:
    """What decides the result.

    Attributes:
        batch: images of a step, at most. lr: highest learning rate of the head.
        freeze: train the new head alone, the rest as in evaluation, its batch norms too.
        precision: float32, or bf16 or fp16 for autocast (fp16 with scaled gradients, on a GPU only).
        augmentation: of the training images, one of `AUGMENTATIONS`.
    """

    epochs: int = 10
    batch: int = 32
    lr: float = 0.01
    freeze: bool = False
    seed: int = 0
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    augmentation: str = "crop_and_flip"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1:
            raise ValueError("epochs and batch must be at least 1")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr must be a positive number, not {self.lr}")
        if self.seed < 0:
            raise ValueError("seed must not be negative")
        if self.precision not in DTYPES:
            raise ValueError(f"precision is {', '.join(DTYPES)}, not {self.precision!r}")
        if self.augmentation not in AUGMENTATIONS:
            raise ValueError(f"augmentation is {', '.join(AUGMENTATIONS)}, not {self.augmentation!r}")
