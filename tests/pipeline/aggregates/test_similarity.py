"""Similarity of classes: against scipy and against clusters that are known."""

import time
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from scipy.spatial.distance import cosine as cosine_distance

from extremal.jobs.drawing import NAMED, similarity_map
from extremal.pipeline.aggregates.class_channels import CLASS_CHANNELS
from extremal.pipeline.aggregates.similarity import (
    CLOSEST,
    CLOSEST_CLASSES,
    Similarity,
    closest_classes,
    similarity,
)


def table(masks: Any) -> pa.Table:
    rows = [
        {
            "class_id": 10 + i,
            "class_name": f"class {i}",
            "n": 5,
            "n_no_a_star": i % 2,
            "mean_mask": None if mask is None else list(mask),
        }
        for i, mask in enumerate(masks)
    ]
    return pa.Table.from_pylist(rows, schema=CLASS_CHANNELS)


def test_cosines_are_scipys() -> None:
    masks = np.random.default_rng(0).random((9, 20)).astype(np.float32)
    found = similarity(table(masks))
    mean = masks.astype(np.float64).mean(0)
    for i in range(9):
        for j in range(9):
            raw, centred = (1 - cosine_distance(masks[i] - m, masks[j] - m) for m in (0, mean))
            assert found.raw[i, j] == pytest.approx(raw, abs=1e-6)
            assert found.cosine[i, j] == pytest.approx(centred, abs=1e-6)
    assert found.classes[3] == (13, "class 3")
    assert found.pairs.tolist() == [5, 4, 5, 4, 5, 4, 5, 4, 5]


def test_what_is_common_hides_clusters_from_raw_cosines_only() -> None:
    """Three families of classes, shuffled, on top of a large common part: the order brings them together."""
    rng = np.random.default_rng(1)
    family = rng.permutation(np.repeat([0, 1, 2], 8))
    masks = 0.8 + 0.02 * rng.random((24, 30))
    for i, f in enumerate(family):
        masks[i, 10 * f : 10 * f + 10] += 0.1
    found = similarity(table(masks))
    assert found.raw.min() > 0.99
    same = family[:, None] == family[None]
    assert found.cosine[same].min() > 0.5
    assert found.cosine[~same].max() < 0
    assert sorted(found.order) == list(range(24))
    assert np.count_nonzero(np.diff(family[found.order])) == 2
    pairs = closest_classes(found).to_pylist()
    inside = sum(8 * 7 // 2 for _ in range(3))
    for place, pair in enumerate(pairs):
        assert (family[pair["class_id"] - 10] == family[pair["other_id"] - 10]) == (place < inside)


def test_the_table_lists_pairs_once_the_closest_first() -> None:
    found = similarity(table(np.random.default_rng(2).random((6, 12))))
    pairs = closest_classes(found)
    assert pairs.schema == CLOSEST_CLASSES
    rows = pairs.to_pylist()
    assert {(r["class_id"], r["other_id"]) for r in rows} == {
        (10 + i, 10 + j) for i in range(6) for j in range(i + 1, 6)
    }
    assert [r["centred_cosine"] for r in rows] == sorted((r["centred_cosine"] for r in rows), reverse=True)
    for row in rows:
        i, j = row["class_id"] - 10, row["other_id"] - 10
        assert (row["centred_cosine"], row["raw_cosine"]) == (found.cosine[i, j], found.raw[i, j])
        assert (row["n"], row["n_other"]) == (5 - i % 2, 5 - j % 2)
        assert row["other_name"] == f"class {j}"


def test_classes_without_a_mask_are_counted_and_left_out() -> None:
    masks = np.random.default_rng(3).random((3, 8))
    found = similarity(table([None, *masks[:2], None, masks[2]]))
    assert found.left_out == 2
    assert [key[0] for key in found.classes] == [11, 12, 14]
    for few in ([], [None], [None, masks[0]]):
        small = similarity(table(few))
        assert len(small.order) == len(small.classes) == len(few) - small.left_out
        assert closest_classes(small).num_rows == 0


def test_classes_that_do_not_differ_have_no_direction() -> None:
    found = similarity(table([[0.3, 0.7, 0.1]] * 3))
    assert (found.cosine == 0).all()
    np.testing.assert_allclose(found.raw, 1, atol=1e-12)
    assert sorted(found.order) == [0, 1, 2]


def test_a_thousand_classes_take_seconds() -> None:
    masks = np.random.default_rng(4).random((1000, 528))
    classes = table(masks)
    start = time.process_time()
    found = similarity(classes)
    pairs = closest_classes(found)
    assert time.process_time() - start < 20
    assert pairs.num_rows == CLOSEST
    off = found.cosine[~np.eye(1000, dtype=bool)]
    assert pairs["centred_cosine"][0].as_py() == off.max()


@pytest.mark.parametrize("count", [2, NAMED + 1])
def test_the_map_is_a_picture_of_the_cosines(count: int) -> None:
    """White where the cosine is 0, orange where it is 1; names of any letters do no harm."""
    names = tuple((i, "$a_{b$ <i>") for i in range(count))
    counts, order = np.ones(count, np.int64), np.arange(count)[::-1]
    found = Similarity(names, counts, np.eye(count), np.eye(count), order, 0)
    with Image.open(BytesIO(similarity_map(found))) as picture:
        assert min(picture.size) > 300
        drawn = picture.convert("RGB")
        colours = {colour: number for number, colour in drawn.getcolors(drawn.width * drawn.height)}
    one, zero = (matplotlib.colormaps["PuOr_r"](value, bytes=True)[:3] for value in (1.0, 0.5))
    # One cell of a row is 1 and the others 0; the bar beside the map adds a line or two of each.
    assert colours[one] / (colours[one] + colours[zero]) == pytest.approx(1 / count, abs=0.02)
    assert colours[one] + colours[zero] > 100_000
