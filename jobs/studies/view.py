"""What reports and figures must know of a study: how its rows look. One `StudyView` each, see STUDIES."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from extremal.jobs.page_data import Curve, Labelled, Tile
from extremal.storage import Run

Row = dict[str, Any]
Floats = npt.NDArray[np.float32]

SWEEP_COLUMNS = ("score_full", "score_perturbed", "a_star", "binarity", "seconds")
SWEEP_LABELS = {
    "score_full": "score of the whole image (logit)",
    "score_perturbed": "score of the perturbed image (logit)",
    "a_star": "a*",
    "seconds": "seconds",
}


@dataclass(frozen=True)
class PairPictures:
    """PNGs that the rows of a study hold of their pair.

    Attributes:
        whole, masked: columns. has_masked: whether a row, without these columns, has the second.
        numbers: what is told beside them.
    """

    whole: str
    masked: str
    has_masked: Callable[[Row], bool]
    numbers: Callable[[Row], Labelled]


@dataclass(frozen=True)
class ChannelPictures:
    """PNGs that a study's runs hold of channels, not of pairs.

    Attributes:
        channels: those of a shard; some may come twice.
        png: the picture of one of them.
        fit: whether a run's pictures are of the channels of another run: another network's layer may have the
            same name.
    """

    channels: Callable[[Run, int], list[int]]
    png: Callable[[Run, int, int], bytes]
    fit: Callable[[Run, Run], bool]


@dataclass(frozen=True)
class StudyView:
    """How a study's rows look. What is left out is not shown.

    Attributes:
        name: of the study, and of the kind of its results.
        columns: of its main table, as many as a report's pages need and no heavy ones.
        method: what the overview calls it.
        settings: what `cells` and `maps` need of a run's settings; read once a run.
        sweep_label: what the sizes of its sweep count, `area` or `channels`; None without a sweep.
        tiles: the small maps of a row, in order. cells: their rows and columns; nothing without a map.
        map_columns, maps: its heavy columns, and the small maps (T,h,w) in [0,1] of the rows of a table, each
            with the number of its row, in any order.
        curve: scores of a row over sizes, drawn on the pair's page.
        numbers: scalars of a row, as label and text.
        has_points: whether its runs have points.
        of_pairs: whether a run's units are pairs, so that it joins those of a report.
        pair_of: for units that are no pairs the columns of a pair that pages need, where such a run
            comes first.
        pair_pictures, channel_pictures: pictures that were computed.
        channel_masks: whether its rows hold masks of channels, of which the pages of classes tell.
        next_command: what a finished run is best followed by.
        explain: `module:function` that explains one image at once, if there is one.
    """

    name: str
    columns: Sequence[str]
    method: Callable[[Run], str] = lambda run: run.kind.name
    settings: Callable[[Run], Any] = lambda run: None
    sweep_label: str | None = None
    tiles: Callable[[Row], list[Tile]] = lambda row: []
    cells: Callable[[Any, Row], Sequence[int]] = lambda settings, row: ()
    map_columns: Sequence[str] = ()
    maps: Callable[[Any, pa.Table], Iterator[tuple[int, Floats]]] = lambda settings, table: iter(())
    curve: Callable[[Row], Curve] | None = None
    numbers: Callable[[Row], Labelled] = lambda row: []
    has_points: bool = True
    of_pairs: Callable[[Run], bool] = lambda run: run.unit.name == "pair"
    pair_of: Callable[[Run, Row], Row] | None = None
    pair_pictures: PairPictures | None = None
    channel_pictures: ChannelPictures | None = None
    channel_masks: bool = False
    next_command: str = "score"
    explain: str | None = None


def tile(label: str, group: Literal["masks", "maps", "channel", "truth"], method: str) -> Tile:
    """A map without a size or scores."""
    return {"label": label, "group": group, "method": method, "size": None, "score": None, "deleted": None}


def short(value: float) -> float:
    """A float32 of the store with the digits it has; as float64 it would print nine more."""
    return float(f"{value:.6g}")


def make_curve(title: str, label: str, sizes: Sequence[float], row: Row, series: Mapping[str, str]) -> Curve:
    """Scores of a row over the sizes of its sweep.

    Args:
        label: what the sizes count.
        series: columns of scores by their name for people.
    """
    return {
        "title": title,
        "label": label,
        "sizes": [short(size) for size in sizes],
        "series": [
            {"name": name, "scores": [short(score) for score in row[column]]}
            for name, column in series.items()
        ],
        "full": short(row["score_full"]),
        "perturbed": short(row["score_perturbed"]),
        "a_star": None if row["a_star"] is None else float(f"{row['a_star']:.4g}"),
    }


def labelled(row: Row, labels: Mapping[str, str], prefix: str = "") -> Labelled:
    """Those columns of a row that have a label and a value."""
    return [
        [f"{prefix}{label}", f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name])]
        for name, label in labels.items()
        if row[name] is not None
    ]


def positive_maps(table: pa.Table, values: str, shape: str) -> Iterator[tuple[int, Floats]]:
    """What speaks for the target in the stored maps of a table, (1,h,w): 1 where most does.

    What is against it is 0. Rows without a map are left out.
    """
    for i, (cells, size) in enumerate(zip(table[values], table[shape].to_pylist(), strict=True)):
        if size:
            stored = cells.values.to_numpy(zero_copy_only=False).reshape(1, *size)
            positive = np.maximum(stored.astype(np.float32), 0)
            largest = float(positive.max(initial=0))
            yield i, np.asarray(positive / largest if largest else positive, np.float32)
