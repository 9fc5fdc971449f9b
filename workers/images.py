"""Image files to network inputs: decoding, resizing, cropping, normalising."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from extremal.storage.folder import OF_THE_FILE, FileFault, Folder, open_place
from extremal.workers.errors import ImageError

# torch and torchvision are imported where they are used, because readers of a store need neither, and they
# take seconds and 700 MB.
if TYPE_CHECKING:
    from torch import Tensor

# torchvision's InterpolationMode.
INTERPOLATIONS = ("nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos")
# PIL only warns up to twice its own limit; here the limit is an error. Pixels.
MAX_PIXELS = 89_478_485
# Of a network's input. A square of this size already takes gigabytes in a network for 224 pixels.
MAX_INPUT = 2**23
MAX_RESIZE = 2896  # the side of that square


def decode(source: bytes | str | Path) -> Image.Image:
    """An encoded image, in memory or in a file, as an RGB image of its stored pixels.

    The EXIF orientation is not applied, because the boxes of VOC and COCO refer to stored pixels. Of
    animations the first frame is taken; transparency is dropped; 16-bit grey is scaled to 8 bits.

    Raises:
        ImageError: missing, empty, truncated, corrupt, too large, or of a format without a meaning in RGB.
        OSError: the storage or the machine is at fault, and another attempt may succeed.
    """
    if isinstance(source, bytes):
        return _decode(source, f"image of {len(source)} bytes")
    return load(*open_place(str(source)))


def load(folder: Folder, path: str) -> Image.Image:
    """The image at a path below a folder.

    Raises:
        ImageError, OSError: as `decode`.
    """
    try:
        content = folder.read(path)
    except FileFault as fault:
        raise ImageError(f"{folder.show(path)}: {fault}") from fault
    return _decode(content, folder.show(path))


def thumbnail(folder: Folder, path: str, side: int, size: tuple[int, int] | None = None) -> Image.Image:
    """The image at a path below a folder as a small RGB image, with the orientation of `decode`.

    Args:
        size: width and height that it had once; its shape must still be that. None for any.
        side: length of the short side, pixels; a smaller image keeps its size. A JPEG may come out smaller by
            up to a quarter, because its decoder halves sizes for nothing.

    Raises:
        ImageError: as `decode`, or of another shape.
        OSError: as `decode`.
    """
    try:
        content = folder.read(path)
    except FileFault as fault:
        raise ImageError(f"{folder.show(path)}: {fault}") from fault
    small = _decode(content, folder.show(path), side, size)
    scale = side / min(small.size)
    if scale >= 1:
        return small
    width, height = (max(1, round(length * scale)) for length in small.size)
    return small.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)


def image_size(folder: Folder, path: str) -> tuple[int, int] | None:
    """Width and height of the image at a path below a folder, None if it is none.

    Raises:
        OSError: the storage or the machine is at fault.
    """
    try:
        file = folder.open(path)
    except FileFault:
        return None
    with file:
        try:
            with Image.open(file) as image:
                return image.size
        except OSError as error:
            if not _of_the_image(error):
                raise
        except Exception:  # as in _decode; the worker will say what is wrong
            pass
    return None


def _of_the_image(error: OSError) -> bool:
    """Whether PIL complains of the image, without an error number, or the machine failed under it."""
    return error.errno is None or error.errno in OF_THE_FILE


def _decode(
    content: bytes, name: str, side: int | None = None, size: tuple[int, int] | None = None
) -> Image.Image:
    """`side`: the short side, pixels, of which a JPEG may lack a quarter when it is decoded smaller."""
    try:
        if not content:
            raise ImageError(f"{name}: the file is empty")
        with Image.open(BytesIO(content)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(f"{name}: {image.width}x{image.height} is over {MAX_PIXELS} pixels")
            if size is not None and _other_shape(image.size, size):
                now, then = ("x".join(map(str, both)) for both in (image.size, size))
                raise ImageError(f"{name}: it is {now}, and was {then} when it was explained")
            if side is not None:
                scale = 0.75 * side / min(image.size)
                wanted = int(image.width * scale) or 1, int(image.height * scale) or 1
                image.draft(image.mode, wanted)  # of other formats it knows nothing and does nothing
            return _to_rgb(image)
    except ImageError:
        raise
    except OSError as error:
        if not _of_the_image(error):  # the shard is tried again
            raise
        raise ImageError(f"{name}: {_cause(error)}") from error
    # Decoders of corrupt files raise nearly anything: SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise ImageError(f"{name}: cannot be decoded: {error}") from error


def _other_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether width to height differ by more than the rounding of an image made smaller."""
    return abs(size[0] * other[1] - size[1] * other[0]) > 0.02 * size[0] * other[1] + max(*size, *other)


def _cause(error: OSError) -> str:
    # PIL's own text ends in the address of a BytesIO, which differs in every run.
    unknown = isinstance(error, UnidentifiedImageError)
    return f"cannot be decoded: {'not an image, or of an unknown format' if unknown else error}"


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined range; convert the file to 8 bits")
    if image.mode.startswith("I"):  # 16-bit grey (32-bit in old PIL), which convert() would clip to white
        grey = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if "transparency" in image.info:  # PIL warns when a palette with transparency goes straight to RGB
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _functional() -> Any:  # torchvision's own types know tensors only
    from torchvision.transforms.v2 import functional

    return functional


def _to_float(image: Image.Image) -> "Tensor":
    """(3, h, w) float32 in 0..1."""
    import torch

    functional = _functional()
    pixels: Tensor = functional.to_dtype(functional.pil_to_tensor(image), torch.float32, scale=True)
    return pixels


@dataclass(frozen=True)
class Preprocess:
    """What a network wants done to an image.

    Attributes:
        resize: length of the short side after resizing, pixels.
        crop: side of the central square that is kept, pixels; None keeps the whole image.
        mean, std: per channel, of values in 0..1.
        interpolation: a torchvision InterpolationMode value.
        antialias: average the pixels that one pixel of a smaller image stands for; without it four are read,
            of the float image (`align_corners=False`), as networks from Caffe were shown theirs (item 6).

    Raises:
        ValueError: resize outside 1..MAX_RESIZE, crop outside 1..resize (torchvision would pad with black),
            a std that is not positive, an unknown interpolation, or one but bilinear without antialias.
    """

    resize: int
    crop: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation must be of {', '.join(INTERPOLATIONS)}, not {self.interpolation}"
            )
        if not self.antialias and self.interpolation != "bilinear":
            raise ValueError(f"{self.interpolation} interpolation needs antialias; without it give bilinear")
        if not 1 <= self.resize <= MAX_RESIZE:
            raise ValueError(f"resize must be between 1 and {MAX_RESIZE} pixels, not {self.resize}")
        if not all(value > 0 for value in self.std):
            raise ValueError(f"std must be positive, not {self.std}")
        if self.crop is not None and not 1 <= self.crop <= self.resize:
            raise ValueError(f"crop ({self.crop}) must be between 1 and resize ({self.resize})")

    def __call__(self, image: Image.Image) -> "Tensor":
        """An RGB image as the network's input, (3, h, w) float32, normalised.

        Raises:
            ImageError: the image is so long and thin that its resized form would exhaust the memory.
        """
        h, w = self._resized(image.width, image.height)
        limit = MAX_INPUT if self.crop is None else MAX_PIXELS
        if h * w > limit:
            raise ImageError(
                f"a {image.width}x{image.height} image is too thin: resized it is {w}x{h}, over {limit} "
                "pixels; a smaller --resize makes it less"
            )
        from torchvision.transforms import InterpolationMode

        mode, functional = InterpolationMode(self.interpolation), _functional()
        pixels: Any = image if self.antialias else _to_float(image)
        pixels = functional.resize(pixels, [self.resize], interpolation=mode, antialias=self.antialias)
        if self.crop is not None:
            pixels = functional.center_crop(pixels, [self.crop, self.crop])
        return self.normalised(pixels)

    def normalised(self, image: "Image.Image | Tensor") -> "Tensor":
        """An image of the input's size, of bytes or of floats in 0..1, as (3, h, w) float32."""
        pixels = _to_float(image) if isinstance(image, Image.Image) else image
        normalised: Tensor = _functional().normalize(pixels, list(self.mean), list(self.std))
        return normalised

    def input_shape(self, width: int, height: int) -> tuple[int, int]:
        """(h, w) of the input made from an image of this size."""
        if self.crop is not None:
            return self.crop, self.crop
        return self._resized(width, height)

    def region(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of the image that the input shows: x0, y0, x1, y1, half-open, in original pixels."""
        if self.crop is None:
            return 0.0, 0.0, float(width), float(height)
        h, w = self._resized(width, height)
        top, left = round((h - self.crop) / 2), round((w - self.crop) / 2)
        sx, sy = width / w, height / h
        return left * sx, top * sy, (left + self.crop) * sx, (top + self.crop) * sy

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """(h, w) after resizing; torchvision truncates the long side, so the same expression is used."""
        short, long = sorted((width, height))
        new_long = int(self.resize * long / short)
        return (new_long, self.resize) if width <= height else (self.resize, new_long)
