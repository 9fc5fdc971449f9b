"""How far a point is from the ground truth."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


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


def share_inside(
    saliency: Floats, boxes: Sequence[Sequence[int]], rle: str | None, width: int, height: int
) -> float | None:
    """Share of a map's positive values that lies on a region (energy-based pointing, Wang et al. 2020).

    Args:
        saliency: (height,width).
        boxes, rle: the region, as for `distance2`.

    Returns:
        In 0..1; None if there is no region, or the map has no positive value.

    Raises:
        ValueError: `rle` is not a mask of that size.
    """
    inside = np.zeros((height, width), bool)
    if rle is not None:
        inside |= decode_mask(rle, width, height)
    else:
        for x0, y0, x1, y1 in boxes:
            inside[max(y0, 0) : max(y1 + 1, 0), max(x0, 0) : max(x1 + 1, 0)] = True
    positive = np.maximum(saliency, 0)
    total = float(positive.sum(dtype=np.float64))
    if not inside.any() or total == 0:
        return None
    return float(positive[inside].sum(dtype=np.float64)) / total


def _box_distance2(x: int, y: int, box: Sequence[int]) -> int:
    x0, y0, x1, y1 = (int(edge) for edge in box)
    dx = max(x0 - x, 0, x - x1)
    dy = max(y0 - y, 0, y - y1)
    return dx * dx + dy * dy


def _mask_distance2(x: int, y: int, rle: str, width: int, height: int) -> int | None:
    ys, xs = np.nonzero(decode_mask(rle, width, height))
    if len(xs) == 0:
        return None
    return int(((xs - x) ** 2 + (ys - y) ** 2).min())


@lru_cache(maxsize=64)  # the methods of a batch ask for the same masks in turn
def decode_mask(rle: str, width: int, height: int) -> npt.NDArray[np.bool_]:
    """COCO compressed run lengths as a mask (height,width), not to be changed.

    Raises:
        ValueError: `rle` is not a mask of that size.
    """
    from pycocotools import mask as coco_mask  # only COCO needs it

    encoded = {"size": [height, width], "counts": rle.encode("ascii")}
    mask: npt.NDArray[np.bool_] = coco_mask.decode(encoded).astype(bool)
    return mask
