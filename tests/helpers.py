"""Small runs made by hand: one row per table, overridden field by field."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from extremal.storage import Manifest, Run
from extremal.storage.kinds import PAIR, Kind
from extremal.storage.manifest import Model

Row = dict[str, Any]


def _blank(field: pa.Field) -> Any:
    """The emptiest value a field allows."""
    if field.nullable:
        return None
    if pa.types.is_list(field.type) or pa.types.is_map(field.type):
        return []
    if pa.types.is_string(field.type):
        return ""
    return False if pa.types.is_boolean(field.type) else 0


def row(schema: pa.Schema, **values: Any) -> Row:
    """A row of a schema: blank but for the values given."""
    unknown = values.keys() - set(schema.names)
    assert not unknown, unknown
    return {field.name: values.get(field.name, _blank(field)) for field in schema}


def rows(kind: Kind, *values: Mapping[str, Any]) -> pa.Table:
    """Table of a kind, one row per mapping of values."""
    return pa.Table.from_pylist([row(kind.schema(PAIR), **v) for v in values], schema=kind.schema(PAIR))


def plan(shards: Sequence[int]) -> pa.Table:
    """A plan of len(shards) pairs, pair i in shard shards[i]."""
    return pa.Table.from_pylist(
        [
            row(PAIR.plan, pair=i, image_id=f"image{i}", shard=shard, boxes=[[0, 0, i, i]], targets=[i])
            for i, shard in enumerate(shards)
        ],
        schema=PAIR.plan,
    )


def manifest(kind: Kind, **config: Any) -> Manifest:
    """A manifest whose identity is the given config and a fixed model."""
    return Manifest(kind.name, config, Model("toy"))


def make_run(
    path: Path | str,
    kind: Kind,
    shards: Mapping[int, Mapping[Kind, Sequence[Mapping[str, Any]]]],
    **config: Any,
) -> Run:
    """A run at `path` with these shards, committed in the order of the mapping."""
    run = Run.create(str(path), manifest(kind, **config), plan(sorted(shards)))
    for shard, tables in shards.items():
        whole = {kind: rows(kind), **{k: rows(k, *values) for k, values in tables.items()}}
        run.commit(shard, whole)
    return run
