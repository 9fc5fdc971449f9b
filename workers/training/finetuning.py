"""Fine-tuning a network into a classifier of many labels at once: loss, optimizer, measurement."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from extremal.storage.folder import open_root
from extremal.workers.errors import TrainingError
from extremal.workers.networks.classifier import Head, find_head, rectified
from extremal.workers.networks.network import Network, pool_logits
from extremal.workers.training.augmentations import AUGMENTATIONS
from extremal.workers.training.average_precision import average_precision
from extremal.workers.training.batches import (
    ABSENT,
    IGNORED,
    PRESENT,
    Batch,
    Images,
    Labelled,
    by_shape,
    seed_of,
    shuffled,
)
from extremal.workers.training.settings import DTYPES, FinetuneConfig
from extremal.workers.training.start import portable, try_whole_image, with_new_head
from extremal.workers.training.training import Counter, Data, TrainingMethod

MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4
BACKBONE = 0.1  # of the head's learning rate: what the network knows already should stay
WARM_UP = 0.05  # of all steps, from a head of random numbers
# Logit that stands for a probability of a half where a ReLU follows the head: with 0, absent classes push
# their channel below zero for good, where no gradient brings it back.
MIDDLE = 4.0


class Finetuning:
    """A `Training` of all classes at once, by binary cross-entropy; measured by average precision."""

    def __init__(
        self, network: Network, config: FinetuneConfig, data: Data, threads: int, device: torch.device
    ) -> None:
        """`network`, whose head is new, is moved to `device` and trained in place; `threads` decode images.

        Raises:
            NetworkError: it has no head, its outputs are no logits, or it takes no whole images.
        """
        self.config, self.data = config, data
        self.faults: dict[str, str] = {}
        try_whole_image(network, data.test)
        network = network.to(device)
        self.module, self._device = network.module, device
        name = find_head(self.module, network.outputs)
        self._head: Head = self.module.get_submodule(name)  # type: ignore[assignment]
        x = torch.zeros(1, 3, network.side, network.side, device=device)
        self._middle = MIDDLE if rectified(network, self._head, x) else 0.0
        self.module.requires_grad_(not config.freeze)
        self._head.requires_grad_(True)
        self._optimizer = self._make_optimizer()
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        folder, preprocess = open_root(data.root), network.preprocess
        vary = AUGMENTATIONS[config.augmentation]
        self._train = Images(folder, data.train, preprocess, network.side, config.seed, threads, vary)
        self._test = Images(folder, data.test, preprocess, network.side, config.seed, threads)
        self._shapes = by_shape(data.test, preprocess, config.batch)

    def _make_optimizer(self) -> torch.optim.SGD:
        head = {id(parameter) for parameter in self._head.parameters()}
        rest = [p for p in self.module.parameters() if p.requires_grad and id(p) not in head]
        groups: list[dict[str, Any]] = [{"params": list(self._head.parameters()), "scale": 1.0}]
        if rest:
            groups.append({"params": rest, "scale": BACKBONE})
        return torch.optim.SGD(groups, lr=self.config.lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)

    # ---- training -----------------------------------------------------------------------------

    def epoch(self, epoch: int, count: Counter) -> float:
        """As of `Training`; the loss of an image is over its known labels."""
        self.module.train(not self.config.freeze)
        self._head.train()
        order = shuffled(len(self.data.train), self.config.batch, self.config.seed, epoch)
        total, seen = torch.zeros((), device=self._device), 0
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed_of(self.config.seed, epoch, "dropout"))
            for step, batch in enumerate(self._train.batches(order, epoch)):
                self._note(batch, self.data.train)
                for group in self._optimizer.param_groups:
                    progress = (epoch + (step + 0.5) / len(order)) / self.config.epochs
                    group["lr"] = self.config.lr * group["scale"] * schedule(progress)
                for indices, x in batch.groups:
                    total += self._step(x, self._labels(indices)) * len(indices)
                    seen += len(indices)
                    count(len(indices), 0)
                count(len(batch.faults), len(batch.faults))
        if not seen:
            raise TrainingError(f"not one training image can be read, for example: {self._example()}")
        loss = total.item() / seen
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} in epoch {epoch + 1}; give a lower --lr and another --out"
            )
        return loss

    def _labels(self, indices: list[int]) -> Tensor:
        return torch.tensor([self.data.train[index].labels for index in indices], device=self._device)

    def _step(self, x: Tensor, labels: Tensor) -> Tensor:
        logits = self._logits(x)
        loss = multilabel_loss(logits - self._middle, labels)
        self._optimizer.zero_grad()
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.detach()

    def _logits(self, x: Tensor) -> Tensor:
        """(B, 3, h, w) -> float32 logits (B, C)."""
        x = x.to(self._device, non_blocking=True)
        with self._autocast():
            return pool_logits(self.module(x)).float()

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = DTYPES[self.config.precision]
        return torch.autocast(self._device.type, dtype, enabled=dtype is not None)

    def _note(self, batch: Batch, images: Sequence[Labelled]) -> None:
        self.faults |= {images[index].path: cause for index, cause in batch.faults.items()}

    def _example(self) -> str:
        return next(iter(self.faults.values()))

    # ---- measuring ----------------------------------------------------------------------------

    def evaluate(self, epoch: int, count: Counter) -> dict[str, Any]:
        """As of `Training`: average precision per class, and its mean over the classes with an image.

        Raises:
            TrainingError: not one image can be read, or a score is not finite.
            OSError: the images' storage is at fault.
        """
        scores, labels = self.logits(count)
        classes = self.data.classes
        try:
            precisions = [average_precision(scores[:, c], labels[:, c]) for c in range(len(classes))]
        except ValueError as error:
            raise TrainingError(
                f"after epoch {epoch + 1} {error}; give a lower --lr and another --out"
            ) from error
        counted = [ap for ap in precisions if ap is not None]
        return {
            "mean_ap": math.fsum(counted) / len(counted) if counted else None,
            "classes_with_images": len(counted),
            "test_images": len(labels),
            "classes": [
                {
                    "class": name,
                    "ap": ap,
                    "present": int((labels[:, c] == PRESENT).sum()),
                    "absent": int((labels[:, c] == ABSENT).sum()),
                    "ignored": int((labels[:, c] == IGNORED).sum()),
                }
                for c, (name, ap) in enumerate(zip(classes, precisions, strict=True))
            ],
        }

    @torch.no_grad()
    def logits(self, count: Counter) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Logits (N, C) of the held-out images that can be read, in evaluation mode, and their labels (N, C).

        Raises:
            TrainingError: not one image can be read. OSError: the images' storage is at fault.
        """
        self.module.eval()
        logits, labels = [], []
        for batch in self._test.batches(self._shapes, epoch=0):
            self._note(batch, self.data.test)
            for indices, x in batch.groups:
                logits.append(self._logits(x).double().cpu())
                labels += [self.data.test[index].labels for index in indices]
                count(len(indices), 0)
            count(len(batch.faults), len(batch.faults))
        if not labels:
            raise TrainingError(f"not one held-out image can be read, for example: {self._example()}")
        return torch.cat(logits).numpy(), np.array(labels, dtype=np.int64)

    # ---- state --------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """As of `Training`."""
        return {
            "model": portable(self.module),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "faults": dict(self.faults),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.module.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self.faults = dict(state["faults"])


def schedule(progress: float) -> float:
    """Fraction of the highest learning rate at a progress in (0, 1): a linear rise, then half a cosine."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2


def multilabel_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits (B, C) over the labels (B, C) not IGNORED, 0 if all are."""
    labelled = labels != IGNORED
    losses = binary_cross_entropy_with_logits(logits, (labels == PRESENT).float(), reduction="none")
    return (losses * labelled).sum() / labelled.sum().clamp(min=1)


FINETUNE = TrainingMethod(
    FinetuneConfig, with_new_head, Finetuning, frozenset({"model", "optimizer", "scaler", "faults"})
)
