"""The unit of work, a pair (image, class), and the dataset that yields pairs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from posixpath import splitext

from extremal.pipeline.errors import DatasetError
from extremal.storage.folder import FileFault, Folder

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Pair:
    """One (image, class).

    `boxes` are x0, y0, x1, y1 of the class's objects in 0-based pixels, ends inclusive. `rle` is the union
    of the class's masks as COCO compressed run lengths. `class_id` is -1 where the class is unknown to the
    dataset or is left to the network. Where `known` is False the pair will fail: its class is unknown, or
    its annotation is broken.
    """

    image_id: str
    path: str
    class_id: int
    class_name: str
    width: int | None = None
    height: int | None = None
    boxes: tuple[Box, ...] = ()
    rle: str | None = None
    all_difficult: bool = False
    difficult: bool = False
    known: bool = True


@dataclass(frozen=True)
class Dataset:
    """Pairs below a root folder or URI. `classes` are names in class_id order, () if the network names them.

    `vocabulary` says whose names they are: voc, coco, imagenet, shapes or none (of these). `pairs` starts
    a new pass in a fixed order, all pairs of one image in a row.
    """

    name: str
    root: str
    classes: tuple[str, ...]
    vocabulary: str
    pairs: Callable[[], Iterator[Pair]]


@dataclass(frozen=True)
class Layout:
    """How the files of a dataset lie.

    Attributes:
        open: from a folder, the split and the settings below to the dataset; raises DatasetError.
        settings: names of those that it takes.
        splits: whether it has any.
        whole_images: whether the network is shown whole images, whose objects may lie anywhere, as the
            pointing protocol asks.
        multilabel: whether an image has several classes, each known to be there or not: to train on.
        drawn: it is made where it is opened, on this machine.
    """

    name: str
    open: Callable[..., Dataset]
    settings: tuple[str, ...] = ()
    splits: bool = True
    whole_images: bool = False
    multilabel: bool = False
    drawn: bool = False


def unknown_pair(image_id: str, path: str, class_name: str = "") -> Pair:
    """A pair that cannot be explained but must stay visible: it becomes a row among the failures."""
    return Pair(image_id, path, class_id=-1, class_name=class_name, known=False)


def is_difficult(area: int, width: int, height: int, other_classes: bool) -> bool:
    """The pointing game's Difficult subset: under a quarter of the image, with another class present.

    Args:
        area: summed area of the class's boxes, or area of its mask, in pixels.
    """
    return other_classes and 4 * area < width * height


def is_image(name: str) -> bool:
    """Whether a file name has an image's suffix; hidden files (such as `._x.jpg`) are not images."""
    return not name.startswith(".") and splitext(name)[1].lower() in IMAGE_SUFFIXES


def stem(path: str) -> str:
    """A posix path without its suffix, folders kept."""
    return splitext(path)[0]


def storable(name: str) -> str:
    """A name as a table can hold it: bytes that are no UTF-8 are written out, as \\udce9.

    No file has that name, so its pair fails and says so, and costs no other.
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def check_inside(name: str, source: str) -> str:
    """A file name read from a list, unchanged, if it stays below the folder it is joined to.

    Raises:
        DatasetError: it is empty, absolute or climbs with "..".
    """
    parts = set(name.split("/"))
    if parts <= {"", "."} or ".." in parts or name.startswith("/"):
        raise DatasetError(f"{source}: {name!r} is no name below the dataset's folder; correct it")
    return name


def read_text(folder: Folder, path: str, fix: str) -> str:
    """Content of a text file.

    Raises:
        DatasetError: it is missing or not UTF-8; the message ends with `fix`.
        OSError: the storage is lost.
    """
    try:
        return folder.read(path).decode("utf-8-sig")
    except (FileFault, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read {folder.show(path)} ({error}); {fix}") from error


def list_or_none(names: list[str]) -> str:
    """Names for an error message, at most twenty."""
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(sorted(names)[:20]) + more if names else "none"
