"""Images with multi-hot labels as batches: decoded and, for training, varied, by threads."""

import hashlib
import math
import random
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode

from extremal.storage.folder import Folder
from extremal.workers.errors import ImageError
from extremal.workers.images import Preprocess, load
from extremal.workers.training.augmentations import Augmentation

PRESENT, ABSENT, IGNORED = 1, 0, -1
AHEAD = 2  # batches in work besides the one in use


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
class Images:
    """The inputs of images below a folder, decoded by `threads` threads.

    Attributes:
        side: of the augmented images for training, pixels.
        augmentation: None = whole images as `preprocess` makes them.
    """

    folder: Folder
    images: Sequence[Labelled]
    preprocess: Preprocess
    side: int
    seed: int
    threads: int
    augmentation: Augmentation | None = None

    def batches(self, indices: Sequence[Sequence[int]], epoch: int) -> Iterator[Batch]:
        """The batches of these indices in order, the next ones being decoded meanwhile.

        Raises:
            OSError: the storage is at fault, and another attempt may succeed.
        """
        pool = ThreadPoolExecutor(self.threads)
        waiting: deque[list[Future[tuple[int, Tensor | str]]]] = deque()
        todo = iter(indices)
        try:
            while True:
                for chosen in islice(todo, AHEAD + 1 - len(waiting)):
                    waiting.append([pool.submit(self.input, index, epoch) for index in chosen])
                if not waiting:
                    return
                yield _collate([future.result() for future in waiting.popleft()])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def input(self, index: int, epoch: int) -> tuple[int, Tensor | str]:
        """An image's index, and its input in an epoch, or what is wrong with it.

        Raises:
            OSError: as `batches`.
        """
        image = self.images[index]
        try:
            picture = load(self.folder, image.path)
            if self.augmentation is None:
                return index, self.preprocess(picture)
        except ImageError as error:
            return index, str(error)
        # Of the image and the epoch alone: a resumed run must see what an uninterrupted one does.
        chance = random.Random(seed_of(self.seed, epoch, image.image_id))
        mode = InterpolationMode(self.preprocess.interpolation)
        varied = self.augmentation(picture, self.side, mode, chance)
        return index, self.preprocess.normalised(varied)


def seed_of(*parts: object) -> int:
    """Seed in [0, 2**63) from whatever should decide it."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def shuffled(count: int, batch: int, seed: int, epoch: int) -> list[list[int]]:
    """Every image once, in the order of the seed and the epoch, in batches of nearly the same size.

    A last batch of one image would stop a batch norm.
    """
    order = list(range(count))
    random.Random(seed_of(seed, epoch)).shuffle(order)
    steps = math.ceil(count / batch)
    bounds = [count * i // steps for i in range(steps + 1)]
    return [order[start:end] for start, end in pairwise(bounds)]


def by_shape(images: Sequence[Labelled], preprocess: Preprocess, batch: int) -> list[list[int]]:
    """Batches for evaluation: images that become inputs of one shape stand side by side."""

    def shape(index: int) -> tuple[int, int]:
        width, height = images[index].width, images[index].height
        return preprocess.input_shape(width, height) if width and height else (0, 0)

    order = sorted(range(len(images)), key=shape)
    return [order[i : i + batch] for i in range(0, len(order), batch)]


def _collate(items: list[tuple[int, Tensor | str]]) -> Batch:
    groups: dict[tuple[int, ...], list[tuple[int, Tensor]]] = defaultdict(list)
    faults: dict[int, str] = {}
    for index, item in items:
        if isinstance(item, str):
            faults[index] = item
        else:
            groups[tuple(item.shape)].append((index, item))
    stacked = [([i for i, _ in group], torch.stack([x for _, x in group])) for group in groups.values()]
    return Batch(stacked, faults)
