"""From a TOML file and flags to a RunConfig: preset < file < flags."""

from pathlib import Path
from typing import Any, cast

import torch

from pipeline.config import ConfigError, RunConfig, build_config, merge, method_trees, read_toml
from pipeline.prepare import check_names
from workers.config import Preset


def numbers(text: str | None, kind: type[int] | type[float], flag: str) -> list[Any] | None:
    """Comma separated numbers of a flag.

    Raises:
        ConfigError: one of them is no number.
    """
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ConfigError(
            f"{flag} takes numbers separated by commas, such as 0.1,0.2, not {text!r}."
        ) from None


def assemble(
    file: Path | None, preset: str | None, flags: dict[str, Any], device: str | None = None
) -> RunConfig:
    """The configuration of a run.

    Args:
        file: TOML with the keys of RunConfig, and optionally `preset`.
        preset: overrides the file's.
        flags: nested like RunConfig; None = not given. `steps` goes to the method's schedule. A method
            that is no kind of run is a list of saliency methods, separated by commas.
        device: where it will run, None = a GPU if this machine has one; decides the default precision.

    Raises:
        ConfigError: with one line per mistake.
    """
    return settings_of(read_toml(file) if file else {}, preset, flags, device)


def settings_of(
    tree: dict[str, Any], preset: str | None, flags: dict[str, Any], device: str | None = None
) -> RunConfig:
    """The configuration of a run from the content of a file; see `assemble`.

    Raises:
        ConfigError: with one line per mistake.
    """
    if device is not None and device.partition(":")[0] not in ("cpu", "cuda"):
        raise ConfigError(f"--device is cpu or cuda, not {device!r}.")
    chosen = preset or tree.pop("preset", None) or "fast"
    tree.pop("preset", None)
    try:
        base = method_trees(cast(Preset, chosen))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    on_gpu = device.startswith("cuda") if device else torch.cuda.is_available()
    tree = merge(base, tree)
    steps = flags.pop("steps", None)
    tree = merge(tree, flags)
    method = tree.get("method", "spatial")
    if method not in ("spatial", "channel", "saliency"):
        methods = [name.strip() for name in str(method).split(",")]
        check_names([name for name in methods if name != "center"])
        if tree.get("saliency", {}).get("methods", methods) != methods:
            raise ConfigError("Methods are named twice, by method and by saliency.methods: give one of them.")
        method, tree = "saliency", merge(tree, {"method": "saliency", "saliency": {"methods": methods}})
    # Masks forgive bf16; small differences of logits and gradients, and the benchmark's protocol, do not.
    tree = merge({"precision": "bf16" if on_gpu and method != "saliency" else "float32"}, tree)
    if steps is not None:
        study = "channel" if method == "channel" else "spatial"  # of saliency methods, extremal takes steps
        tree = merge(tree, {study: {"schedule": {"steps": steps}}})
    return build_config(tree)
