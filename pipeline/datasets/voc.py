"""PASCAL VOC and datasets in its layout: one XML file an image, lists of images per split."""

from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

from extremal.pipeline.datasets.pairs import (
    Box,
    Dataset,
    Layout,
    Pair,
    check_inside,
    is_difficult,
    list_or_none,
    read_text,
    unknown_pair,
)
from extremal.pipeline.errors import DatasetError
from extremal.storage.files import split as split_place
from extremal.storage.folder import FileFault, Folder, open_place

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

_SETS = "ImageSets/Main"


class _Object(NamedTuple):
    name: str
    box: Box
    difficult: bool


def open_voc(
    root: Folder, split: str | None, difficult_list: str | None = None, vocabulary: str = "voc"
) -> Dataset:
    """VOC in `root`: the folder around VOCdevkit, VOCdevkit, or one VOC<year>.

    Args:
        split: "<set>" or "<year>:<set>", such as "2007:test".
        difficult_list: lines of an image id and a 0/1 flag per class; replaces the rule by area.

    Raises:
        DatasetError: a folder or list is missing, or a list cannot be read.
    """
    prefix, image_set = _find_split(root, split)
    source = f"{prefix}{_SETS}/{image_set}.txt"
    lines = read_text(root, source, "restore the list or choose another split").splitlines()
    # An image listed twice is one image.
    names = (line.split()[0] for line in lines if line.strip())
    ids = list(dict.fromkeys(check_inside(name, root.show(source)) for name in names))
    classes = _read_classes(root, f"{prefix}classes.txt")
    flags = None if difficult_list is None else _read_flags(*open_place(difficult_list), len(classes))
    if vocabulary == "voc" and classes != VOC_CLASSES:
        vocabulary = "none"
    pairs = partial(_pairs, root, prefix, ids, classes, flags)
    return Dataset("voc", root.root, classes, vocabulary, pairs)


def _find_split(root: Folder, split: str | None) -> tuple[str, str]:
    """The VOC<year> folder, "" or with a slash behind it, and the name of the image set."""
    candidates = [""]
    for parent in ("", "VOCdevkit/"):
        candidates += [f"{parent}{name}/" for name in root.names(parent)[1] if name.startswith("VOC")]
    years = {_year(root, path): path for path in candidates if root.is_dir(f"{path}{_SETS}")}
    if not years:
        raise DatasetError(
            f"{root.show()}: no VOC<year>/ImageSets/Main found; give the folder that holds VOCdevkit"
        )
    splits = [f"{year}:{name}" for year, path in years.items() for name in _list_sets(root, path)]
    matches = [name for name in splits if split and name in (split, f"{name.split(':')[0]}:{split}")]
    if len(matches) != 1:
        problem = "no split given" if not split else f"{len(matches)} splits match {split!r}"
        raise DatasetError(f"{root.show()}: {problem}; choose one of: {list_or_none(splits)}")
    year, _, image_set = matches[0].partition(":")
    return years[year], image_set


def _year(root: Folder, path: str) -> str:
    """The year of a folder of `_find_split`; the root itself may be one."""
    return PurePosixPath(path or split_place(root.root)[1]).name.removeprefix("VOC")


def _list_sets(root: Folder, prefix: str) -> list[str]:
    # VOC keeps a list per class and set (such as dog_test.txt) beside the lists of whole sets.
    names = [name[:-4] for name in root.names(f"{prefix}{_SETS}")[0] if name.endswith(".txt")]
    return sorted(name for name in names if name.rpartition("_")[0] not in VOC_CLASSES)


def _read_classes(root: Folder, path: str) -> tuple[str, ...]:
    if not root.is_file(path):
        return VOC_CLASSES
    fix = "write one class a line"
    classes = tuple(line.strip() for line in read_text(root, path, fix).splitlines() if line.strip())
    if not classes:
        raise DatasetError(f"{root.show(path)}: no classes; {fix}")
    return classes


def _read_flags(folder: Folder, path: str, classes: int) -> Flags:
    fix = f"each line must be an image id and {classes} flags 0 or 1"
    flags: Flags = {}
    for number, line in enumerate(read_text(folder, path, fix).splitlines(), 1):
        image_id, *values = line.split() or [""]
        if image_id and (len(values) != classes or not set(values) <= {"0", "1"}):
            raise DatasetError(f"{folder.show(path)}, line {number}: {fix}")
        flags[image_id] = tuple(value == "1" for value in values)
    return flags


def _pairs(
    root: Folder, prefix: str, ids: list[str], classes: tuple[str, ...], flags: Flags | None
) -> Iterator[Pair]:
    for image_id in ids:
        path = f"{prefix}JPEGImages/{image_id}.jpg"
        try:
            width, height, objects = _parse(root.read(f"{prefix}Annotations/{image_id}.xml"))
        except (FileFault, ElementTree.ParseError, ValueError, OverflowError, LookupError):
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


def _parse(annotation: bytes) -> tuple[int, int, list[_Object]]:
    """Width, height and objects of an annotation.

    Raises:
        ElementTree.ParseError, ValueError, OverflowError, LookupError: it is broken.
    """
    tree = ElementTree.fromstring(annotation)
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


VOC = Layout("voc", open_voc, settings=("difficult_list",), whole_images=True, multilabel=True)
