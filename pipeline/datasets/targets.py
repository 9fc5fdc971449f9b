"""Which outputs of a network stand for which classes of a dataset."""

import csv
from functools import lru_cache
from importlib.resources import files

from extremal.pipeline.datasets.coco import COCO_CLASSES
from extremal.pipeline.datasets.pairs import Dataset
from extremal.pipeline.datasets.voc import VOC_CLASSES
from extremal.pipeline.errors import DatasetError
from extremal.storage.files import printable

IMAGENET_OUTPUTS = 1000

# Vocabularies that data/synsets.csv translates. It lists the ImageNet classes that ARE the class (a beagle
# is a dog), after VOC's annotation guidelines and WordNet, not those that go with it (a flower pot with a
# potted plant, a toilet seat with a toilet).
_TRANSLATED = {"voc": VOC_CLASSES, "coco": COCO_CLASSES}


def class_targets(dataset: Dataset, outputs: int) -> dict[int, tuple[int, ...]]:
    """For each class_id the network outputs that stand for it; () if the network has none.

    Args:
        outputs: number of the network's outputs.

    Raises:
        DatasetError: nothing says how the outputs correspond to the classes.
    """
    if not dataset.classes or outputs == len(dataset.classes):
        return {index: (index,) for index in range(outputs)}
    if dataset.vocabulary in _TRANSLATED and outputs == IMAGENET_OUTPUTS:
        table = _synsets(dataset.vocabulary)
        return {index: table.get(name, ()) for index, name in enumerate(dataset.classes)}
    translated = dataset.vocabulary in _TRANSLATED
    also = f", or one trained on ImageNet ({IMAGENET_OUTPUTS} outputs)" if translated else ""
    raise DatasetError(
        f"the network has {outputs} outputs, but {dataset.name} in {printable(dataset.root)} has "
        f"{len(dataset.classes)} classes; use a network with {len(dataset.classes)} outputs{also}"
    )


def without_synsets(vocabulary: str) -> tuple[str, ...]:
    """Classes of voc or coco that no ImageNet class stands for."""
    return tuple(name for name in _TRANSLATED[vocabulary] if name not in _synsets(vocabulary))


@lru_cache(maxsize=2)
def _synsets(vocabulary: str) -> dict[str, tuple[int, ...]]:
    table: dict[str, tuple[int, ...]] = {}
    with files(__package__).joinpath("data/synsets.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["vocabulary"] == vocabulary:
                name = row["class_name"]
                table[name] = (*table.get(name, ()), int(row["index"]))
    return table
