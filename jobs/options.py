"""From a TOML file and flags to a RunConfig: preset < file < flags."""

from pathlib import Path
from typing import Any, cast

from extremal.pipeline.config import build_config, merge, method_trees, read_toml
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.studies import STUDIES
from extremal.pipeline.studies.saliency import comparing
from extremal.storage.trees import nested
from extremal.workers.config import RunConfig
from extremal.workers.device import check_name, has_gpu
from extremal.workers.extremal.settings import Preset
from extremal.workers.study_cards import STUDIES as CARDS


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
    check_name(device)
    given_preset = given.pop("preset", None)
    try:
        base = method_trees(cast(Preset, preset or given_preset or "fast"))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    on_gpu = device.startswith("cuda") if device else has_gpu()
    steps = flags.pop("steps", None)
    given = merge(given, flags)
    given = {"method": RunConfig.method} | given
    if str(given["method"]) not in STUDIES:
        given = comparing(given)
    tree = merge(merge(base, STUDIES[given["method"]].inherited(given)), given)
    card = CARDS[given["method"]]
    tree = merge({"precision": "bf16" if on_gpu and card.forgiving else "float32"}, tree)
    if steps is not None and not card.steps:
        raise ConfigError(f"--method {card.name} takes no --steps.")
    if steps is not None:
        tree = merge(tree, nested({card.steps: steps}))
    return build_config(tree)
