"""In what a network computes; needs no torch."""

from typing import Literal

Precision = Literal["float32", "bf16"]
