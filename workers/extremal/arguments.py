"""What the public functions check of their arguments."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def check_pairs(images: Tensor, targets: Tensor, image: Sequence[int] | None) -> Tensor:
    """The image (B,) of each pair.

    Raises:
        ValueError: unless images are (I,3,H,W) floats, targets (B,) integers, and each pair has an image.
    """
    if images.ndim != 4 or not images.is_floating_point() or len(images) == 0:
        raise ValueError(f"images must be floats (B,3,H,W), not {images.dtype} {tuple(images.shape)}")
    of_each = list(range(len(images)) if image is None else image)
    if targets.shape != (len(of_each),) or targets.is_floating_point():
        raise ValueError(
            f"targets must be {len(of_each)} integers, not {targets.dtype} {tuple(targets.shape)}"
        )
    if not all(0 <= index < len(images) for index in of_each):
        raise ValueError(f"image must hold numbers from 0 to {len(images) - 1}, not {of_each}")
    return torch.tensor(of_each)


def check_keywords(function: Callable[..., Any], given: Mapping[str, object], accepted: type) -> None:
    """Refuse names that are not those of the `TypedDict` that a function's `**` is typed by.

    Raises:
        TypeError: as Python's own, with the names that the function takes.
    """
    unknown = next((name for name in given if name not in accepted.__annotations__), None)
    if unknown is None:
        return
    parameters = inspect.signature(function).parameters.values()
    named = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    raise TypeError(
        f"{function.__name__}() got an unexpected keyword argument {unknown!r}; it takes "
        f"{', '.join([*named, *accepted.__annotations__])}"
    )
