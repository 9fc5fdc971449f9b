"""Channels and the classes they speak for: the layouts of the paper's Figures 8 and 10."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from extremal.jobs.drawing import (
    BLUE,
    ORANGE,
    SIDE,
    Curves,
    Panel,
    draw_curves,
    draw_row,
    heat,
    new_figure,
    plain,
)
from extremal.jobs.figures.chosen import SHOWN, Chosen, FigureRuns, Runs, choose
from extremal.jobs.figures.panels import ground_of, image_panel, name_of, or_note, stored_picture
from extremal.jobs.joined_runs import Absent, Row
from extremal.jobs.studies import view_of
from extremal.pipeline.aggregates.class_channels import class_channels
from extremal.pipeline.aggregates.exemplars import exemplars
from extremal.storage import Run, RunError

STUDY = "channel"
CELL = 16  # pixels, where there is no image, of a cell of a channel's map
EXAMPLES = 4  # images that excite a channel


def channel_curve(
    runs: Runs, pairs: Chosen = None, classes: Chosen = None, root: str | None = None
) -> Figure:
    """Score against the number of channels, with the saliency of eq. 11 (Figure 8). Needs a channel run."""
    joined = FigureRuns(runs, root, STUDY)
    chosen = joined.pairs(pairs, classes)
    figure = new_figure(SIDE * 4.5, (SIDE + 0.5) * len(chosen))
    axes = figure.subplots(len(chosen), 3, squeeze=False, width_ratios=[1, 1, 2.5])
    for axes_row, pair in zip(axes, chosen, strict=True):
        try:
            run, row = joined.rows(STUDY, pair)[0]
        except Absent as absent:
            draw_row(axes_row, [Panel(name_of(pair), note=str(absent))])
            continue
        draw_row(axes_row[:2], channel_panels(joined, run, row))
        draw_curves(axes_row[2], channel_curves(row))
    return figure


def channels_of_classes(runs: Runs, classes: Chosen = None, root: str | None = None) -> Figure:
    """Each class's mean channel mask as bars, the inversion of its largest, k*_c, and the images that excite
    that channel most, of whatever class (Figure 10, seeds CH-6).

    Needs a channel run, and for the inversions an inversion run of channels.
    """
    joined = FigureRuns(runs, root, STUDY)
    run = joined.of_study(STUDY)[0]
    table = {(row["class_id"], row["class_name"]): row for row in class_channels(run, 1).to_pylist()}
    keys = list(table)[:SHOWN] if classes is None else choose(list(table), classes)
    if not keys:
        raise RunError(f"{run.place()} has no result yet.")
    stars = {key: table[key]["top_channels"][0] for key in keys if table[key]["mean_mask"] is not None}
    examples = exemplars(run, sorted(set(stars.values())), EXAMPLES)
    figure = new_figure(SIDE * (4 + EXAMPLES), (SIDE + 0.35) * len(keys))
    axes = figure.subplots(len(keys), 2 + EXAMPLES, squeeze=False, width_ratios=[3, *[1] * (1 + EXAMPLES)])
    for axes_row, key in zip(axes, keys, strict=True):
        if key not in stars:
            draw_row(axes_row, [Panel(_class_name(table[key]), note="no pair of this class has an a*")])
            continue
        _draw_mean_mask(axes_row[0], table[key], stars[key])
        star = stars[key]
        inversion = or_note(f"channel {star}", visualized, joined, run, star)
        draw_row(axes_row[1:], [inversion, *exciting(joined, run, examples, star)])
    return figure


def channel_panels(joined: FigureRuns, run: Run, row: Row) -> list[Panel]:
    """The image of a row of the channel table, and its saliency (eq. 11)."""
    rows, columns = row["saliency_shape"]
    image = image_panel(joined, run, row, f"{name_of(row)}: {row['score_full']:.1f}")
    ground = ground_of(image, CELL * rows, CELL * columns)
    most, channels = row["counts"][-1], row["masks_shape"][1]
    kept = f"no a*: {most}" if row["a_star"] is None else f"a* = {row['a_star']}"
    saliency = heat(ground, np.reshape(row["saliency"], (rows, columns)))
    return [image, Panel(f"{kept} of {channels} channels", saliency)]


def channel_curves(row: Row) -> Curves:
    """Scores of a row of the channel table."""
    scores = {"best channels, exactly": row["score_binary"], "mask": row["score"]}
    levels = {"all channels": row["score_full"], "no channel": row["score_perturbed"]}
    return Curves(row["counts"], scores, levels, row["a_star"], f"channels of {row['layer']} kept")


def visualized(joined: FigureRuns, channels: Run, channel: int, before: str = "") -> Panel:
    """The inversion of a single channel of a channel run; `before` begins its title.

    Raises:
        Absent: no run has it.
    """
    for run in joined.runs:
        pictures = view_of(run).channel_pictures
        if pictures is None or not pictures.fit(run, channels):
            continue
        for shard in run.committed():  # the pictures, which are large, are read of one shard alone
            if channel in pictures.channels(run, shard):
                return Panel(f"{before}channel {channel}", stored_picture(pictures.png(run, shard, channel)))
    raise Absent("no inversion of this channel in the runs given")


def exciting(joined: FigureRuns, run: Run, examples: pa.Table, channel: int) -> list[Panel]:
    """The images that excite a channel of a channel run most, of the rows of `exemplars`."""
    rows = examples.filter(pc.equal(examples["channel"], channel)).to_pylist()
    return [image_panel(joined, run, row, f"activation {row['activation']:.1f}") for row in rows]


def _class_name(row: Row) -> str:
    return str(row["class_name"] or f"class {row['class_id']}")


def _draw_mean_mask(axis: Axes, row: Row, star: int) -> None:
    mask = row["mean_mask"]
    colours = [ORANGE if k == star else BLUE for k in range(len(mask))]
    axis.bar(range(len(mask)), mask, 1.0, color=colours)
    title = f"{_class_name(row)} (n = {row['n'] - row['n_no_a_star']})"
    axis.set_title(plain(title), fontsize=8, parse_math=False)
    axis.set_xlim(-0.5, len(mask) - 0.5)
    axis.set_ylim(0, 1.05)
    axis.set_xlabel(plain(f"channels of {row['layer']}"), fontsize=8, parse_math=False)
    axis.set_ylabel("mean mask", fontsize=8)
