"""ImageNet: folders of images named by wnid, or a flat folder with a file of labels."""

import csv
from collections.abc import Iterator
from functools import lru_cache, partial
from importlib.resources import files
from io import StringIO
from itertools import chain
from pathlib import PurePosixPath
from typing import NamedTuple

from extremal.pipeline.datasets.pairs import (
    Dataset,
    Layout,
    Pair,
    check_inside,
    is_image,
    list_or_none,
    read_text,
    stem,
    storable,
    unknown_pair,
)
from extremal.pipeline.errors import DatasetError
from extremal.storage.folder import Folder, open_place

_LABELS_FIX = "write a CSV with the header file,label[,wnid], or lines of a file and a label"


class _Label(NamedTuple):
    file: str
    label: str  # class index 0..999, or a wnid
    wnid: str  # "" if the file does not say


@lru_cache(maxsize=1)
def imagenet_wnids() -> tuple[str, ...]:
    """The 1000 wnids; the position is the class index of every ILSVRC2012 network."""
    return tuple(files(__package__).joinpath("data/imagenet_wnids.txt").read_text("ascii").split())


@lru_cache(maxsize=1)
def _indices() -> dict[str, int]:
    return {wnid: index for index, wnid in enumerate(imagenet_wnids())}


@lru_cache(maxsize=1)
def imagenet_classes() -> tuple[str, ...]:
    """The 1000 class names, as torchvision has them."""
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.DEFAULT.meta["categories"])


def open_imagenet(root: Folder, split: str | None, labels: str | None = None) -> Dataset:
    """ImageNet in `root`, labels from `labels`, else from labels.csv there, else from the folders' names.

    Args:
        split: folder below `root`, such as "val".

    Raises:
        DatasetError: no classes are found or the labels cannot be read.
    """
    if split:
        check_inside(split, root.show())
        if not root.is_dir(split):
            names = root.names()[1]
            raise DatasetError(f"{root.show(split)}: no such folder; choose one of: {list_or_none(names)}")
    if labels is not None or root.is_file("labels.csv"):
        place, path = open_place(labels) if labels is not None else (root, "labels.csv")
        if next(_read_labels(place, path), None) is None:
            raise DatasetError(f"{place.show(path)}: no labels; {_LABELS_FIX}")
        pairs = partial(_labelled_pairs, root, split, place, path)
    else:
        pairs = partial(_folder_pairs, root, split or "", _class_folders(root, split or ""))
    return Dataset("imagenet", root.root, imagenet_classes(), "imagenet", pairs)


def _class_folders(root: Folder, split: str) -> list[str]:
    names = [name for name in root.names(split)[1] if not name.startswith(".")]
    if not set(names) & set(imagenet_wnids()):
        raise DatasetError(
            f"{root.show(split)}: neither class folders such as n01440764 nor labels.csv; "
            f"give a labels file, or a split out of: {list_or_none(names)}"
        )
    return names


def _folder_pairs(root: Folder, split: str, names: list[str]) -> Iterator[Pair]:
    for name in names:
        folder = str(PurePosixPath(split, name))
        for file in filter(is_image, root.names(folder)[0]):
            yield _pair(storable(f"{folder}/{file}"), storable(name))


def _pair(path: str, label: str, wnid: str = "") -> Pair:
    """The pair of a label that is an index or a wnid; an index must agree with `wnid`, if there is one."""
    wnids, classes = imagenet_wnids(), imagenet_classes()
    # int() refuses thousands of digits.
    index = int(label) if label.isdecimal() and len(label) < 10 else -1
    class_id = _indices().get(label, index)
    known = 0 <= class_id < len(wnids) and wnid in ("", wnids[class_id])
    if not known:
        return unknown_pair(stem(path), path, f"{label} {wnid}".strip())
    return Pair(stem(path), path, class_id, classes[class_id])


def _labelled_pairs(root: Folder, split: str | None, place: Folder, labels: str) -> Iterator[Pair]:
    folders = [f"{split}/"] * bool(split) + ["", "images/"]
    for file, label, wnid in _read_labels(place, labels):
        paths = [folder + file for folder in folders]
        # A file that is nowhere keeps its pair: decoding will fail, and say so in the run's failures.
        yield _pair(next((path for path in paths if root.is_file(path)), paths[0]), label, wnid)


def _read_labels(folder: Folder, path: str) -> Iterator[_Label]:
    """Labels one after the other: there may be millions.

    Raises:
        DatasetError: a line is wrong, when it is reached.
    """
    source = folder.show(path)
    lines = (line for line in StringIO(read_text(folder, path, _LABELS_FIX)) if line.strip())
    first = next(lines, "")
    parse = _parse_csv if "," in first else _parse_plain
    for label in parse(source, chain([first] if first else [], lines)):
        check_inside(label.file, source)
        yield label


def _parse_csv(source: str, lines: Iterator[str]) -> Iterator[_Label]:
    reader = csv.reader(lines, skipinitialspace=True)
    number = 1
    try:
        header = next(reader)
        if not {"file", "label"} <= set(header):
            raise DatasetError(f"{source}: its header is {','.join(header)!r}; {_LABELS_FIX}")
        file, label, wnid = (header.index(name) if name in header else -1 for name in _Label._fields)
        for row in reader:
            number += 1
            if reader.line_num != number:  # the lines up to the next quote would be lost
                raise csv.Error("a quote is not closed")
            cells = row + [""] * (len(header) - len(row))
            yield _Label(cells[file], cells[label].strip(), cells[wnid].strip() if wnid >= 0 else "")
    except csv.Error as error:
        raise DatasetError(f"{source}, entry {number - 1}: {error}; {_LABELS_FIX}") from error


def _parse_plain(source: str, lines: Iterator[str]) -> Iterator[_Label]:
    for number, line in enumerate(lines, 1):
        fields = line.rsplit(maxsplit=1)
        if len(fields) != 2:
            raise DatasetError(
                f"{source}, entry {number}: {line.strip()!r} is not a file and a label; {_LABELS_FIX}"
            )
        yield _Label(fields[0].strip(), fields[1], "")


IMAGENET = Layout("imagenet", open_imagenet, settings=("labels",))
