"""Opens a dataset by name."""

from collections.abc import Callable
from pathlib import Path

from extremal.pipeline.datasets.coco import open_coco
from extremal.pipeline.datasets.image_folder import open_folder
from extremal.pipeline.datasets.imagenet import open_imagenet
from extremal.pipeline.datasets.pairs import Dataset, Pair
from extremal.pipeline.datasets.shapes import open_shapes
from extremal.pipeline.datasets.voc import open_voc
from extremal.pipeline.errors import DatasetError
from extremal.storage.errors import PlaceError
from extremal.storage.files import printable
from extremal.storage.folder import Folder, open_root

__all__ = ["DATASETS", "Dataset", "DatasetError", "Pair", "open_dataset", "unreachable"]

DATASETS = ("voc", "coco", "imagenet", "folder", "shapes")

# Settings that only one dataset understands: given to another they would be silently without effect.
_OWNER = {"labels": "imagenet", "difficult_list": "voc", "target": "folder"}


def open_dataset(
    name: str,
    root: str,
    split: str | None = None,
    *,
    labels: str | None = None,
    difficult_list: str | None = None,
    seed: int = 0,
    target: int | None = None,
) -> Dataset:
    """Open the dataset in a local folder or below a URI such as s3://bucket/data.

    Args:
        name: one of DATASETS.
        split: voc "test" or "2007:test"; coco "val2014"; imagenet a sub-folder, optional; shapes "train"
            or "test" (the default).
        labels: imagenet, file of labels; default labels.csv in `root`, or else the class folders.
        difficult_list: voc, flags of the pointing game's Difficult subset; default: by rule.
        seed: shapes, what the images are drawn from.
        target: folder, network output to explain; default: the network's top-1.

    Raises:
        DatasetError: the name, a setting, a folder or a file is wrong, or its storage cannot be reached;
            the message names it and the fix.
    """
    for key, value in {"labels": labels, "difficult_list": difficult_list, "target": target}.items():
        if value is not None and name != _OWNER[key]:
            shown = printable(repr(value))
            raise DatasetError(f"{key} = {shown} is for the dataset {_OWNER[key]}, not {name}; remove it")
    if name == "folder" and split is not None:
        raise DatasetError(f"split = {split!r}: a folder has no splits; give the sub-folder as root")
    if name == "shapes" and "://" in root:
        raise DatasetError(
            f"{printable(root)}: shapes are drawn on this machine; give a local folder as root"
        )
    openers: dict[str, Callable[[Folder], Dataset]] = {
        "voc": lambda folder: open_voc(folder, split, difficult_list),
        "coco": lambda folder: open_coco(folder, split),
        "imagenet": lambda folder: open_imagenet(folder, split, labels),
        "folder": lambda folder: open_folder(folder, target),
        "shapes": lambda folder: open_shapes(Path(folder.root), split or "test", seed),
    }
    if name not in openers:
        raise DatasetError(f"unknown dataset {name!r}; choose one of: {', '.join(DATASETS)}")
    try:
        folder = open_root(root)
        if name != "shapes" and not folder.is_dir():
            raise DatasetError(f"{folder.show()}: no such folder; give the root of the {name} dataset")
        return openers[name](folder)
    except (PlaceError, OSError) as error:
        raise unreachable(root, error) from error


def unreachable(root: str, error: Exception) -> DatasetError:
    """What to raise when a dataset's storage fails while it is read."""
    return DatasetError(f"{printable(root)} cannot be read: {error}; check the address, rights and network")
