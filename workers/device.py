"""Which device to compute on: one rule for every command."""

import re

import torch

from extremal.workers.errors import DeviceError


def check_name(device: str | None) -> None:
    """Refuse what names no device; whether this machine has it is another question.

    Raises:
        DeviceError: it is neither cpu, cuda nor cuda:N.
    """
    if device is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise DeviceError(f"--device is cpu, cuda or cuda:N, not {device!r}.")


def has_gpu() -> bool:
    """Whether this machine has a GPU that torch can use."""
    return torch.cuda.is_available()


def chosen_device(device: str | None) -> torch.device:
    """The device of that name; None = a GPU if there is one, else the CPU.

    Raises:
        DeviceError: it names no device, or one that this machine does not have.
    """
    check_name(device)
    chosen = torch.device(device or ("cuda" if has_gpu() else "cpu"))
    if chosen.type == "cuda" and not has_gpu():
        raise DeviceError(f"--device {device}: this machine has no GPU. Leave --device out, or give cpu.")
    if chosen.index is not None and chosen.index >= torch.cuda.device_count():
        raise DeviceError(
            f"--device {device}: this machine has {torch.cuda.device_count()} GPUs, from cuda:0."
        )
    return chosen
