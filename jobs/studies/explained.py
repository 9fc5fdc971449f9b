"""One image that is explained at once, without Ray or a run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from torch import Tensor

from extremal.workers.config import RunConfig
from extremal.workers.networks.network import Network


@dataclass(frozen=True)
class ExplainedImage:
    """An image as a network sees it, and what is asked of it.

    Attributes:
        x: (1,3,h,w) normalised input, on the network's device. targets: (1) the output that is explained.
        name: of that output. picture: (h,w,3) the input in 0..1.
        stem: where the files go; each adds what it shows, and .png.
    """

    network: Network
    x: Tensor
    targets: Tensor
    name: str
    picture: np.ndarray
    stem: Path

    def files(self, *endings: str) -> list[Path]:
        """The files to write."""
        return [self.stem.with_name(f"{self.stem.name}-{ending}.png") for ending in endings]


# Writes the pictures of an image, and tells of them; returns the files. What a study's `explain` names.
Explain = Callable[[ExplainedImage, RunConfig, Console], list[Path]]
