"""Weights: read from a file, fitted into a module, fingerprinted."""

import hashlib
import logging
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from extremal.workers.errors import NetworkError

SHOWN = 4

log = logging.getLogger(__name__)


def fingerprint(module: nn.Module) -> str:
    """SHA-256, hex, of the names, dtypes, shapes and bytes of a module's weights and buffers."""
    digest = hashlib.sha256()
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Weights by name from a file of torch.save: a state dict, alone or under "state_dict" or "model".

    The "module." that DataParallel puts before every name is taken off.

    Raises:
        NetworkError: missing, corrupt, holding objects that are not tensors, or not a state dict.
    """
    if not path.is_file():  # reading a pipe would wait for ever
        raise NetworkError(f"{path}: no such file")
    content = _load(path)
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not _is_state_dict(content):
        raise NetworkError(f"{path}: not a state dict (names to tensors); save module.state_dict() instead")
    if all(key.startswith("module.") for key in content):
        content = {key.removeprefix("module."): tensor for key, tensor in content.items()}
    # torchvision's DenseNet files date from when module names could have dots: norm.1 is norm1 now.
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))\.", r"\1", key): tensor for key, tensor in content.items()
    }


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # Truncated and foreign files raise RuntimeError, EOFError, KeyError and more.
    except Exception as error:
        raise NetworkError(f"{path}: {_fault(path, error)}") from error


def _fault(path: Path, error: Exception) -> str:
    """What torch.load's error says of a file, and the way out."""
    cause = f"{type(error).__name__}: {error}".splitlines()[0][:100]
    if path.suffix == ".safetensors":  # newer versions of torch read it, if another package is there
        convert = "convert it with torch.save(safetensors.torch.load_file(path), 'weights.pth')"
        return f"this torch does not read the safetensors file ({cause}); {convert}"
    if not isinstance(error, pickle.UnpicklingError):
        return f"truncated or corrupt ({cause}); fetch it again"
    if "GLOBAL" not in str(error):
        return "corrupt, or not a file of torch.save; fetch it again"
    return (
        "holds Python objects, refused because loading them could run code; "
        "save it again with torch.save(module.state_dict(), path)"
    )


def _is_state_dict(content: object) -> bool:
    return (
        isinstance(content, dict)
        and len(content) > 0
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())
    )


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Put a state dict into a module, all of it or nothing; float16 becomes the module's own dtype.

    Auxiliary classifiers (GoogLeNet, Inception) that the module was built without are left out.

    Raises:
        NetworkError: names or shapes differ; `path` is for the message.
    """
    tensors = module.state_dict()
    auxiliary = [key for key in state if re.match(r"(aux\d|AuxLogits)\.", key) and key not in tensors]
    if auxiliary:
        log.info("%s: %d tensors of auxiliary classifiers left out", path, len(auxiliary))
    # Files from before PyTorch 0.4.1 lack these counters, which evaluation does not use.
    missing = [key for key in tensors if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in tensors and key not in auxiliary]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(tensor.shape)}"
        for key, tensor in tensors.items()
        if key in state and state[key].shape != tensor.shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    faults = [f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in kinds.items() if keys]
    if faults:
        raise NetworkError(f"{path}: does not fit {type(module).__name__}: {'; '.join(faults)}")
    for key, tensor in tensors.items():
        cause = _unusable(state[key], tensor) if key in state else None
        if cause:
            raise NetworkError(f"{path}: {key} {cause}")
    module.load_state_dict(state, strict=False)


def _unusable(tensor: Tensor, expected: Tensor) -> str | None:
    """Why a tensor of the right shape cannot stand for the module's, and the way out."""
    if tensor.layout is not torch.strided or tensor.is_quantized:
        kind = "quantized" if tensor.is_quantized else "sparse"
        fix = ".dequantize()" if tensor.is_quantized else ".to_dense()"
        return f"is a {kind} tensor; save it again after {fix}"
    if tensor.is_meta:
        return "is a meta tensor, a shape without numbers; save the real weights"
    if tensor.is_complex() and not expected.is_complex():
        return "holds complex numbers; save real ones"
    # Every score would be NaN, and every pair of the run a failure.
    if tensor.is_floating_point() and tensor.isnan().any():
        return "holds NaN: the training that wrote it diverged; take an earlier checkpoint"
    return None


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (", ..." if len(keys) > SHOWN else "")
