"""The labelled images of a task: those of a split to train on, those of another to measure on."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from extremal.pipeline.datasets.open import LAYOUTS, Dataset, open_dataset, unreachable
from extremal.pipeline.errors import ConfigError, DatasetError
from extremal.pipeline.training.task import Task
from extremal.storage.files import printable
from extremal.workers.training.batches import ABSENT, IGNORED, PRESENT, Labelled
from extremal.workers.training.training import Data


def labelled_data(task: Task, say: Callable[[str], None]) -> Data:
    """Both splits of a task; `say` is told what was counted and what was left out.

    Raises:
        ConfigError: the dataset has not several labels an image.
        DatasetError: it cannot be read, has no such splits, or an image is in both.
    """
    splits = [_open(task, split) for split in (task.split, task.test_split)]
    if splits[0].classes != splits[1].classes:
        raise DatasetError(f"the splits {task.split} and {task.test_split} have different classes")
    try:
        train, test = (labelled(dataset, say) for dataset in splits)
    except OSError as error:
        raise unreachable(task.root, error) from error
    _check(task, train, test)
    for purpose, images in (("train on", train), ("measure on", test)):
        say(f"{len(images)} images to {purpose}, {len(splits[0].classes)} classes")
    return Data(splits[0].root, train, test, splits[0].classes)


def labelled(dataset: Dataset, say: Callable[[str], None]) -> list[Labelled]:
    """A dataset's images with a label for each class, in order.

    A class whose objects are all PASCAL-difficult is IGNORED, as in VOC's own evaluation. Images with a
    broken annotation, whose classes are unknown, are left out and counted. Images without any object have
    no pair and are not among them.

    Raises:
        OSError: the annotations' storage is at fault.
    """
    images: dict[str, Labelled] = {}
    broken: list[str] = []
    blank = (ABSENT,) * len(dataset.classes)
    for pair in dataset.pairs():
        if pair.class_id < 0 and not pair.class_name:
            broken.append(pair.path)
            continue
        image = images.get(pair.path) or Labelled(pair.image_id, pair.path, blank)
        labels = list(image.labels)
        if pair.class_id >= 0:  # an object whose mask is broken is there all the same
            labels[pair.class_id] = IGNORED if pair.all_difficult else PRESENT
        width, height = pair.width or image.width, pair.height or image.height
        images[pair.path] = replace(image, labels=tuple(labels), width=width, height=height)
    if broken:
        say(f"{len(broken)} images with a broken annotation left out, such as {broken[0]}")
    return list(images.values())


def _open(task: Task, split: str) -> Dataset:
    several = sorted(name for name, layout in LAYOUTS.items() if layout.multilabel)
    if task.dataset not in several:
        names = ", ".join(several)
        raise ConfigError(f"--dataset {task.dataset} has not several labels an image; give one of {names}.")
    return open_dataset(task.dataset, task.root, split)


def _check(task: Task, train: Sequence[Labelled], test: Sequence[Labelled]) -> None:
    for images, split in ((train, task.split), (test, task.test_split)):
        if not images:
            raise DatasetError(f"{printable(task.root)}: the split {split} has no image with known classes")
    both = {image.path for image in train} & {image.path for image in test}
    if both:
        raise DatasetError(
            f"{len(both)} images are in {task.split} and in {task.test_split}, such as {sorted(both)[0]}: "
            "what is trained on must not be measured on; give another --test-split"
        )
