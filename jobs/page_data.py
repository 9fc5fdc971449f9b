"""What the files below data/ hold, typed; docs/report-data.md says what the numbers mean.

`Table` is a table of text for people. Keys that Python keeps for itself stand in the functional form.
"""

from typing import Any, Literal

from typing_extensions import TypedDict

Number = float | None
Labelled = list[list[str]]  # [[label, text], ...]


class Column(TypedDict):
    label: str
    number: bool


class Table(TypedDict):
    id: str
    title: str
    note: str
    columns: list[Column]
    rows: list[list[str]]


# ---- data/overview.js ---------------------------------------------------------------------------


class RunRecord(TypedDict):
    place: str
    kind: str
    network: str
    dataset: str
    complete: bool


class Counts(TypedDict):
    pairs: int
    results: int
    failed: int
    missing: int


class Has(TypedDict):
    classes: bool
    pictures: bool


class Overview(TypedDict):
    title: str
    kind: str
    made: str
    runs: list[RunRecord]
    facts: Labelled
    counts: Counts
    tables: list[Table]
    failures: Table
    config: dict[str, Any]
    methods: list[str]
    classes: list[str]
    class_sizes: list[int]
    pairs: int
    chunk: int
    per_file: int
    size_label: str | None
    has: Has


# ---- data/index-NNN.js --------------------------------------------------------------------------

IndexFile = TypedDict(
    "IndexFile",
    {
        "start": int,
        "class": list[int],
        "image": list[str],
        "state": str,
        "a_star": list[Number],
        "kept": list[Number],
        "hits": dict[str, str],
        "distance": dict[str, list[Number]],
        "disagreement": list[Number],
        "picture": list[int],
        "swept": str,
        "aspect": list[Number],
    },
)


# ---- data/pairs/NNNNN.js ------------------------------------------------------------------------


class Tile(TypedDict):
    label: str
    group: Literal["masks", "maps", "channel", "truth"]
    method: str
    size: Number
    score: Number
    deleted: Number


class Strip(TypedDict):
    cells: list[int]
    tiles: list[Tile]


class Point(TypedDict):
    method: str
    x: int
    y: int
    outcome: Literal["h", "m", "s", "n"]
    distance: Number


class Series(TypedDict):
    name: str
    scores: list[Number]


class Curve(TypedDict):
    title: str
    label: str
    sizes: list[float]
    series: list[Series]
    full: Number
    perturbed: Number
    a_star: Number


class InversionRecord(TypedDict):
    whole: str
    masked: str | None
    numbers: Labelled


class Failure(TypedDict):
    stage: str
    error_type: str
    error: str


PairEntry = TypedDict(
    "PairEntry",
    {
        "pair": int,
        "image_id": str,
        "path": str,
        "class": int,
        "class_name": str,
        "target": int | None,
        "target_name": str | None,
        "width": int | None,
        "height": int | None,
        "picture": int,
        "region": list[float] | None,
        "strip": Strip | None,
        "boxes": list[list[int]],
        "points": list[Point],
        "curves": list[Curve],
        "numbers": Labelled,
        "inversion": InversionRecord | None,
        "failure": Failure | None,
    },
)


class PairsFile(TypedDict):
    start: int
    pairs: list[PairEntry]


# ---- data/classes.js ----------------------------------------------------------------------------

ClassRow = TypedDict(
    "ClassRow",
    {
        "class": int,
        "name": str,
        "pairs": int,
        "results": int,
        "failed": int,
        "mean_a_star": Number,
        "no_a_star": int,
        "hits": dict[str, list[int]],
        "top": list[int],
        "specific": list[int],
    },
)


class SimilarityRecord(TypedDict):
    image: str
    order: list[int]
    closest: Table
    note: str


class ClassesFile(TypedDict):
    classes: list[ClassRow]
    similarity: SimilarityRecord | None
    ablation: Table | None


# ---- data/class/NNNNN.js ------------------------------------------------------------------------


class Histogram(TypedDict):
    label: str | None
    sizes: list[float]
    counts: list[int]
    none: int


class Example(TypedDict):
    pair: int | None
    class_name: str
    image: str | None
    activation: float


class ChannelRecord(TypedDict):
    channel: int
    kind: Literal["top", "specific"]
    value: float
    picture: str | None
    examples: list[Example]


ClassFile = TypedDict(
    "ClassFile",
    {
        "class": int,
        "name": str,
        "pairs": list[int],
        "total": int,
        "layer": str | None,
        "a_star": Histogram | None,
        "mean_mask": list[float] | None,
        "channels": list[ChannelRecord],
    },
)
