"""Extremal perturbations: masks over areas."""

from collections import defaultdict
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from extremal.jobs.page_data import Tile
from extremal.jobs.studies.view import (
    SWEEP_COLUMNS,
    SWEEP_LABELS,
    Floats,
    Row,
    StudyView,
    labelled,
    make_curve,
    short,
    tile,
)
from extremal.pipeline.stored_masks import cell_shape, draw_cells, mask_config
from extremal.workers.extremal.settings import MaskConfig

Size = tuple[int, int]

_LABEL = "area"


def _tiles(row: Row) -> list[Tile]:
    sweep = zip(row["areas"], row["score_preserve"], row["score_delete"], strict=True)
    return [
        {
            **tile(f"area {area:.3g}", "masks", "extremal"),
            "size": short(area),
            "score": short(score),
            "deleted": short(deleted),
        }
        for area, score, deleted in sweep
    ]


def _maps(masks: MaskConfig, table: pa.Table) -> Iterator[tuple[int, Floats]]:
    """Small masks, those of one shape drawn together."""
    shapes = zip(table["input_shape"].to_pylist(), table["params_shape"].to_pylist(), strict=True)
    groups: dict[tuple[Size, tuple[int, ...]], list[int]] = defaultdict(list)
    for i, (shape, params) in enumerate(shapes):
        groups[(shape[0], shape[1]), tuple(params)].append(i)
    for (shape, params), rows in groups.items():
        values = pc.list_flatten(table["params"].take(rows)).to_numpy().reshape(-1, *params)
        yield from zip(rows, draw_cells(values, shape, masks), strict=True)


SPATIAL = StudyView(
    name="spatial",
    columns=(*SWEEP_COLUMNS, "input_shape", "areas", "score_preserve", "score_delete"),
    settings=mask_config,
    sweep_label=_LABEL,
    tiles=_tiles,
    cells=lambda masks, row: cell_shape(tuple(row["input_shape"]), masks),
    map_columns=("params", "params_shape", "input_shape"),
    maps=_maps,
    curve=lambda row: make_curve(
        "Score over area", _LABEL, row["areas"], row, {"preserve": "score_preserve", "delete": "score_delete"}
    ),
    numbers=lambda row: labelled(row, SWEEP_LABELS, "spatial: "),
    explain="extremal.jobs.studies.explain_spatial:explain",
)
