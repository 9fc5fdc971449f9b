"""Rows of the results: from tensors and errors to the tables of the store."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from extremal.storage.kinds import PAIR, Unit
from extremal.workers.errors import ImageError
from extremal.workers.pointing.ground_truth import decode_mask, distance2, share_inside
from extremal.workers.pointing.point import Region, locate, peak, to_original
from extremal.workers.pointing.smooth import Smooth

Row = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """A unit ready to be computed. region, width, height: its place in the original image, pixels."""

    row: Row
    input: Tensor
    region: Region
    width: int
    height: int
    seed: int


def unit_seed(seed: int, unit: Unit, row: Row) -> int:
    """Seed of a unit, from the run's seed and what identifies it alone: in [0, 2**63)."""
    key = f"{seed}\n{unit.identify(row)}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def check_size(row: Row, size: tuple[int, int]) -> None:
    """Refuse an image (width, height) of another size than its annotation: its boxes mean other pixels.

    Raises:
        ImageError: with both sizes, or of a mask that is none of that size.
    """
    annotated = (row["width"], row["height"])
    if None not in annotated and annotated != size:
        raise ImageError(
            f"{row['path']} is {size[0]}x{size[1]}, but its annotation was made for "
            f"{annotated[0]}x{annotated[1]}: the file is not the annotated one"
        )
    if row["rle"] is not None:
        try:
            decode_mask(row["rle"], *size)
        except ValueError as error:
            raise ImageError(f"the mask of {row['class_name']!r} in {row['path']}: {error}") from error


def failure(row: Row, stage: str, error: Exception) -> Row:
    """What a row of `FAILURES` says besides the unit's key, which it takes over."""
    message = str(error) or type(error).__name__
    return {**row, "stage": stage, "error_type": type(error).__name__, "error": message}


def point_row(item: Item, method: str, x: int, y: int) -> Row:
    """A row of `POINTS` for a point that comes from no map."""
    row, width, height = item.row, item.width, item.height
    return {
        **{name: row[name] for name in PAIR.key_names},
        "method": method,
        "x": x,
        "y": y,
        "width": width,
        "height": height,
        "distance2": distance2(x, y, row["boxes"], row["rle"], width, height),
        "box_distance2": distance2(x, y, row["boxes"], None, width, height),
        "plain_distance2": None,
        "energy_inside": None,
        "all_difficult": row["all_difficult"],
        "difficult": row["difficult"],
    }


def saliency_point(item: Item, method: str, saliency: Tensor, smooth: Smooth) -> Row:
    """A row of `POINTS` for the maximum of a map (h,w) on the CPU."""
    row, size = item.row, (item.width, item.height)
    truth = row["boxes"], row["rle"]
    drawn = to_original(saliency, item.region, *size)
    plain = peak(drawn, item.region)
    point = locate(saliency, item.region, *size, smooth) if smooth.fraction else plain
    located = point_row(item, method, *point)
    if located["distance2"] is not None:
        located["plain_distance2"] = (
            distance2(*plain, *truth, *size) if smooth.fraction else located["distance2"]
        )
        located["energy_inside"] = share_inside(drawn.numpy(), *truth, *size)
    return located


def is_finite(row: Row) -> bool:
    """Whether the scores of a row are numbers."""
    scores = (row[name] for name in row if name.startswith("score"))
    return all(bool(np.isfinite(score).all()) for score in scores)


def flat_rows(tensors: dict[str, Tensor]) -> list[Row]:
    """Tensors of B problems -> B rows of scalars and flat arrays; masks and parameters become float16."""
    halves = {"params", "masks"}
    host = {
        name: (tensor.half() if name in halves else tensor).detach().cpu().numpy()
        for name, tensor in tensors.items()
    }
    size = len(host["score_full"])
    return [
        {name: array[i].item() if array.ndim == 1 else array[i].ravel() for name, array in host.items()}
        for i in range(size)
    ]
