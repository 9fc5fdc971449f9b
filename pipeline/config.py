"""A run's configuration from TOML and flags: merged, validated, and as run.json stores it."""

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from extremal.pipeline.datasets.open import LAYOUTS
from extremal.pipeline.errors import ConfigError
from extremal.storage.files import printable, split
from extremal.workers.config import DatasetConfig, NetworkConfig, RunConfig
from extremal.workers.extremal.settings import ChannelConfig, Preset, spatial_preset
from extremal.workers.study_cards import STUDIES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def sections(of: type = RunConfig, path: str = "") -> Iterator[tuple[str, type]]:
    """(dotted path in TOML, dataclass) of the configuration and of every section below it."""
    yield path, of
    for name, kind in get_type_hints(of).items():
        if is_dataclass(kind) and isinstance(kind, type):
            yield from sections(kind, f"{path}.{name}".lstrip("."))


# Said here and not in the classes, so that workers do not need pydantic.
for _, _section in sections():
    setattr(_section, "__pydantic_config__", ConfigDict(extra="forbid"))  # noqa: B010
_ADAPTER = TypeAdapter(RunConfig)


@lru_cache(maxsize=1)
def default_tree() -> Mapping[str, Any]:
    """Every setting that has a default, nested as in a TOML file."""
    tree: dict[str, Any] = _ADAPTER.dump_python(RunConfig(DatasetConfig(""), NetworkConfig("")), mode="json")
    return tree


def stored_tree(config: RunConfig) -> dict[str, Any]:
    """The configuration as run.json holds it: no locations, no settings that are not read."""
    tree: dict[str, Any] = _ADAPTER.dump_python(config, mode="json")
    del tree["dataset"]["root"], tree["network"]["weights"]
    for key in ("labels", "difficult_list"):
        if tree["dataset"][key] is not None:
            tree["dataset"][key] = split(tree["dataset"][key])[1]
    for key in (*config.study.places, *config.study.unread(config.own)):
        del tree[config.method][key]
    for section in STUDIES.keys() - config.sections():
        del tree[section]
    return tree


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as nested mappings.

    Raises:
        ConfigError: it is missing or no TOML.
    """
    try:
        with path.open("rb") as f:
            return tomllib.load(f)
    except OSError as error:
        raise ConfigError(f"Cannot read the config file {path}: {error.strerror}.") from error
    # Besides TOMLDecodeError: bytes that are no UTF-8, numbers of thousands of digits, brackets without end.
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, section by section; None in `over` means unset.

    Raises:
        ConfigError: a key is a section in `over` and a plain value in `base`, which would be lost.
    """
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping):
            inner = merged.get(key, {})
            if not isinstance(inner, Mapping):
                raise ConfigError(
                    f"{key} must be a table: [{key}], then its keys; not {printable(repr(inner))}."
                )
            merged[key] = merge(inner, value)
        elif value is not None:
            merged[key] = value
    return merged


def table_of(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section that is read before the whole is validated; {} if it is not there.

    Raises:
        ConfigError: it is no table.
    """
    section = tree.get(name, {})
    if not isinstance(section, Mapping):
        raise ConfigError(f"{name} must be a table: [{name}], then its keys; not {printable(repr(section))}.")
    return section


def build_config(tree: Mapping[str, Any]) -> RunConfig:
    """Validate nested mappings into a configuration.

    Raises:
        ConfigError: unknown keys, wrong types or values out of range, one line for each.
    """
    lines = _unknown_names(tree)
    try:
        _refuse_infinite(tree)
        config = _ADAPTER.validate_python(tree)
        _refuse_infinite(asdict(config))  # the text "nan" is a number to pydantic
    except ValidationError as error:
        lines += [
            f"  {'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']}"
            for e in error.errors()
            if e["loc"] or not lines
        ]
    if lines:
        raise ConfigError("The configuration is not valid:\n" + "\n".join(lines))
    return config


def _unknown_names(tree: Mapping[str, Any]) -> list[str]:
    """A line for each name that is in no registry; values of other types are not looked at."""
    dataset = tree.get("dataset")
    named = (
        ("method", tree.get("method"), STUDIES),
        ("dataset.name", dataset.get("name") if isinstance(dataset, Mapping) else None, LAYOUTS),
    )
    return [
        f"  {key}: Input should be {', '.join(map(repr, names))}, not {name!r}"
        for key, name, names in named
        if isinstance(name, str) and name not in names
    ]


def _refuse_infinite(tree: object, name: str = "") -> None:
    """TOML has nan and inf; no setting has a use for them, and comparisons let nan pass."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            _refuse_infinite(value, f"{name}.{key}".lstrip("."))
    elif isinstance(tree, list | tuple):
        for value in tree:
            _refuse_infinite(value, name)
    elif isinstance(tree, float) and not math.isfinite(tree):
        raise ConfigError(f"{name} must be a finite number, not {tree}.")


def method_trees(preset: Preset) -> dict[str, Any]:
    """All numbers of both methods under a preset as nested mappings, for a file and flags to override.

    Raises:
        ValueError: there is no such preset.
    """
    return {"spatial": asdict(spatial_preset(preset)), "channel": asdict(ChannelConfig())}
