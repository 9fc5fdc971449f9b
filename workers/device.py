"""Which device to compute on: one rule for every command; torch only once that is asked."""

import re
from typing import TYPE_CHECKING

from extremal.workers.errors import DeviceError

if TYPE_CHECKING:
    import torch


def check_name(device: str | None) -> None:
    """Refuse what names no device; whether this machine has it is another question.

    Raises:
        DeviceError: it is neither cpu, cuda nor cuda:N.
    """
    if device is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise DeviceError(f"--device is cpu, cuda or cuda:N, not {device!r}.")


def has_gpu() -> bool:
    """Whether this machine has a GPU that torch can use."""
    import torch

    return torch.cuda.is_available()


def chosen_device(device: str | None, elsewhere: bool = False) -> "torch.device":
    """The device of that name; None = a GPU if this machine has one, else the CPU.

    Args:
        elsewhere: it will be used on a machine of a cluster, which may have what this one lacks.

    Raises:
        DeviceError: it names no device, or one that this machine does not have.
    """
    import torch

    check_name(device)
    chosen = torch.device(device or ("cuda" if has_gpu() else "cpu"))
    if chosen.type == "cpu" or elsewhere:
        return chosen
    if not has_gpu():
        raise DeviceError(f"--device {device}: this machine has no GPU. Leave --device out, or give cpu.")
    count = torch.cuda.device_count()
    if chosen.index is not None and chosen.index >= count:
        raise DeviceError(f"--device {device}: this machine has {count} GPUs, the first is cuda:0.")
    return chosen
