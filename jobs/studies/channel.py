"""Channel attribution: masks over counts of channels, and the saliency of eq. 11."""

from extremal.jobs.page_data import Curve
from extremal.jobs.studies.view import (
    SWEEP_COLUMNS,
    SWEEP_LABELS,
    Row,
    StudyView,
    labelled,
    make_curve,
    positive_maps,
    tile,
)

_LABEL = "channels"


def _curve(row: Row) -> Curve:
    series = {"best channels, exactly": "score_binary", "mask as optimized": "score"}
    return make_curve(f"Score over channels of {row['layer']}", _LABEL, row["counts"], row, series)


CHANNEL = StudyView(
    name="channel",
    columns=(*SWEEP_COLUMNS, "layer", "counts", "score", "score_binary", "saliency_shape"),
    sweep_label=_LABEL,
    tiles=lambda row: (
        [tile(f"channels of {row['layer']}", "channel", "channel")] if row["saliency_shape"] else []
    ),
    cells=lambda settings, row: row["saliency_shape"],
    map_columns=("saliency", "saliency_shape"),
    maps=lambda settings, table: positive_maps(table, "saliency", "saliency_shape"),
    curve=_curve,
    numbers=lambda row: labelled(row, {"layer": "layer", **SWEEP_LABELS}, "channel: "),
    channel_masks=True,
    next_command="classes",
    explain="extremal.jobs.studies.explain_channel:explain",
)
