"""Opens a dataset by the name of its layout: one file each, and one entry in LAYOUTS."""

from collections.abc import Mapping
from typing import Any

from extremal.pipeline.datasets.coco import COCO_LAYOUT
from extremal.pipeline.datasets.image_folder import FOLDER
from extremal.pipeline.datasets.imagenet import IMAGENET
from extremal.pipeline.datasets.pairs import Dataset, Layout, Pair
from extremal.pipeline.datasets.shapes import SHAPES_LAYOUT
from extremal.pipeline.datasets.voc import VOC
from extremal.pipeline.errors import DatasetError
from extremal.storage.errors import PlaceError
from extremal.storage.files import printable
from extremal.storage.folder import open_root

__all__ = ["LAYOUTS", "Dataset", "DatasetError", "Pair", "open_dataset", "unreachable"]

LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout for layout in (IMAGENET, VOC, COCO_LAYOUT, FOLDER, SHAPES_LAYOUT)
}


def open_dataset(name: str, root: str, split: str | None = None, **settings: Any) -> Dataset:
    """Open the dataset in a local folder or below a URI such as s3://bucket/data.

    Args:
        name: one of LAYOUTS.
        split: voc "test" or "2007:test"; coco "val2014"; imagenet a sub-folder, optional; shapes "train"
            or "test" (the default).
        **settings: what the layout understands, None as if it were not given.
            labels: imagenet, file of labels; default labels.csv in `root`, or else the class folders.
            difficult_list: voc, flags of the pointing game's Difficult subset; default: by rule.
            seed: shapes, what the images are drawn from.
            target: folder, network output to explain; default: the network's top-1.

    Raises:
        DatasetError: the name, a setting, a folder or a file is wrong, or its storage cannot be reached;
            the message names it and the fix.
    """
    if name not in LAYOUTS:
        raise DatasetError(f"unknown dataset {name!r}; choose one of: {', '.join(LAYOUTS)}")
    layout = LAYOUTS[name]
    given = {key: value for key, value in settings.items() if value is not None}
    for key, value in given.items():
        # Given to a layout that does not understand it, it would be silently without effect.
        if key not in layout.settings:
            owners = " or ".join(other.name for other in LAYOUTS.values() if key in other.settings)
            shown = printable(repr(value))
            raise DatasetError(f"{key} = {shown} is for the dataset {owners}, not {name}; remove it")
    if split is not None and not layout.splits:
        raise DatasetError(f"split = {split!r}: a {name} has no splits; give the sub-folder as root")
    if layout.drawn and "://" in root:
        raise DatasetError(
            f"{printable(root)}: {name} are drawn on this machine; give a local folder as root"
        )
    try:
        folder = open_root(root)
        if not layout.drawn and not folder.is_dir():
            raise DatasetError(f"{folder.show()}: no such folder; give the root of the {name} dataset")
        return layout.open(folder, split, **given)
    except (PlaceError, OSError) as error:
        raise unreachable(root, error) from error


def unreachable(root: str, error: Exception) -> DatasetError:
    """What to raise when a dataset's storage fails while it is read."""
    return DatasetError(f"{printable(root)} cannot be read: {error}; check the address, rights and network")
