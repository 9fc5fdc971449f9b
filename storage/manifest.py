"""run.json: who a run is, typed.

Its identity is the settings that differ from their defaults (with the version of the defaults), the network
and the units. The whole configuration stands beside it for those who read: a setting that is added later with
a default changes neither.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from extremal.storage.trees import Tree

SCHEMA_VERSION = 5
# Runs of that version name their channels as images, and their whole configuration is their identity.
WHOLE_CONFIG = 4

_HASHED = ("study", "unit", "defaults", "settings", "config", "model", "data")
_HASHED_BEFORE = ("config", "model", "data")


@dataclass(frozen=True)
class Model:
    """The network and how it is shown an image.

    Attributes:
        weights_sha256: of the weights. original_sha256: of them before any were drawn at random.
        randomized: names of the layers whose weights were drawn at random.
        resize: short side, pixels. crop: central square, pixels. mean, std: of RGB in 0 to 1.
    """

    name: str
    weights_sha256: str = ""
    original_sha256: str = ""
    randomized: tuple[str, ...] = ()
    resize: int = 0
    crop: int | None = None
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    interpolation: str = "bilinear"
    antialias: bool = True


@dataclass(frozen=True)
class Data:
    """The units of a run.

    Attributes:
        fingerprint: SHA-256 of the plan's rows, whatever shards and batches. pairs: number of units.
        channels: config_hash of the channel run that an inversion reads.
    """

    fingerprint: str = ""
    pairs: int = 0
    channels: str | None = None


@dataclass(frozen=True)
class DatasetRecord:
    """Where the units came from, for people: no part of the identity.

    Attributes:
        root: without credentials. classes: names by class_id. excluded: pairs left out, by class.
    """

    root: str = ""
    classes: tuple[str, ...] = ()
    pairs: int = 0
    shards: int = 0
    excluded: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The content of run.json.

    Attributes:
        study: name of what was computed: the kind of the run's main table.
        config: the whole configuration as in a TOML file, without locations and unread sections.
        settings: what of it differs from the defaults of version `defaults`; None in runs of schema 4.
        unit: name of what a row of the plan is. rows_per_unit: rows of the main table for each.
        weights: where they lay, without credentials. channels: the place of an inversion's channel run.
        versions: of the packages that decide the numbers.
        config_hash: of the identity; it stands in the footer of every shard.
    """

    study: str
    config: Tree
    model: Model
    data: Data = Data()
    settings: Tree | None = None
    defaults: int = 1
    unit: str = "pair"
    rows_per_unit: Annotated[int, Field(ge=1)] = 1
    dataset: DatasetRecord = DatasetRecord()
    weights: str | None = None
    channels: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    config_hash: str = ""

    def setting(self, *path: str) -> Any:
        """A setting of the run by its place in the TOML file, such as ("channel", "layer").

        Raises:
            KeyError: the run has no such setting.
        """
        value: Any = self.config
        for name in path:
            value = value[name]
        return value

    def to_json(self) -> str:
        """The text of run.json."""
        return json.dumps(asdict(self), indent=2)


_ADAPTER = TypeAdapter(Manifest)


def canonical(tree: Mapping[str, Any]) -> Tree:
    """A mapping as it comes back from JSON: tuples are lists there and keys strings."""
    return dict(json.loads(json.dumps(tree)))


def sha256(tree: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a mapping's canonical JSON."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def sealed(manifest: Manifest) -> Manifest:
    """The manifest with its hash, and with everything in it as run.json gives it back."""
    tree = canonical(asdict(manifest))
    tree["config_hash"] = sha256({name: tree[name] for name in _HASHED})
    return _ADAPTER.validate_python(tree)


def read_manifest(text: bytes) -> Manifest:
    """The manifest of a run.json.

    Raises:
        ValueError: it is not one, or was written by a version that this code does not read.
        EditedError: its hash is not that of its content.
    """
    try:
        tree = json.loads(text)
        version = tree["schema_version"]
        if version not in (SCHEMA_VERSION, WHOLE_CONFIG):
            raise VersionError(version)
        hashed = _HASHED if version == SCHEMA_VERSION else _HASHED_BEFORE
        if tree["config_hash"] != sha256({name: tree[name] for name in hashed}):
            raise EditedError("its config_hash is not that of its content")
        return _ADAPTER.validate_python(tree if version == SCHEMA_VERSION else _renamed(tree))
    except (KeyError, TypeError, RecursionError, ValidationError) as error:
        raise ValueError(str(error)) from error


class VersionError(ValueError):
    """Written with another version of the schema, which is the argument."""


class EditedError(ValueError):
    """Edited or damaged."""


def _renamed(tree: Tree) -> Tree:
    """A run.json of schema 4 in today's names."""
    names = {"kind": "study", "rows_per_pair": "rows_per_unit"}
    return {names.get(name, name): value for name, value in tree.items()}
