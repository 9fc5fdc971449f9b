"""Nested mappings, as in a TOML file or run.json, by the paths of their leaves."""

from collections.abc import Mapping
from typing import Any

Tree = dict[str, Any]
Leaves = dict[tuple[str, ...], Any]

ABSENT = "(absent)"


def flatten(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Leaves:
    """Nested mappings as one, by the path of each leaf; no setting is a mapping, so an empty one has none."""
    leaves: Leaves = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= flatten(value, (*path, key))
        else:
            leaves[(*path, key)] = value
    return leaves


def nested(leaves: Mapping[tuple[str, ...], Any]) -> Tree:
    """The inverse of `flatten`."""
    tree: Tree = {}
    for path, value in leaves.items():
        inner = tree
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = value
    return tree


def diff(
    old: Mapping[str, Any], new: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> list[str]:
    """Lines `key: old -> new` of every leaf in which two nested mappings differ.

    Args:
        defaults: leaves that are shown where only the other mapping has one.
    """
    a, b, shown = flatten(old), flatten(new), flatten(defaults or {})
    return [
        f"{'.'.join(path)}: {a.get(path, shown.get(path, ABSENT))} -> {b.get(path, shown.get(path, ABSENT))}"
        for path in sorted(a.keys() | b.keys())
        if a.get(path, ABSENT) != b.get(path, ABSENT)
    ]
