"""ImageNet: folders of images named by wnid, or a flat folder with a file of labels."""

import csv
import os
from collections.abc import Iterator
from functools import lru_cache, partial
from importlib.resources import files
from os.path import isfile  # unlike Path's it takes any name, however long
from pathlib import Path
from typing import NamedTuple

from pipeline.pairs import (
    Dataset,
    DatasetError,
    Pair,
    check_inside,
    is_image,
    list_or_none,
    read_text,
    stem,
    storable,
    unknown_pair,
)

_LABELS_FIX = "write a CSV with the header file,label[,wnid], or lines of a file and a label"


class _Label(NamedTuple):
    file: str
    label: str  # class index 0..999, or a wnid
    wnid: str  # "" if the file does not say


@lru_cache(maxsize=1)
def imagenet_wnids() -> tuple[str, ...]:
    """The 1000 wnids; the position is the class index of every ILSVRC2012 network."""
    return tuple(files("pipeline").joinpath("data/imagenet_wnids.txt").read_text("ascii").split())


@lru_cache(maxsize=1)
def imagenet_classes() -> tuple[str, ...]:
    """The 1000 class names, as torchvision has them."""
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.DEFAULT.meta["categories"])


def open_imagenet(root: Path, split: str | None, labels: Path | None = None) -> Dataset:
    """ImageNet in `root`, labels from `labels`, else from labels.csv there, else from the folders' names.

    Args:
        split: folder below `root`, such as "val".

    Raises:
        DatasetError: no classes are found or the labels cannot be read.
    """
    if split:
        check_inside(split, root)
    folder = root / (split or "")
    if not folder.is_dir():
        names = [path.name for path in root.iterdir() if path.is_dir()]
        raise DatasetError(f"{folder}: no such folder; choose one of: {list_or_none(names)}")
    if labels is None and (root / "labels.csv").exists():
        labels = root / "labels.csv"
    if labels is not None:
        pairs = partial(_labelled_pairs, root, split, _read_labels(labels))
    else:
        pairs = partial(_folder_pairs, root, folder, _class_folders(folder))
    return Dataset("imagenet", str(root), imagenet_classes(), "imagenet", pairs)


def _class_folders(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not set(names) & set(imagenet_wnids()):
        raise DatasetError(
            f"{folder}: neither class folders such as n01440764 nor labels.csv; "
            f"give a labels file, or a split out of: {list_or_none(names)}"
        )
    return names


def _folder_pairs(root: Path, folder: Path, names: list[str]) -> Iterator[Pair]:
    for name in names:
        class_folder = folder / name
        for file in sorted(filter(is_image, os.listdir(class_folder))):
            yield _pair(storable((class_folder / file).relative_to(root).as_posix()), storable(name))


def _pair(path: str, label: str, wnid: str = "") -> Pair:
    """The pair of a label that is an index or a wnid; an index must agree with `wnid`, if there is one."""
    wnids, classes = imagenet_wnids(), imagenet_classes()
    # int() refuses thousands of digits.
    index = int(label) if label.isdecimal() and len(label) < 10 else -1
    class_id = wnids.index(label) if label in wnids else index
    known = 0 <= class_id < len(wnids) and wnid in ("", wnids[class_id])
    if not known:
        return unknown_pair(stem(path), path, f"{label} {wnid}".strip())
    return Pair(stem(path), path, class_id, classes[class_id])


def _labelled_pairs(root: Path, split: str | None, labels: list[_Label]) -> Iterator[Pair]:
    folders = [f"{split}/"] * bool(split) + ["", "images/"]
    for file, label, wnid in labels:
        paths = [folder + file for folder in folders]
        # A file that is nowhere keeps its pair: decoding will fail, and say so in the run's failures.
        yield _pair(next((path for path in paths if isfile(root / path)), paths[0]), label, wnid)


def _read_labels(source: Path) -> list[_Label]:
    lines = [line for line in read_text(source, _LABELS_FIX).splitlines() if line.strip()]
    labels = _parse_csv(source, lines) if lines and "," in lines[0] else _parse_plain(source, lines)
    if not labels:
        raise DatasetError(f"{source}: no labels; {_LABELS_FIX}")
    for label in labels:
        check_inside(label.file, source)
    return labels


def _parse_csv(source: Path, lines: list[str]) -> list[_Label]:
    reader = csv.DictReader(lines, restval="", skipinitialspace=True)
    labels: list[_Label] = []
    try:
        if not {"file", "label"} <= set(reader.fieldnames or ()):
            raise DatasetError(f"{source}: its header is {lines[0]!r}; {_LABELS_FIX}")
        for number, row in enumerate(reader, 2):
            if reader.line_num != number:  # the lines up to the next quote would be lost
                raise csv.Error("a quote is not closed")
            labels.append(_Label(row["file"], row["label"].strip(), row.get("wnid", "").strip()))
    except csv.Error as error:
        raise DatasetError(f"{source}, entry {len(labels) + 1}: {error}; {_LABELS_FIX}") from error
    return labels


def _parse_plain(source: Path, lines: list[str]) -> list[_Label]:
    labels = []
    for number, line in enumerate(lines, 1):
        fields = line.rsplit(maxsplit=1)
        if len(fields) != 2:
            raise DatasetError(f"{source}, entry {number}: {line!r} is not a file and a label; {_LABELS_FIX}")
        labels.append(_Label(fields[0].strip(), fields[1], ""))
    return labels
