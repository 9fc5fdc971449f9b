"""Masks of stored rows, drawn again from their parameters: at full size, or at one value a parameter."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from extremal.pipeline.identity import run_tree
from extremal.storage import Run
from extremal.workers.extremal.kernel import neighbourhood, tap_weights
from extremal.workers.extremal.settings import MaskConfig

Floats = npt.NDArray[np.float32]

_ADAPTER: TypeAdapter[MaskConfig] = TypeAdapter(MaskConfig)


def draw_masks(run: Run, row: Mapping[str, Any]) -> np.ndarray:
    """Masks of one row of a run's `spatial` table.

    Args:
        row: with `params`, `params_shape` and `input_shape`.

    Returns:
        (A,H,W) float32 in [0,1] over the network's input, 1 = keep. They differ from the optimized masks
        by the float16 rounding of the parameters.
    """
    import torch  # here, because readers of small masks need it not

    from extremal.workers.extremal.masks import render_masks

    params = torch.tensor(np.asarray(row["params"], np.float32)).reshape(tuple(row["params_shape"]))
    height, width = row["input_shape"]
    return np.asarray(render_masks(params, (height, width), mask_config(run)).numpy())


def mask_config(run: Run) -> MaskConfig:
    """The mask family of a spatial run."""
    return _ADAPTER.validate_python(run_tree(run.manifest)["spatial"]["mask"])


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
    samples = _samples(np.asarray(params, np.float32), config)
    rows, columns = (
        _interpolation(size, cells, count, config.step)
        for size, cells, count in zip(shape, cell_shape(shape, config), samples.shape[2:], strict=True)
    )
    drawn: Floats = (rows @ samples @ columns.T).clip(0, 1)
    return drawn


def _samples(params: Floats, config: MaskConfig) -> Floats:
    """(N,A,rows,columns) -> (N,A,rows+1,columns+1): masks at the parameters' places and one beyond.

    Tap by tap (eq. 7 as it stands), because gathering the taps first costs more than all the rest.
    """
    small = replace(config, step=1, sigma=config.sigma / config.step)
    _, side = neighbourhood(small)
    weights = tap_weights(small).reshape(side, side).astype(np.float32)  # one pixel a parameter: one phase
    reach = len(weights) // 2
    padded = np.pad(params, ((0, 0), (0, 0), (reach, reach + 1), (reach, reach + 1)))
    rows, columns = params.shape[2] + 1, params.shape[3] + 1
    total = np.zeros((*params.shape[:2], rows, columns), np.float32)
    above = np.zeros_like(total)
    value, power = np.empty_like(total), np.empty_like(total)
    for i, j in np.ndindex(weights.shape):
        np.multiply(padded[:, :, i : i + rows, j : j + columns], weights[i, j], out=value)
        np.exp(np.multiply(value, small.inverse_temperature, out=power), out=power)
        total += power
        above += np.multiply(value, power, out=value)
    return np.asarray(above / total, np.float32)


@lru_cache(maxsize=64)
def _interpolation(size: int, cells: int, samples: int, step: int) -> Floats:
    """(cells,samples) weights that read samples, at pixels 0, step, ..., at the centres of `cells` cells."""
    centres = (np.arange(cells) + 0.5) * (size / cells) - 0.5
    place = (centres / step).clip(0, samples - 1)
    return (1 - np.abs(place[:, None] - np.arange(samples)[None])).clip(0).astype(np.float32)
