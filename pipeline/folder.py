"""Any folder of images, without labels."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pipeline.pairs import IMAGE_SUFFIXES, Dataset, DatasetError, Pair, is_image, storable


def open_folder(root: Path, target: int | None = None) -> Dataset:
    """Every image below `root`, explained for the network output `target`, by default its own top-1.

    Raises:
        DatasetError: there is no image, or `target` is negative.
    """
    if target is not None and target < 0:
        raise DatasetError(f"target {target}: give the index of a network output, from 0")
    if next(_image_paths(root), None) is None:
        raise DatasetError(
            f"{root}: no images found; their names must end in {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return Dataset("folder", str(root), (), "none", partial(_pairs, root, target))


def _pairs(root: Path, target: int | None) -> Iterator[Pair]:
    for path in _image_paths(root):
        # The id keeps the suffix: a.jpg and a.png may stand side by side.
        if target is None:
            yield Pair(path, path, class_id=-1, class_name="")
        else:
            yield Pair(path, path, class_id=target, class_name=str(target))


def _image_paths(root: Path) -> Iterator[str]:
    """Posix paths below `root`, a folder's own files before its sub-folders, each sorted by name."""
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(filter(is_image, names)):
            yield storable((Path(folder) / name).relative_to(root).as_posix())
