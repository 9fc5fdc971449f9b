"""Masks of stored rows, drawn again from their parameters: at full size, or at one value a parameter."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter

from storage import Run
from workers.config import MaskConfig, SpatialConfig
from workers.masks import mask_family, render_masks

_ADAPTER: TypeAdapter[SpatialConfig] = TypeAdapter(SpatialConfig)


def draw_masks(run: Run, row: Mapping[str, Any]) -> np.ndarray:
    """Masks of one row of a run's `spatial` table.

    Args:
        row: with `params`, `params_shape` and `input_shape`.

    Returns:
        (A,H,W) float32 in [0,1] over the network's input, 1 = keep. They differ from the optimized masks
        by the float16 rounding of the parameters.
    """
    params = torch.tensor(np.asarray(row["params"], np.float32)).reshape(tuple(row["params_shape"]))
    height, width = row["input_shape"]
    return np.asarray(render_masks(params, (height, width), mask_config(run)).numpy())


def mask_config(run: Run) -> MaskConfig:
    """The mask family of a spatial run."""
    return _ADAPTER.validate_python(run.manifest["config"]["spatial"]).mask


def cell_shape(shape: tuple[int, int], config: MaskConfig) -> tuple[int, int]:
    """Rows and columns of the small masks of `draw_cells` over an input of a shape (height, width)."""
    return max(1, round(shape[0] / config.step)), max(1, round(shape[1] / config.step))


def draw_cells(params: np.ndarray, shape: tuple[int, int], config: MaskConfig) -> np.ndarray:
    """Small masks, about what averaging full-size ones over cells of step x step pixels gives.

    The family's lengths are divided by its step: with step 1 and sigma/step it is evaluated at the
    parameters' own places, pixels 0, step, 2 step and so on, which is exact where step divides sigma. Between
    them it is interpolated linearly, at the centres of the cells.

    Args:
        params: (N,A,rows,columns) of masks of one shape, any float dtype.
        shape: height, width of the network's input.

    Returns:
        (N,A,h,w) float32 in [0,1], h and w as `cell_shape` says; the cells divide the input evenly.
    """
    small = replace(config, step=1, sigma=config.sigma / config.step)
    flat = torch.from_numpy(np.asarray(params, np.float32)).flatten(0, 1)
    # One sample more on each axis than there are parameters, so that no centre lies beyond the last.
    flat = F.pad(flat, (0, 1, 0, 1))
    family = mask_family(*flat.shape[1:], small)
    samples = family.crop(family.draw(flat))
    rows, columns = (
        _interpolation(size, cells, count, config.step)
        for size, cells, count in zip(shape, cell_shape(shape, config), samples.shape[1:], strict=True)
    )
    drawn = rows @ samples @ columns.t()
    return np.asarray(drawn.reshape(*params.shape[:2], *drawn.shape[1:]).clamp(0, 1).numpy())


def _interpolation(size: int, cells: int, samples: int, step: int) -> torch.Tensor:
    """(cells,samples) weights that read samples, at pixels 0, step, ..., at the centres of `cells` cells."""
    centres = (torch.arange(cells) + 0.5) * (size / cells) - 0.5
    place = (centres / step).clamp(0, samples - 1)
    return (1 - (place[:, None] - torch.arange(samples)[None]).abs()).clamp(min=0)
