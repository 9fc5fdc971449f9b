"""The blur of a saliency map before its maximum is taken: a setting, known without torch."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Smooth:
    """A Gaussian blur of a map drawn on the original image.

    Attributes:
        fraction: standard deviation as a fraction of the image's `side`.
        border: what lies beyond the image: `zero`, or its outermost pixels, `replicate`d.
    """

    fraction: float = 0.0
    side: Literal["short", "long"] = "short"
    border: Literal["zero", "replicate"] = "zero"

    def sigma(self, width: int, height: int) -> float:
        """Standard deviation in pixels."""
        return self.fraction * (min(width, height) if self.side == "short" else max(width, height))


UNSMOOTHED = Smooth()
