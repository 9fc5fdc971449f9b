"""Ways to vary a training image. A further one is a file of its own and an entry in `AUGMENTATIONS`."""

import math
import random
from collections.abc import Mapping
from typing import Any, Protocol

from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

F: Any = functional  # torchvision's own types know tensors only
CROP_AREA = (0.25, 1.0)  # a crop that shows less would often miss the object that its label names
CROP_RATIO = (3 / 4, 4 / 3)


class Augmentation(Protocol):
    """Makes a training image into another one with the same labels."""

    def __call__(
        self, picture: Image.Image, side: int, mode: InterpolationMode, chance: random.Random
    ) -> Image.Image:
        """A variation of an RGB image, side x side pixels.

        Args:
            mode: how the network's own preprocessing resizes.
            chance: all that may be random, so that an image varies alike in a resumed training.
        """


def crop_and_flip(
    picture: Image.Image, side: int, mode: InterpolationMode, chance: random.Random
) -> Image.Image:
    """A random crop of random size and shape, mirrored every other time: an `Augmentation`."""
    width, height = picture.size
    area = width * height * chance.uniform(*CROP_AREA)
    ratio = math.exp(chance.uniform(*map(math.log, CROP_RATIO)))
    w = max(1, min(width, round(math.sqrt(area * ratio))))
    h = max(1, min(height, round(math.sqrt(area / ratio))))
    left, top = chance.randint(0, width - w), chance.randint(0, height - h)
    crop: Image.Image = F.resized_crop(picture, top, left, h, w, [side, side], interpolation=mode)
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if chance.random() < 0.5 else crop


AUGMENTATIONS: Mapping[str, Augmentation] = {"crop_and_flip": crop_and_flip}
