"""Who a run is: the settings that differ from their defaults, the network and the units.

So a setting that is added with a default stops no run from being continued. A default that changes is an
entry in CHANGES: a run remembers the version of the defaults that it began with.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from extremal.pipeline.config import build_config, default_tree, stored_tree
from extremal.storage import ConfigMismatch, Run, RunError
from extremal.storage.manifest import Data, Manifest, Model, canonical
from extremal.storage.trees import ABSENT, Leaves, Tree, diff, flatten, nested
from extremal.workers.config import RunConfig


@dataclass(frozen=True)
class Change:
    """A default that became another with a version of the defaults, from 2.

    Attributes:
        key: its place in a TOML file. before: the default in the versions before.
    """

    version: int
    key: tuple[str, ...]
    before: Any


CHANGES: tuple[Change, ...] = ()
DEFAULTS_VERSION = max((change.version for change in CHANGES), default=1)

# Settings of runs of schema 4 that are gone, with the only values that any preset had.
RETIRED: Mapping[tuple[str, ...], Any] = {
    (study, "schedule", key): value
    for study in ("spatial", "channel")
    for key, value in (("settle", 0.0), ("check", 10))
}


def differences(tree: Mapping[str, Any]) -> Tree:
    """What of a configuration, nested as in a TOML file, differs from the defaults."""
    defaults, leaves = flatten(default_tree()), flatten(canonical(tree))
    return nested({path: value for path, value in leaves.items() if defaults.get(path, ABSENT) != value})


def run_settings(manifest: Manifest) -> Tree:
    """What of a run's configuration differs from today's defaults, whatever version wrote it.

    Raises:
        RunError: a later version, with other defaults, began it.
    """
    if manifest.defaults > DEFAULTS_VERSION:
        raise RunError(
            f"The run was begun with version {manifest.defaults} of the defaults, this code knows "
            f"{DEFAULTS_VERSION}. Use the version of extremal that began it, or a later one."
        )
    if manifest.settings is None:  # schema 4, whose defaults were those of version 1
        leaves = flatten(without_retired(manifest.config))
    else:
        leaves = flatten(manifest.settings)
    return differences(nested(_restated(leaves, manifest.defaults)))


def run_tree(manifest: Manifest) -> Tree:
    """The whole configuration of a run in today's settings, but for locations.

    Raises:
        RunError: as `run_settings`.
    """
    return nested(flatten(default_tree()) | flatten(run_settings(manifest)))


def without_retired(tree: Mapping[str, Any]) -> Tree:
    """A stored configuration without settings that are gone and had their only value."""
    return nested({path: v for path, v in flatten(tree).items() if RETIRED.get(path, ABSENT) != v})


def _restated(leaves: Leaves, version: int) -> Leaves:
    """Settings of a run with those that it left at defaults which are others today."""
    changes = [change for change in CHANGES if change.version > version]
    if not changes:
        return leaves
    # The oldest change after that version tells what the default was then.
    before: Leaves = {}
    for change in sorted(changes, key=lambda change: change.version):
        before.setdefault(change.key, change.before)
    leaves = before | leaves
    # Of sections that the run does not read, no default matters.
    defaults = flatten(default_tree())
    today = {path: value for path, value in leaves.items() if path in defaults}
    read = flatten(stored_tree(build_config(nested(defaults | today))))
    return {path: value for path, value in leaves.items() if path in read or path not in before}


def config_settings(config: RunConfig) -> Tree:
    """What of a configuration differs from the defaults: no locations, no settings that are not read."""
    return differences(stored_tree(config))


def check_identity(run: Run, config: RunConfig, model: Model, data: Data) -> None:
    """Refuse to continue a run with another identity.

    Raises:
        ConfigMismatch: with one line per differing key.
    """
    manifest = run.manifest
    stored = _identity(run_settings(manifest), manifest.model, manifest.data)
    mine = _identity(config_settings(config), model, data)
    lines = diff(stored, mine, defaults={"config": default_tree()})
    if lines:
        raise ConfigMismatch(
            f"{run.place()} holds a run with another configuration (stored -> yours):\n  "
            + "\n  ".join(lines)
            + "\nRepeat the stored options to resume it, or choose another --out."
        )


def _identity(settings: Tree, model: Model, data: Data) -> Tree:
    return canonical({"config": settings, "model": asdict(model), "data": asdict(data)})
