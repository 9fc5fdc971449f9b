"""What a table of a run is, and what a row of its plan stands for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import Any, NamedTuple

import pyarrow as pa

FLOATS = pa.list_(pa.float32())
HALVES = pa.list_(pa.float16())
INTS = pa.list_(pa.int32())

Fields = tuple[pa.Field, ...]


def field(name: str, kind: pa.DataType, doc: str, nullable: bool = False) -> pa.Field:
    """A column, with what it means for the reference and for who reads a file's metadata."""
    return pa.field(name, kind, nullable=nullable, metadata={"doc": doc})


@dataclass(frozen=True)
class Unit:
    """What a run computes one after the other: a pair, a channel.

    Attributes:
        key: columns that name a unit in every table of its run; the first is its number, the row of the plan.
        planned: what the plan says besides, for a worker that knows nothing else.
        resulting: what every result says besides.
        identify: what tells a unit from all others of its dataset; its seed comes from that.
        label: its name in messages.
    """

    name: str
    key: Fields = attribute(compare=False)
    planned: Fields = attribute(compare=False)
    resulting: Fields = attribute(compare=False)
    identify: Callable[[Mapping[str, Any]], str] = attribute(compare=False)
    label: Callable[[Mapping[str, Any]], str] = attribute(compare=False)

    @property
    def number(self) -> str:
        """The column of a unit's number, by which the tables of a run join."""
        return str(self.key[0].name)

    @property
    def key_names(self) -> list[str]:
        """The columns of the key."""
        return [column.name for column in self.key]

    @property
    def plan(self) -> pa.Schema:
        """The schema of a plan of such units."""
        return pa.schema([*self.key, *SCHEDULE, *self.planned])


SCHEDULE: Fields = (
    field("shard", pa.int32(), "slice of the plan: the unit of scheduling, commit and resume"),
    field("batch", pa.int32(), "units that are computed together; a shard is whole batches"),
)


class Sweep(NamedTuple):
    """Columns of rows that hold masks of several sizes: the sizes, and the scores over them."""

    sizes: str
    scores: str


@dataclass(frozen=True)
class Kind:
    """A kind of table: a study's results, or what stands beside them.

    Attributes:
        name: the folder of its Parquet dataset inside a run.
        columns: those of its own, after the unit's.
        result: whether its rows are results, and have the columns of one.
        beside: kinds of the tables that are written with a study's results.
        sweep: of rows that hold masks of several sizes, of which a* is one.
    """

    name: str
    columns: Fields = attribute(compare=False)
    result: bool = attribute(default=True, compare=False)
    beside: "tuple[Kind, ...]" = attribute(default=(), compare=False)
    sweep: Sweep | None = attribute(default=None, compare=False)

    def schema(self, unit: Unit) -> pa.Schema:
        """The columns of the table in a run of such units."""
        before = [*unit.key, *(unit.resulting if self.result else ())]
        named = {column.name for column in before}
        return pa.schema([*before, *(column for column in self.columns if column.name not in named)])
