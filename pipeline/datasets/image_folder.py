"""Any folder of images, without labels."""

from collections.abc import Iterator
from functools import partial

from extremal.pipeline.datasets.pairs import IMAGE_SUFFIXES, Dataset, Layout, Pair, is_image, storable
from extremal.pipeline.errors import DatasetError
from extremal.storage.folder import Folder


def open_folder(root: Folder, target: int | None = None) -> Dataset:
    """Every image below `root`, explained for the network output `target`, by default its own top-1.

    Raises:
        DatasetError: there is no image, or `target` is negative.
    """
    if target is not None and target < 0:
        raise DatasetError(f"target {target}: give the index of a network output, from 0")
    if next(_image_paths(root), None) is None:
        raise DatasetError(
            f"{root.show()}: no images found; their names must end in {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return Dataset("folder", root.root, (), "none", partial(_pairs, root, target))


def _pairs(root: Folder, target: int | None) -> Iterator[Pair]:
    for path in _image_paths(root):
        # The id keeps the suffix: a.jpg and a.png may stand side by side.
        if target is None:
            yield Pair(path, path, class_id=-1, class_name="")
        else:
            yield Pair(path, path, class_id=target, class_name=str(target))


def _image_paths(root: Folder) -> Iterator[str]:
    """Posix paths below `root`, a folder's own files before its sub-folders, each sorted by name."""
    for folder, names in root.walk():
        for name in filter(is_image, names):
            yield storable(f"{folder}/{name}" if folder else name)


def _open(folder: Folder, split: str | None, target: int | None = None) -> Dataset:
    return open_folder(folder, target)


FOLDER = Layout("folder", _open, settings=("target",), splits=False)
