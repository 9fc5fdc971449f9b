"""Shapes: tight boxes, the same bytes from the same seed, and nothing to be had from the image's centre."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extremal.pipeline.datasets.open import open_dataset
from extremal.pipeline.datasets.shapes import SHAPES, draw_shapes, make_shapes
from extremal.pipeline.errors import DatasetError
from extremal.workers.pointing.ground_truth import distance2

SIZE = 64


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shapes")
    make_shapes(path, train=60, test=10, size=SIZE)
    return path


def read_all(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_pairs(root: Path) -> None:
    dataset = open_dataset("shapes", str(root), "train")
    pairs = list(dataset.pairs())
    assert (dataset.name, dataset.vocabulary, dataset.classes) == ("shapes", "shapes", SHAPES)
    assert len(pairs) == 120
    assert {p.class_name for p in pairs} == set(SHAPES)
    assert all(p.known and len(p.boxes) == 1 and SHAPES[p.class_id] == p.class_name for p in pairs)
    for pair in pairs:
        with Image.open(root / pair.path) as image:
            assert image.size == (pair.width, pair.height) == (SIZE, SIZE)


def test_test_split_is_the_default(root: Path) -> None:
    assert len(list(open_dataset("shapes", str(root)).pairs())) == 20
    with pytest.raises(DatasetError, match="choose one of: 2007:test, 2007:train"):
        open_dataset("shapes", str(root), "val")


def test_sizes_and_places(root: Path) -> None:
    pairs = list(open_dataset("shapes", str(root), "train").pairs())
    boxes = np.array([p.boxes[0] for p in pairs])
    assert boxes.min() >= 0
    assert boxes.max() < SIZE
    sides = (boxes[:, 2:] - boxes[:, :2] + 1).max(1) / SIZE
    assert (sides > 0.15).all()
    assert (sides < 0.4).all()
    centre = SIZE // 2
    hits = [distance2(centre, centre, p.boxes, None, SIZE, SIZE) == 0 for p in pairs]
    assert np.mean(hits) < 0.2
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / SIZE
    assert (centres.min(0) < 0.25).all()
    assert (centres.max(0) > 0.75).all()


def test_boxes_are_tight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extremal.pipeline.datasets.shapes._NOISE", 0)
    monkeypatch.setattr(
        "extremal.pipeline.datasets.shapes._background",
        lambda size, rng: (np.zeros((size, size, 3)), np.zeros(3)),
    )
    for seed in range(20):
        image, objects = draw_shapes(SIZE, np.random.default_rng(seed))
        drawn = np.asarray(image).max(2) > 0
        for _, (x0, y0, x1, y1) in objects:
            inside = drawn[y0 : y1 + 1, x0 : x1 + 1]
            for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert edge.any()
        for _, (x0, y0, x1, y1) in objects:
            drawn = drawn.copy()
            drawn[y0 : y1 + 1, x0 : x1 + 1] = False
        assert not drawn.any()


def test_same_seed_same_bytes(root: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path / "again", train=60, test=10, size=SIZE)
    assert read_all(tmp_path / "again") == read_all(root)


def test_an_image_does_not_depend_on_the_others(root: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path, train=2, test=1, size=SIZE)
    small, large = read_all(tmp_path), read_all(root)
    images = [name for name in small if name.endswith((".jpg", ".xml"))]
    assert len(images) == 6
    assert all(small[name] == large[name] for name in images)


def test_drawn_on_first_use_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def draw_few(root: Path, train: int, test: int, seed: int) -> None:
        calls.append((train, test))
        make_shapes(root, train=1, test=2, size=SIZE, seed=seed)

    monkeypatch.setattr("extremal.pipeline.datasets.shapes.make_shapes", draw_few)
    for _ in range(2):
        assert len(list(open_dataset("shapes", str(tmp_path / "new"), seed=3).pairs())) == 4
    assert calls == [(512, 64)]
    with pytest.raises(DatasetError, match="holds shapes of seed 3, not 0; give another root"):
        open_dataset("shapes", str(tmp_path / "new"))
