"""What trains a network on one device, an epoch at a time; who conducts it knows no more than this."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from extremal.workers.networks.network import Network
from extremal.workers.training.batches import Labelled

Counter = Callable[[int, int], None]
"""Called with the images done since the last call, and with those of them that cannot be read."""


@dataclass(frozen=True)
class Data:
    """The images below one root: those to train on, and those held out to measure.

    Attributes:
        classes: names, in the order of the labels.
    """

    root: str
    train: Sequence[Labelled]
    test: Sequence[Labelled]
    classes: Sequence[str]


class Training(Protocol):
    """A network in training, its state to be kept between epochs.

    An epoch depends on the state before it, the settings and the data alone: on a CPU a resumed training is
    the uninterrupted one bit for bit.

    Attributes:
        faults: path -> cause, of the images that could not be read.
    """

    faults: dict[str, str]

    def epoch(self, epoch: int, count: Counter) -> float:
        """One pass over the training images; `epoch` from 0.

        Returns:
            The mean loss of an image.

        Raises:
            TrainingError: not one image can be read, or the loss is no finite number.
            OSError: the images' storage is at fault.
        """

    def evaluate(self, epoch: int, count: Counter) -> dict[str, Any]:
        """What the held-out images say after an epoch, for JSON: `mean_ap`, `test_images`, and more.

        Raises:
            TrainingError, OSError: as `epoch`.
        """

    def state(self) -> dict[str, Any]:
        """What the next epoch depends on, for torch.save, loadable with weights_only.

        `model` is the network's state dict, on the CPU; `faults` is among it.
        """

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state."""


@dataclass(frozen=True)
class TrainingMethod:
    """A way to train: what `registry.TRAININGS` has of each.

    Attributes:
        settings: dataclass of what decides the result, `epochs` and `seed` among it, all with defaults.
        start: (network, classes, seed) -> state dict of the network before the first epoch, of which
            `load_network` makes the one that is trained. NetworkError if it cannot be trained.
        build: (that network, settings, data, threads that decode images, device) -> the training.
        state_keys: of a state.
    """

    settings: type[Any]
    start: Callable[[Network, int, int], dict[str, Tensor]]
    build: Callable[[Network, Any, Data, int, torch.device], Training]
    state_keys: frozenset[str]
