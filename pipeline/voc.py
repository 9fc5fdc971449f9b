"""PASCAL VOC and datasets in its layout: one XML file an image, lists of images per split."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from pipeline.pairs import (
    Box,
    Dataset,
    DatasetError,
    Pair,
    check_inside,
    is_difficult,
    list_or_none,
    read_text,
    unknown_pair,
)

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

Flags = dict[str, tuple[bool, ...]]


class _Object(NamedTuple):
    name: str
    box: Box
    difficult: bool


def open_voc(
    root: Path, split: str | None, difficult_list: Path | None = None, vocabulary: str = "voc"
) -> Dataset:
    """VOC in `root`: the folder around VOCdevkit, VOCdevkit, or one VOC<year>.

    Args:
        split: "<set>" or "<year>:<set>", such as "2007:test".
        difficult_list: lines of an image id and a 0/1 flag per class; replaces the rule by area.

    Raises:
        DatasetError: a folder or list is missing, or a list cannot be read.
    """
    year_folder, image_set = _find_split(root, split)
    source = year_folder / "ImageSets" / "Main" / f"{image_set}.txt"
    lines = read_text(source, "restore the list or choose another split").splitlines()
    # An image listed twice is one image.
    ids = list(dict.fromkeys(check_inside(line.split()[0], source) for line in lines if line.strip()))
    classes = _read_classes(year_folder / "classes.txt")
    flags = None if difficult_list is None else _read_flags(difficult_list, len(classes))
    if vocabulary == "voc" and classes != VOC_CLASSES:
        vocabulary = "none"
    prefix = year_folder.relative_to(root).as_posix()
    pairs = partial(_pairs, root, "" if prefix == "." else f"{prefix}/", ids, classes, flags)
    return Dataset("voc", str(root), classes, vocabulary, pairs)


def _find_split(root: Path, split: str | None) -> tuple[Path, str]:
    """The VOC<year> folder and the name of the image set."""
    candidates = [root, *sorted(root.glob("VOC*")), *sorted(root.glob("VOCdevkit/VOC*"))]
    years = {path.name.removeprefix("VOC"): path for path in candidates if (path / "ImageSets/Main").is_dir()}
    if not years:
        raise DatasetError(f"{root}: no VOC<year>/ImageSets/Main found; give the folder that holds VOCdevkit")
    splits = [f"{year}:{name}" for year, path in years.items() for name in _list_sets(path)]
    matches = [name for name in splits if split and name in (split, f"{name.split(':')[0]}:{split}")]
    if len(matches) != 1:
        problem = "no split given" if not split else f"{len(matches)} splits match {split!r}"
        raise DatasetError(f"{root}: {problem}; choose one of: {list_or_none(splits)}")
    year, _, image_set = matches[0].partition(":")
    return years[year], image_set


def _list_sets(year_folder: Path) -> list[str]:
    # VOC keeps a list per class and set (such as dog_test.txt) beside the lists of whole sets.
    names = [path.stem for path in (year_folder / "ImageSets" / "Main").glob("*.txt")]
    return sorted(name for name in names if name.rpartition("_")[0] not in VOC_CLASSES)


def _read_classes(path: Path) -> tuple[str, ...]:
    if not path.exists():
        return VOC_CLASSES
    fix = "write one class a line"
    classes = tuple(line.strip() for line in read_text(path, fix).splitlines() if line.strip())
    if not classes:
        raise DatasetError(f"{path}: no classes; {fix}")
    return classes


def _read_flags(path: Path, classes: int) -> Flags:
    fix = f"each line must be an image id and {classes} flags 0 or 1"
    flags: Flags = {}
    for number, line in enumerate(read_text(path, fix).splitlines(), 1):
        image_id, *values = line.split() or [""]
        if image_id and (len(values) != classes or not set(values) <= {"0", "1"}):
            raise DatasetError(f"{path}, line {number}: {fix}")
        flags[image_id] = tuple(value == "1" for value in values)
    return flags


def _pairs(
    root: Path, prefix: str, ids: list[str], classes: tuple[str, ...], flags: Flags | None
) -> Iterator[Pair]:
    for image_id in ids:
        path = f"{prefix}JPEGImages/{image_id}.jpg"
        try:
            width, height, objects = _parse(root / f"{prefix}Annotations/{image_id}.xml")
        except (OSError, ElementTree.ParseError, ValueError, OverflowError, LookupError):
            # One broken annotation must not cost the other images.
            yield unknown_pair(image_id, path)
            continue
        names = {obj.name for obj in objects}
        for class_id, name in enumerate(classes):
            if name not in names:
                continue
            mine = [obj for obj in objects if obj.name == name]
            area = sum((x1 - x0 + 1) * (y1 - y0 + 1) for _, (x0, y0, x1, y1), _ in mine)
            all_difficult = all(obj.difficult for obj in mine)
            # The game's list never flags a class that is PASCAL-difficult throughout: it is not scored.
            difficult = not all_difficult and is_difficult(area, width, height, len(names) > 1)
            if flags is not None:  # the game counts an image that its list forgot as difficult
                difficult = flags[image_id][class_id] if image_id in flags else True
            yield Pair(
                image_id,
                path,
                class_id,
                name,
                width,
                height,
                boxes=tuple(obj.box for obj in mine),
                all_difficult=all_difficult,
                difficult=difficult,
            )
        for name in sorted(names - set(classes)):
            yield unknown_pair(image_id, path, name)


def _parse(path: Path) -> tuple[int, int, list[_Object]]:
    """Width, height and objects of an annotation.

    Raises:
        OSError: it is missing.
        ElementTree.ParseError, ValueError, OverflowError, LookupError: it is broken.
    """
    tree = ElementTree.parse(path).getroot()
    width, height = _int(tree, "size/width"), _int(tree, "size/height")
    objects = [_object(element) for element in tree.findall("object")]
    for name, (x0, y0, x1, y1), _ in objects:
        if not (x0 <= x1 and y0 <= y1 and x0 < width and y0 < height and x1 >= 0 and y1 >= 0):
            raise ValueError(f"the box of {name} is inverted or beside the image")
    return width, height, objects


def _object(element: ElementTree.Element) -> _Object:
    # The file counts pixels from 1.
    x0, y0, x1, y1 = (_int(element, f"bndbox/{key}") - 1 for key in ("xmin", "ymin", "xmax", "ymax"))
    name = (element.findtext("name") or "").strip()
    return _Object(name, (x0, y0, x1, y1), element.findtext("difficult", "0").strip() == "1")


def _int(element: ElementTree.Element, path: str) -> int:
    # Some years write fractions of pixels, such as 45.7.
    return int(float(element.findtext(path, "")))
