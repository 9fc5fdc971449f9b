"""Distances against brute force over pixels."""

import numpy as np
import numpy.typing as npt
import pytest
from pycocotools import mask as coco_mask

from extremal.workers.pointing.ground_truth import distance2

WIDTH, HEIGHT = 23, 17
Mask = npt.NDArray[np.bool_]


def brute_force(x: int, y: int, mask: Mask) -> int:
    return min((int(u) - x) ** 2 + (int(v) - y) ** 2 for v, u in np.argwhere(mask))


def to_rle(mask: Mask) -> str:
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))  # type: ignore[no-untyped-call]
    return str(encoded["counts"].decode("ascii"))


def random_boxes(rng: np.random.Generator) -> tuple[list[tuple[int, int, int, int]], Mask]:
    boxes: list[tuple[int, int, int, int]] = []
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for _ in range(rng.integers(1, 4)):
        x0, x1 = sorted(int(v) for v in rng.integers(0, WIDTH, 2))
        y0, y1 = sorted(int(v) for v in rng.integers(0, HEIGHT, 2))
        boxes.append((x0, y0, x1, y1))
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return boxes, mask


@pytest.mark.parametrize("seed", range(20))
def test_boxes_and_their_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, mask = random_boxes(rng)
    rle = to_rle(mask)
    for x, y in rng.integers((-3, -3), (WIDTH + 3, HEIGHT + 3), (20, 2)).tolist():
        expected = brute_force(x, y, mask)
        assert distance2(x, y, boxes, None, WIDTH, HEIGHT) == expected
        assert distance2(x, y, [], rle, WIDTH, HEIGHT) == expected


@pytest.mark.parametrize("density", [0.01, 0.5])
def test_scattered_masks(density: float) -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((HEIGHT, WIDTH)) < density
    mask[3, 5] = True
    for y in range(HEIGHT):
        for x in range(WIDTH):
            assert distance2(x, y, [], to_rle(mask), WIDTH, HEIGHT) == brute_force(x, y, mask)


def test_ends_are_inclusive() -> None:
    box = (2, 3, 5, 7)
    inside, beside, diagonal = (5, 7), (6, 7), (1, 2)
    assert [distance2(*p, [box], None, WIDTH, HEIGHT) for p in (inside, beside, diagonal)] == [0, 1, 2]


def test_the_mask_wins_over_its_box() -> None:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[0, 0] = mask[9, 9] = True
    assert distance2(9, 0, [(0, 0, 9, 9)], to_rle(mask), WIDTH, HEIGHT) == 81


def test_no_region() -> None:
    assert distance2(0, 0, [], None, WIDTH, HEIGHT) is None
    assert distance2(0, 0, [], to_rle(np.zeros((HEIGHT, WIDTH), dtype=bool)), WIDTH, HEIGHT) is None


def test_mask_of_another_size() -> None:
    rle = to_rle(np.ones((HEIGHT, WIDTH), dtype=bool))
    with pytest.raises(ValueError, match="RLE"):
        distance2(0, 0, [], rle, WIDTH - 1, HEIGHT)


def test_large_distances_do_not_overflow() -> None:
    mask = np.zeros((1, 60_000), dtype=bool)
    mask[0, 0] = True
    assert distance2(59_999, 0, [], to_rle(mask), 60_000, 1) == 59_999**2
