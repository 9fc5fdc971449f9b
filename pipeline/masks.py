"""Full-size masks of a stored row, drawn again from its parameters."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from storage import Run
from workers.config import SpatialConfig
from workers.masks import render_masks


def draw_masks(run: Run, row: Mapping[str, Any]) -> np.ndarray:
    """Masks of one row of a run's `spatial` table.

    Args:
        row: with `params`, `params_shape` and `input_shape`.

    Returns:
        (A,H,W) float32 in [0,1] over the network's input, 1 = keep. They differ from the optimized masks
        by the float16 rounding of the parameters.
    """
    config = TypeAdapter(SpatialConfig).validate_python(run.manifest["config"]["spatial"])
    params = torch.tensor(np.asarray(row["params"], np.float32)).reshape(tuple(row["params_shape"]))
    height, width = row["input_shape"]
    return np.asarray(render_masks(params, (height, width), config.mask).numpy())
