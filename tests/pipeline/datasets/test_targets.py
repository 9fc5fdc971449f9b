"""Targets: the tables agree with each other, and classes map onto outputs."""

import csv
from importlib.resources import files
from pathlib import Path

import pytest

from extremal.pipeline.datasets.coco import COCO_CLASSES
from extremal.pipeline.datasets.imagenet import imagenet_classes, imagenet_wnids
from extremal.pipeline.datasets.pairs import Dataset
from extremal.pipeline.datasets.targets import class_targets, without_synsets
from extremal.pipeline.datasets.voc import VOC_CLASSES
from extremal.pipeline.errors import DatasetError

CLASSES = {"voc": VOC_CLASSES, "coco": COCO_CLASSES}


def dataset(vocabulary: str, classes: tuple[str, ...]) -> Dataset:
    return Dataset("a set", "/data", classes, vocabulary, lambda: iter(()))


def rows() -> list[dict[str, str]]:
    with files("extremal.pipeline.datasets").joinpath("data/synsets.csv").open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_wnids() -> None:
    wnids = imagenet_wnids()
    assert len(wnids) == len(set(wnids)) == len(imagenet_classes()) == 1000
    assert list(wnids) == sorted(wnids)


def test_wnids_are_those_of_the_real_list(shared_data: Path) -> None:
    lines = (shared_data / "imagenet" / "synset_words.txt").read_text().splitlines()
    assert tuple(line.split()[0] for line in lines) == imagenet_wnids()


def test_table_agrees_with_imagenet() -> None:
    for row in rows():
        index = int(row["index"])
        assert (row["wnid"], row["name"]) == (imagenet_wnids()[index], imagenet_classes()[index])


def test_table_names_known_classes_once() -> None:
    keys = [(row["vocabulary"], row["class_name"], row["index"]) for row in rows()]
    assert len(keys) == len(set(keys))
    assert all(name in CLASSES[vocabulary] for vocabulary, name, _ in keys)


@pytest.mark.parametrize("vocabulary", ["voc", "coco"])
def test_no_synset_stands_for_two_classes(vocabulary: str) -> None:
    indices = [row["index"] for row in rows() if row["vocabulary"] == vocabulary]
    assert len(indices) == len(set(indices))


@pytest.mark.parametrize("vocabulary", ["voc", "coco"])
def test_translation_to_imagenet(vocabulary: str) -> None:
    classes = CLASSES[vocabulary]
    targets = class_targets(dataset(vocabulary, classes), 1000)
    by_name = {name: targets[index] for index, name in enumerate(classes)}
    assert by_name["dog"] == tuple(range(151, 269))
    assert by_name["cat"] == (281, 282, 283, 284, 285)
    assert len(by_name["bird"]) == 59
    assert tuple(name for name in classes if not by_name[name]) == without_synsets(vocabulary)


def test_classes_that_imagenet_lacks() -> None:
    assert without_synsets("voc") == ("person", "pottedplant")
    # The kite of COCO flies on a string, the one of ImageNet is a bird.
    assert {"person", "kite", "giraffe", "potted plant", "toilet"} <= set(without_synsets("coco"))


def test_coco_vocabulary() -> None:
    assert len(COCO_CLASSES) == len(set(COCO_CLASSES)) == 80
    assert (COCO_CLASSES[11], COCO_CLASSES[79]) == ("stop sign", "toothbrush")


@pytest.mark.parametrize(
    ("vocabulary", "classes"),
    [("voc", VOC_CLASSES), ("coco", COCO_CLASSES), ("shapes", ("a", "b")), ("imagenet", ("x",) * 1000)],
)
def test_a_network_of_the_datasets_own_classes(vocabulary: str, classes: tuple[str, ...]) -> None:
    targets = class_targets(dataset(vocabulary, classes), len(classes))
    assert targets == {index: (index,) for index in range(len(classes))}


def test_a_folder_names_outputs() -> None:
    assert class_targets(dataset("none", ()), 7)[6] == (6,)


@pytest.mark.parametrize(
    ("vocabulary", "classes", "outputs", "advice"),
    [
        ("imagenet", ("x",) * 1000, 1001, "use a network with 1000 outputs$"),
        ("shapes", ("a", "b"), 1000, "use a network with 2 outputs$"),
        ("none", VOC_CLASSES[:3], 1000, "use a network with 3 outputs$"),
        ("voc", VOC_CLASSES, 21, r"20 outputs, or one trained on ImageNet \(1000 outputs\)$"),
    ],
)
def test_refused_with_advice(vocabulary: str, classes: tuple[str, ...], outputs: int, advice: str) -> None:
    with pytest.raises(DatasetError, match=f"{outputs} outputs.*{advice}"):
        class_targets(dataset(vocabulary, classes), outputs)
