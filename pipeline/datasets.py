"""Opens a dataset by name."""

from collections.abc import Callable
from pathlib import Path

from pipeline.coco import open_coco
from pipeline.folder import open_folder
from pipeline.imagenet import open_imagenet
from pipeline.pairs import Dataset, DatasetError, Pair
from pipeline.shapes import open_shapes
from pipeline.voc import open_voc

__all__ = ["DATASETS", "Dataset", "DatasetError", "Pair", "open_dataset"]

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
    """Open the dataset in a local folder.

    Args:
        name: one of DATASETS.
        split: voc "test" or "2007:test"; coco "val2014"; imagenet a sub-folder, optional; shapes "train"
            or "test" (the default).
        labels: imagenet, file of labels; default labels.csv in `root`, or else the class folders.
        difficult_list: voc, flags of the pointing game's Difficult subset; default: by rule.
        seed: shapes, what the images are drawn from.
        target: folder, network output to explain; default: the network's top-1.

    Raises:
        DatasetError: the name, a setting, a folder or a file is wrong; the message names it and the fix.
    """
    for key, value in {"labels": labels, "difficult_list": difficult_list, "target": target}.items():
        if value is not None and name != _OWNER[key]:
            raise DatasetError(f"{key} = {value!r} is for the dataset {_OWNER[key]}, not {name}; remove it")
    if name == "folder" and split is not None:
        raise DatasetError(f"split = {split!r}: a folder has no splits; give the sub-folder as root")
    openers: dict[str, Callable[[Path], Dataset]] = {
        "voc": lambda path: open_voc(path, split, _path(difficult_list)),
        "coco": lambda path: open_coco(path, split),
        "imagenet": lambda path: open_imagenet(path, split, _path(labels)),
        "folder": lambda path: open_folder(path, target),
        "shapes": lambda path: open_shapes(path, split or "test", seed),
    }
    if name not in openers:
        raise DatasetError(f"unknown dataset {name!r}; choose one of: {', '.join(DATASETS)}")
    # Workers may run in another directory, so the root is made absolute here.
    folder = Path(root).expanduser().absolute()
    if not folder.is_dir() and name != "shapes":
        raise DatasetError(f"{folder}: no such folder; give the root of the {name} dataset")
    return openers[name](folder)


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name).expanduser()
