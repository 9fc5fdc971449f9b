"""Datasets with broken annotations among good ones."""

from collections.abc import Sequence
from pathlib import Path

import corpus

from extremal.pipeline.datasets.shapes import SHAPES

GOOD = corpus.encoded(corpus.noise(), "JPEG")


def make_voc(root: Path, annotations: dict[str, str | bytes | None], listed: bytes | None = None) -> Path:
    """VOC with an image for each annotation, and two images that are good."""
    year = root / "VOC2007"
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (year / name).mkdir(parents=True)
    (year / "classes.txt").write_text("\n".join(SHAPES))
    whole: dict[str, str | bytes | None] = {"good": corpus.voc_xml(), **annotations, "fine": corpus.voc_xml()}
    for image_id, xml in whole.items():
        (year / f"JPEGImages/{image_id}.jpg").write_bytes(GOOD)
        if xml is not None:
            data = xml if isinstance(xml, bytes) else xml.encode()
            (year / f"Annotations/{image_id}.xml").write_bytes(data)
    (year / "ImageSets/Main/test.txt").write_bytes("\n".join(whole).encode() if listed is None else listed)
    return root


def make_coco(root: Path, text: str, names: Sequence[str]) -> Path:
    (root / "annotations").mkdir(parents=True)
    (root / "val").mkdir()
    for name in names:
        (root / "val" / name).write_bytes(GOOD)
    (root / "annotations/instances_val.json").write_text(text)
    return root


def make_labels(root: Path, data: bytes) -> Path:
    root.mkdir()
    for name in ("good", "fine", "odd"):
        (root / f"{name}.jpg").write_bytes(GOOD)
    (root / "labels.csv").write_bytes(data)
    return root
