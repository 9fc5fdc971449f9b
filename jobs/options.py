"""From a TOML file and flags to a RunConfig: preset < file < flags."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch

from extremal.pipeline.config import RunConfig, build_config, merge, method_trees, read_toml
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.inversion import open_channels
from extremal.pipeline.prepare import check_names, stored_config
from extremal.workers.config import Preset


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
            f"{flag} takes numbers separated by commas, such as {'3,17' if kind is int else '0.1,0.2'}, "
            f"not {text!r}."
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
    given: dict[str, Any], preset: str | None, flags: dict[str, Any], device: str | None = None
) -> RunConfig:
    """The configuration of a run from the content of a file; see `assemble`.

    Raises:
        ConfigError: with one line per mistake.
    """
    if device is not None and device.partition(":")[0] not in ("cpu", "cuda"):
        raise ConfigError(f"--device is cpu or cuda, not {device!r}.")
    chosen = preset or given.pop("preset", None) or "fast"
    given.pop("preset", None)
    try:
        base = method_trees(cast(Preset, chosen))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    on_gpu = device.startswith("cuda") if device else torch.cuda.is_available()
    steps = flags.pop("steps", None)
    given = merge(given, flags)
    method = given.get("method", "spatial")
    if method == "inversion":
        base = merge(base, _of_channels(given))
    tree = merge(base, given)
    if method not in ("spatial", "channel", "saliency", "inversion"):
        methods = [name.strip() for name in str(method).split(",")]
        check_names([name for name in methods if name != "center"])
        if tree.get("saliency", {}).get("methods", methods) != methods:
            raise ConfigError("Methods are named twice, by method and by saliency.methods: give one of them.")
        method, tree = "saliency", merge(tree, {"method": "saliency", "saliency": {"methods": methods}})
    # Masks forgive bf16; small differences of logits and gradients, and the benchmark's protocol, do not.
    forgiving = method in ("spatial", "channel")
    tree = merge({"precision": "bf16" if on_gpu and forgiving else "float32"}, tree)
    if steps is not None:
        tree = merge(tree, _with_steps(method, steps))
    return build_config(tree)


def _with_steps(method: str, steps: int) -> dict[str, Any]:
    if method == "inversion":
        return {"inversion": {"steps": steps}}
    study = "channel" if method == "channel" else "spatial"  # of saliency methods, extremal takes steps
    return {study: {"schedule": {"steps": steps}}}


def _of_channels(given: dict[str, Any]) -> dict[str, Any]:
    """What an inversion takes over from its channel run, for file and flags to override."""
    channels = open_channels(str(given.get("inversion", {}).get("channels") or ""))
    root, weights = given.get("dataset", {}).get("root"), given.get("network", {}).get("weights")
    stored = stored_config(channels, root, weights)
    tree = {name: asdict(getattr(stored, name)) for name in ("dataset", "network", "channel")}
    del tree["dataset"]["limit"]  # of its pairs; an inversion's is of its own
    return tree | {"seed": stored.seed}
