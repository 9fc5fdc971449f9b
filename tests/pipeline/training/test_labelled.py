"""Labels of a dataset's images."""

from pathlib import Path

from toy_training import SIDE, TRAIN, annotate, draw

from extremal.pipeline.datasets.open import open_dataset
from extremal.pipeline.training.labelled import labelled
from extremal.workers.training.batches import ABSENT, IGNORED, PRESENT


def test_labels_of_a_dataset(tmp_path: Path) -> None:
    root = draw(tmp_path / "data")
    said: list[str] = []
    folder = root / "VOCdevkit/VOC2007"
    annotate(folder, 0, [("red", 0, 0, True), ("green", 20, 0, True), ("green", 20, 20, False)])
    annotate(folder, 1, [("purple", 0, 0, False)])
    (folder / "Annotations/000002.xml").write_text("<annotation>")
    images = labelled(open_dataset("voc", str(root), "2007:train"), said.append)
    assert len(images) == TRAIN - 1
    assert images[0].labels == (IGNORED, PRESENT, ABSENT, ABSENT)
    assert images[0].width == SIDE
    assert images[1].labels == (ABSENT,) * 4
    assert said == [
        "1 images with a broken annotation left out, such as VOCdevkit/VOC2007/JPEGImages/000002.jpg"
    ]
