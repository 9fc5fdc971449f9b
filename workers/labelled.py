"""Images with multi-hot labels as batches: decoded, varied for training, by processes of a DataLoader."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import InterpolationMode, v2

from storage.folder import Folder, open_root
from workers.images import ImageError, Preprocess, load

PRESENT, ABSENT, IGNORED = 1, 0, -1
CROP_AREA = (0.25, 1.0)  # a crop that shows less would often miss the object that its label names

Key = tuple[int, int]  # epoch, index of the image


@dataclass(frozen=True)
class Labelled:
    """An image: its path below the root, PRESENT, ABSENT or IGNORED per class, its pixels if known."""

    image_id: str
    path: str
    labels: tuple[int, ...]
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class Batch:
    """Inputs (n, 3, h, w) of one shape each, with their images' indices, and what cannot be read: why."""

    groups: list[tuple[list[int], Tensor]]
    faults: dict[int, str]


@dataclass(frozen=True)
class Images(Dataset[tuple[int, Tensor | str]]):
    """Inputs by (epoch, index): plain values and a path, so that a process of its own can be given it.

    Attributes:
        side: of the random crops for training, pixels; None = whole images as `preprocess` makes them.
    """

    root: str
    images: Sequence[Labelled]
    preprocess: Preprocess
    side: int | None
    seed: int

    def __getitem__(self, key: Key) -> tuple[int, Tensor | str]:
        """The image's index, and its input or what is wrong with it.

        Raises:
            OSError: the storage is at fault, and another attempt may succeed.
        """
        epoch, index = key
        image = self.images[index]
        try:
            picture = load(_folder(self.root), image.path)
            if self.side is None:
                return index, self.preprocess(picture)
        except ImageError as error:
            return index, str(error)
        # Of the image and the epoch alone: a resumed run must see what an uninterrupted one does.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_of(self.seed, epoch, image.image_id))
            varied: Tensor = _variation(self.preprocess, self.side)(picture)
        return index, varied


_FOLDERS: dict[str, Folder] = {}  # a store is opened once in each process


def _folder(root: str) -> Folder:
    if root not in _FOLDERS:
        _FOLDERS[root] = open_root(root)
    return _FOLDERS[root]


def seed_of(*parts: object) -> int:
    """Seed in [0, 2**63) from whatever should decide it."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def _variation(preprocess: Preprocess, side: int) -> v2.Compose:
    """A random part of random size, perhaps mirrored, as an input of side x side pixels."""
    mode = InterpolationMode(preprocess.interpolation)
    return v2.Compose(
        [
            v2.RandomResizedCrop(side, scale=CROP_AREA, interpolation=mode, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(preprocess.mean), list(preprocess.std)),
        ]
    )


class Shuffled(Sampler[list[Key]]):
    """Every image once, in the order of the seed and `epoch`, in batches of nearly the same size.

    A last batch of one image would stop a batch norm.
    """

    def __init__(self, count: int, batch: int, seed: int) -> None:
        self.epoch = 0
        self._count, self._batch, self._seed = count, batch, seed

    def __len__(self) -> int:
        return math.ceil(self._count / self._batch)

    def __iter__(self) -> Iterator[list[Key]]:
        generator = torch.Generator().manual_seed(seed_of(self._seed, self.epoch))
        order = torch.randperm(self._count, generator=generator)
        for chosen in order.tensor_split(len(self)):
            yield [(self.epoch, index) for index in chosen.tolist()]


def by_shape(images: Sequence[Labelled], preprocess: Preprocess, batch: int) -> list[list[Key]]:
    """Batches for evaluation: images that become inputs of one shape stand side by side."""

    def shape(index: int) -> tuple[int, int]:
        image = images[index]
        known = image.width and image.height
        return preprocess.input_shape(image.width, image.height) if known else (0, 0)  # type: ignore[arg-type]

    order = sorted(range(len(images)), key=shape)
    return [[(0, index) for index in order[i : i + batch]] for i in range(0, len(order), batch)]


def loader(
    images: Images, batches: Shuffled | list[list[Key]], workers: int, on_gpu: bool
) -> "DataLoader[tuple[int, Tensor | str]]":
    """Batches of `images`, decoded by `workers` processes that stay, or here if there are none."""
    return DataLoader(
        images,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=on_gpu,
        persistent_workers=workers > 0,
        # A forked process would share the threads and locks of an object store's client.
        multiprocessing_context="spawn" if workers else None,
        generator=torch.Generator(),  # or it would draw from torch's own, which dropout draws from
    )


def _collate(items: list[tuple[int, Tensor | str]]) -> Batch:
    groups: dict[tuple[int, ...], list[tuple[int, Tensor]]] = defaultdict(list)
    faults: dict[int, str] = {}
    for index, found in items:
        if isinstance(found, str):
            faults[index] = found
        else:
            groups[tuple(found.shape)].append((index, found))
    stacked = [([i for i, _ in group], torch.stack([x for _, x in group])) for group in groups.values()]
    return Batch(stacked, faults)
