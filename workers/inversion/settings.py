"""The settings of feature inversion; needs no torch."""

from dataclasses import dataclass
from typing import Literal

Objective = Literal["dot", "distance"]
Parameterization = Literal["fourier", "pixel"]


@dataclass(frozen=True)
class InversionConfig:
    """Feature inversion (eq. 12); no number of it is the paper's, which names none (G11).

    Attributes:
        channels: the finished channel run whose pairs or channels are inverted at its layer.
        subject: `pairs`, whose activations are inverted whole and under the mask of a*; or `channels`, the
            largest of each class, each visualized by itself.
        objective: of pairs, dot (eq. 12) or distance (thesis eq. 2.11). Channels know one, their mean.
        per_class: channels visualized are the so many largest of any class, raw mean or class-specific.
        parameterization: Fourier coefficients of decorrelated colours, or pixels.
        steps: of Adam. lr: its rate.
        jitter: the most by which a step moves the picture, pixels.
        scale: the most by which it grows or shrinks, a fraction.
        rotation: the most by which it turns, degrees.
    """

    channels: str = ""
    subject: Literal["pairs", "channels"] = "pairs"
    objective: Objective = "dot"
    per_class: int = 1
    parameterization: Parameterization = "fourier"
    steps: int = 256
    lr: float = 0.05
    jitter: float = 8.0
    scale: float = 0.1
    rotation: float = 5.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.per_class < 1:
            raise ValueError("steps and per_class must be at least 1")
        if self.lr <= 0 or self.jitter < 0 or self.scale < 0 or not 0 <= self.rotation <= 180:
            raise ValueError("lr must be positive, jitter and scale not negative, rotation from 0 to 180")
