"""Shapes: a synthetic dataset in VOC's layout, for demos and tests without a download.

Two shapes of different classes on a noisy background, anywhere in the image, so that neither its centre
nor one image-wide feature gives the answer away.
"""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from extremal.pipeline.datasets.pairs import Box, Dataset, Layout
from extremal.pipeline.datasets.voc import open_voc
from extremal.pipeline.errors import DatasetError
from extremal.storage.folder import Folder, open_root

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")

_FOLDER = "VOCdevkit/VOC2007"
_MIN_SIZE, _MAX_SIZE = 0.25, 0.36  # diameter of a shape, fraction of the image's side
_MIN_CONTRAST = 100  # between shape and background, in one colour at least, of 255
_NOISE = 5  # standard deviation, of 255
_MAX_TURN = 0.2  # radians

_Floats = npt.NDArray[np.float64]
_Bools = npt.NDArray[np.bool_]


def _regular(corners: int) -> _Floats:
    turns = np.arange(corners) / corners * 2 * np.pi
    return np.stack([np.cos(turns), np.sin(turns)], axis=1)


def _cross() -> _Floats:
    a, b = 0.3, 0.95
    quarter = np.array([(b, a), (a, a), (a, b)])
    turn = np.array([(0, 1), (-1, 0)])  # right multiplication: a quarter turn
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


# (corners, 2) outlines inside the unit circle.
_OUTLINES = {
    "circle": _regular(60),
    "square": _regular(4),
    "triangle": _regular(3),
    "star": _regular(10) * np.tile([1, 0.45], 5)[:, None],
    "cross": _cross(),
    "ring": _regular(60),
}


def open_shapes(root: Path, split: str, seed: int = 0) -> Dataset:
    """Shapes in `root`, drawn first if they are not there (512 train and 64 test images).

    Raises:
        DatasetError: the split is unknown, or `root` holds shapes of another seed.
    """
    folder = root / _FOLDER
    if not (folder / "ImageSets/Main/test.txt").exists():
        make_shapes(root, train=512, test=64, seed=seed)
    drawn = (folder / "seed.txt").read_text().strip() if (folder / "seed.txt").exists() else "unknown"
    if drawn != str(seed):
        raise DatasetError(f"{folder}: holds shapes of seed {drawn}, not {seed}; give another root")
    return replace(open_voc(open_root(str(root)), split, vocabulary="shapes"), name="shapes")


def make_shapes(root: Path, train: int, test: int, size: int = 128, seed: int = 0) -> None:
    """Write `train` + `test` images of size x size pixels below `root`, as VOC2007 is laid out.

    An image depends on `seed` and its own number only: a larger set begins with the images of a smaller
    one, and a second call writes the same bytes.
    """
    folder = root / _FOLDER
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    ids = [f"{index:06d}" for index in range(1, train + test + 1)]
    for index, image_id in enumerate(ids, 1):
        image, objects = draw_shapes(size, np.random.default_rng([seed, index]))
        image.save(folder / "JPEGImages" / f"{image_id}.jpg", quality=95)
        _write_annotation(folder / "Annotations" / f"{image_id}.xml", size, objects)
    (folder / "classes.txt").write_text("\n".join(SHAPES) + "\n")
    (folder / "seed.txt").write_text(f"{seed}\n")
    # The lists come last: their presence says that the set is whole.
    (folder / "ImageSets/Main/train.txt").write_text("".join(f"{name}\n" for name in ids[:train]))
    (folder / "ImageSets/Main/test.txt").write_text("".join(f"{name}\n" for name in ids[train:]))


def draw_shapes(size: int, rng: np.random.Generator) -> tuple[Image.Image, list[tuple[str, Box]]]:
    """One image of size x size pixels and its two objects: class and tight box, 0-based, ends inclusive."""
    pixels, mean = _background(size, rng)
    objects: list[tuple[str, Box]] = []
    taken = np.zeros((size, size), dtype=bool)
    for name in rng.choice(SHAPES, size=2, replace=False):
        mask = _place(str(name), size, taken, rng)
        pixels[mask] = _contrasting(mean, rng)
        taken |= mask
        ys, xs = np.nonzero(mask)
        objects.append((str(name), (int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max()))))
    pixels += rng.normal(0, _NOISE, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), objects


def _background(size: int, rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    """(size, size, 3) blotches around a mean colour, 0..255, and that colour."""
    mean = rng.uniform(0, 255, 3)
    cells = int(rng.integers(4, 17))
    coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
    blotches = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64)
    return 0.65 * mean + 0.35 * blotches, 0.65 * mean + 0.35 * 127.5


def _contrasting(mean: _Floats, rng: np.random.Generator) -> _Floats:
    while True:
        colour = rng.uniform(0, 255, 3)
        if np.abs(colour - mean).max() >= _MIN_CONTRAST:
            return colour


def _place(name: str, size: int, taken: _Bools, rng: np.random.Generator) -> _Bools:
    """(size, size) mask of a shape at a free place, wholly inside the image."""
    while True:
        radius = rng.uniform(_MIN_SIZE, _MAX_SIZE) * size / 2
        centre = rng.uniform(radius, size - 1 - radius, 2)
        turn = rng.uniform(-_MAX_TURN, _MAX_TURN)
        rotation = np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))])
        outline = _OUTLINES[name] @ rotation * radius
        canvas = Image.new("1", (size, size))
        draw = ImageDraw.Draw(canvas)
        draw.polygon([(x, y) for x, y in centre + outline], fill=1)
        if name == "ring":
            draw.polygon([(x, y) for x, y in centre + outline * 0.55], fill=0)
        mask = np.asarray(canvas, dtype=bool)
        if not (mask & taken).any():
            return mask


def _write_annotation(path: Path, size: int, objects: list[tuple[str, Box]]) -> None:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = f"{path.stem}.jpg"
    _write_numbers(root, "size", {"width": size, "height": size, "depth": 3})
    for name, (x0, y0, x1, y1) in objects:
        element = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(element, "name").text = name
        ElementTree.SubElement(element, "difficult").text = "0"
        # VOC counts pixels from 1.
        _write_numbers(element, "bndbox", {"xmin": x0 + 1, "ymin": y0 + 1, "xmax": x1 + 1, "ymax": y1 + 1})
    ElementTree.indent(root)
    path.write_text(ElementTree.tostring(root, encoding="unicode") + "\n")


def _write_numbers(parent: ElementTree.Element, name: str, numbers: dict[str, int]) -> None:
    element = ElementTree.SubElement(parent, name)
    for key, number in numbers.items():
        ElementTree.SubElement(element, key).text = str(number)


def _open(folder: Folder, split: str | None, seed: int = 0) -> Dataset:
    return open_shapes(Path(folder.root), split or "test", seed)


SHAPES_LAYOUT = Layout("shapes", _open, settings=("seed",), whole_images=True, multilabel=True, drawn=True)
