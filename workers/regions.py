"""How far a point is from the ground truth."""

from collections.abc import Sequence

import numpy as np


def distance2(
    x: int, y: int, boxes: Sequence[Sequence[int]], rle: str | None, width: int, height: int
) -> int | None:
    """Squared distance, in pixels, from a point to the nearest pixel of a region: 0 inside.

    Args:
        x, y: column and row, from 0.
        boxes: x0, y0, x1, y1 from 0, ends inclusive; the region is their union, unless `rle` is given.
        rle: the region as COCO compressed run lengths of a mask of `width` x `height` pixels.

    Returns:
        None if there is no region: no boxes, or a mask without a pixel.

    Raises:
        ValueError: `rle` is not a mask of that size.
    """
    if rle is not None:
        return _mask_distance2(x, y, rle, width, height)
    return min((_box_distance2(x, y, box) for box in boxes), default=None)


def _box_distance2(x: int, y: int, box: Sequence[int]) -> int:
    x0, y0, x1, y1 = (int(edge) for edge in box)
    dx = max(x0 - x, 0, x - x1)
    dy = max(y0 - y, 0, y - y1)
    return dx * dx + dy * dy


def _mask_distance2(x: int, y: int, rle: str, width: int, height: int) -> int | None:
    from pycocotools import mask as coco_mask  # only COCO needs it

    encoded = {"size": [height, width], "counts": rle.encode("ascii")}
    mask = coco_mask.decode(encoded)
    ys, xs = np.nonzero(mask)
    if len(xs) == 0:
        return None
    return int(((xs - x) ** 2 + (ys - y) ** 2).min())
