"""A run's whole configuration: typed, validated, read from TOML and flags, stored in run.json."""

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from extremal.pipeline.errors import ConfigError
from extremal.storage.files import printable, split
from extremal.workers.config import (
    ChannelConfig,
    InversionConfig,
    Layers,
    MaskConfig,
    Precision,
    Preset,
    SaliencyConfig,
    Schedule,
    SpatialConfig,
    spatial_preset,
)
from extremal.workers.saliency.methods import CARDS, METHODS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Method = Literal["spatial", "channel", "saliency", "inversion"]
DatasetName = Literal["imagenet", "voc", "coco", "folder", "shapes"]


@dataclass(frozen=True)
class DatasetConfig:
    """Which pairs. `root`, where they lie, is a location and no part of a run's identity.

    Attributes:
        name: of the dataset's layout.
        root: folder or URI.
        split: 2007:test of voc, val2014 of coco, test of shapes; of imagenet a sub-folder.
        labels: imagenet: file of labels (`file,label`) for a flat folder.
        difficult_list: voc: file of the Difficult subset; None = by the rule.
        target: folder: output to explain; None = the network's own top-1.
        limit: only the first pairs; None = all.
    """

    name: DatasetName
    root: str = ""
    split: str | None = None
    labels: str | None = None
    difficult_list: str | None = None
    target: int | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and not 1 <= self.limit < 2**31:
            raise ValueError("limit must be at least 1 and less than 2**31")


@dataclass(frozen=True)
class NetworkConfig:
    """Which network. `weights`, a location, is identified by the hash of what it holds.

    Attributes:
        name: torchvision classifier, bvlc_googlenet, shapes_cnn, or module:function.
        weights: file of a state_dict, name of torchvision weights, or random; None = torchvision's.
        resize: short side of the image, pixels; None = as the weights ask.
        crop: central square, pixels; 0 = the whole image; None = as the weights ask, whole for voc and coco.
        mean, std: of the RGB colours in 0 to 1 that the input is normalised by; None = as the weights ask.
        randomized: weight layers, counted from the output, that are re-initialised by draws of
            `randomize_seed`: the sanity check's (EP-11).
        randomize_seed: of those draws.
    """

    name: str
    weights: str | None = None
    resize: int | None = None
    crop: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    randomized: int = 0
    randomize_seed: int = 0

    def __post_init__(self) -> None:
        if self.randomized < 0 or self.randomize_seed < 0:
            raise ValueError("randomized and randomize_seed must not be negative")


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the result of a run.

    Attributes:
        method: what is computed for each pair; `saliency` compares the methods of its section.
        seed: of everything random.
        precision: of the network: float32, or bf16 for autocast with masks and optimizer in float32.
        batch: pairs whose masks form one queue. Rounding depends on it, so it is part of the identity;
            what shares a batch is fixed by the plan, never by actors or shards.
        slots: masks from that queue in the network at once; None = as many as fit the GPU's memory.
        shard_size: pairs per shard, rounded up to whole batches.
        threads: CPU threads (and Ray CPUs) of each actor.
    """

    dataset: DatasetConfig
    network: NetworkConfig
    method: Method = "spatial"
    spatial: SpatialConfig = field(default_factory=SpatialConfig)
    channel: ChannelConfig = field(default_factory=ChannelConfig)
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    inversion: InversionConfig = field(default_factory=InversionConfig)
    seed: int = 0
    precision: Precision = "float32"
    batch: int = 16
    slots: int | None = None
    shard_size: int = 32
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("batch", "shard_size", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.slots is not None and self.slots < 1:
            raise ValueError("slots must be at least 1")
        if self.seed < 0:
            raise ValueError("seed must not be negative")

    def identity(self) -> dict[str, Any]:
        """What must agree for a run to be continued: no locations, no settings of the other method."""
        tree: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        for section, key in (("dataset", "root"), ("network", "weights"), ("inversion", "channels")):
            del tree[section][key]
        del tree["inversion"]["objective" if self.inversion.subject == "channels" else "per_class"]
        for key in ("labels", "difficult_list"):
            if tree["dataset"][key] is not None:
                tree["dataset"][key] = split(tree["dataset"][key])[1]
        for section in {"spatial", "channel", "saliency", "inversion"} - self.sections():
            del tree[section]
        if self.method == "saliency":
            for card in CARDS:
                if card.settings is not None and card.name not in self.saliency.methods:
                    del tree["saliency"][card.name]
        return tree

    def sections(self) -> set[str]:
        """The sections of settings that the run's method reads."""
        if self.method == "inversion":
            return {"inversion", "channel"}  # of the channel run
        if self.method != "saliency":
            return {self.method}
        read = (METHODS[name].reads for name in self.saliency.methods if name in METHODS)
        return {"saliency", *(section for section in read if section is not None)}


# Said here and not in the classes, so that workers do not need pydantic.
_SECTIONS = (
    RunConfig, DatasetConfig, NetworkConfig, SpatialConfig, ChannelConfig, SaliencyConfig,
    InversionConfig, MaskConfig, Schedule, Layers,
    *(card.settings for card in CARDS if card.settings is not None),
)  # fmt: skip
for _section in _SECTIONS:
    setattr(_section, "__pydantic_config__", ConfigDict(extra="forbid"))  # noqa: B010
_ADAPTER = TypeAdapter(RunConfig)


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


def build_config(tree: Mapping[str, Any]) -> RunConfig:
    """Validate nested mappings into a configuration.

    Raises:
        ConfigError: unknown keys, wrong types or values out of range, one line for each.
    """
    try:
        _refuse_infinite(tree)
        config = _ADAPTER.validate_python(tree)
        _refuse_infinite(asdict(config))  # the text "nan" is a number to pydantic
        return config
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']}" for e in error.errors()]
        raise ConfigError("The configuration is not valid:\n" + "\n".join(lines)) from error


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
