"""Functions of a network replaced while it runs, by a torch function mode.

That reaches modules and functional calls alike, and nothing of it stays behind.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_RELUS = {F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_CLIPS = {F.hardtanh, F.hardtanh_}
_IN_PLACE = {torch.relu_, Tensor.relu_, F.hardtanh_}


class Rules(TorchFunctionMode):
    """Replaces functions of a network that runs under it; a subclass says which, and by what.

    Attributes:
        rule: how signals go back, one of the subclass's names; read when they do.
        calls: how many calls were replaced.
    """

    rule: str

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def replacement(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        """What stands in for a call; None if it is left as it is. No rules apply in here."""
        raise NotImplementedError

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = self.replacement(func, args, kwargs)
        if result is None:
            return func(*args, **kwargs)
        self.calls += 1
        return result


@dataclass(frozen=True)
class Relu:
    """A call of a ReLU, or of one with a ceiling (ReLU6): max(0, min(ceiling, x))."""

    x: Tensor
    ceiling: float
    in_place: bool

    def answer(self, y: Tensor) -> Tensor:
        """The call's result, y; in place it is also what x holds from now on."""
        return self.x.copy_(y) if self.in_place else y


def relu_call(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Relu | None:
    """A call of a torch function as a ReLU, if it is one."""
    if func not in _RELUS and func not in _CLIPS and func is not F.relu6:
        return None
    names = ("input", "min_val", "max_val", "inplace") if func in _CLIPS else ("input", "inplace")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    in_place = func in _IN_PLACE or bool(given.get("inplace", False))
    if func in _RELUS:
        return Relu(given["input"], float("inf"), in_place)
    if func is F.relu6:
        return Relu(given["input"], 6.0, in_place)
    floor, ceiling = given.get("min_val", -1.0), given.get("max_val", 1.0)
    return Relu(given["input"], ceiling, in_place) if floor == 0 else None
