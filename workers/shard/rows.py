"""Rows of the results: from tensors and errors to the schemas of the store."""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from extremal.workers.errors import ImageError
from extremal.workers.extremal.channel import ChannelResult
from extremal.workers.extremal.spatial import SpatialResult
from extremal.workers.pointing.ground_truth import decode_mask, distance2, share_inside
from extremal.workers.pointing.point import Region, locate, peak, to_original
from extremal.workers.pointing.smooth import Smooth

KEY = ("pair", "image_id", "path", "class_id", "class_name")
Row = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """A decoded pair. region, width, height: its place in the original image, pixels."""

    row: Row
    input: Tensor
    region: Region
    width: int
    height: int
    seed: int


def pair_seed(seed: int, row: Row) -> int:
    """Seed of a pair, from the run's seed, the image and the class alone: in [0, 2**63)."""
    key = f"{seed}\n{row['image_id']}\n{row['class_id']}\n{row['class_name']}"
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
    """A row of `extremal.storage.schema.FAILURES`."""
    message = str(error) or type(error).__name__
    return {
        **{key: row[key] for key in KEY},
        "stage": stage,
        "error_type": type(error).__name__,
        "error": message,
    }


def point_row(item: Item, method: str, x: int, y: int) -> Row:
    """A row of `extremal.storage.schema.POINTS` for a point that comes from no map."""
    row, width, height = item.row, item.width, item.height
    return {
        **{key: row[key] for key in KEY},
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
    """A row of `extremal.storage.schema.POINTS` for the maximum of a map (h,w) on the CPU."""
    row, size = item.row, (item.width, item.height)
    truth = row["boxes"], row["rle"]
    drawn = to_original(saliency, item.region, *size)
    plain = peak(drawn, item.region)
    point = locate(saliency, item.region, *size, smooth) if smooth.fraction else plain
    found = point_row(item, method, *point)
    if found["distance2"] is not None:
        found["plain_distance2"] = distance2(*plain, *truth, *size) if smooth.fraction else found["distance2"]
        found["energy_inside"] = share_inside(drawn.numpy(), *truth, *size)
    return found


def saliency_row(item: Item, method: str, saliency: Tensor, cells: int) -> Row:
    """What a row of `SALIENCY` holds of a map (h,w) on the CPU: `cells` on its longer side."""
    row: Row = {"method": method, "map_shape": [], "map": [], "map_scale": None}
    if not cells or saliency.numel() <= 1:
        return row
    scale = min(1.0, cells / max(saliency.shape))
    shape = [max(1, round(side * scale)) for side in saliency.shape]
    small = F.interpolate(saliency[None, None], size=shape, mode="area")[0, 0]
    largest = float(small.abs().max())
    stored = small / largest if largest else small
    return row | {"map_shape": shape, "map": stored.half().numpy().ravel(), "map_scale": largest}


def spatial_rows(result: SpatialResult) -> list[Row]:
    """Rows of `extremal.storage.schema.SPATIAL`, but for the key, the target, the seed and the time."""
    rows = _flat_rows(
        {
            "score_full": result.score_full,
            "score_perturbed": result.score_perturbed,
            "score_preserve": result.scores,
            "score_delete": result.scores_deleted,
            "area_reached": result.areas,
            "area_term": result.area_term,
            "binarity": result.binarity,
            "energy": result.energy,
            "energy_trace": result.energy_trace,
            "params": result.params,
            "steps": result.steps,
            "search_steps": result.search_steps,
        }
    )
    for row, a_star in zip(rows, result.a_star.tolist(), strict=True):
        row |= {
            "input_shape": list(result.masks.shape[-2:]),
            "areas": list(result.config.areas),
            "params_shape": list(result.params.shape[1:]),
            "energy_steps": list(result.energy_steps),
            "a_star": None if math.isnan(a_star) else a_star,
        }
    return rows


def channel_rows(result: ChannelResult) -> list[Row]:
    """Rows of `extremal.storage.schema.CHANNEL`, but for the key, the target, the seed and the time."""
    rows = _flat_rows(
        {
            "score_full": result.score_full,
            "score_perturbed": result.score_perturbed,
            "score": result.scores,
            "score_binary": result.scores_binary,
            "count_reached": result.areas,
            "area_term": result.area_term,
            "binarity": result.binarity,
            "energy": result.energy,
            "energy_trace": result.energy_trace,
            "masks": result.masks,
            "saliency": result.saliency,
            "activations": result.activations,
            "steps": result.steps,
        }
    )
    stars = zip(result.a_star.tolist(), result.a_star_soft.tolist(), strict=True)
    for row, (a_star, soft) in zip(rows, stars, strict=True):
        row |= {
            "layer": result.config.layer,
            "counts": list(result.counts),
            "masks_shape": list(result.masks.shape[1:]),
            "energy_steps": list(result.energy_steps),
            "saliency_shape": list(result.saliency.shape[1:]),
            "a_star": None if math.isnan(a_star) else int(a_star),
            "a_star_soft": None if math.isnan(soft) else int(soft),
        }
    return rows


def is_finite(row: Row) -> bool:
    """Whether the scores of a row are numbers."""
    scores = (row[name] for name in row if name.startswith("score"))
    return all(bool(np.isfinite(score).all()) for score in scores)


def _flat_rows(tensors: dict[str, Tensor]) -> list[Row]:
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
