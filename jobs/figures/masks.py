"""Masks over areas: the layouts of the paper's Figures 1, 3 and 5."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

from extremal.jobs.drawing import (
    BLUE,
    GREEN,
    SIDE,
    Curves,
    Panel,
    draw_curves,
    draw_panel,
    draw_row,
    new_figure,
    overlay,
    sheet,
)
from extremal.jobs.figures.chosen import Chosen, FigureRuns, Runs
from extremal.jobs.figures.panels import ground_of, image_panel, name_of
from extremal.jobs.joined_runs import Absent, Row
from extremal.pipeline.stored_masks import draw_masks

STUDY = "spatial"
SATURATION = 1.25  # of the bars of Figure 5: a quarter above the whole image's score


@dataclass(frozen=True)
class Sweep:
    """A row of the spatial table, drawn: the image, and a panel for every area, that of a* as its star."""

    row: Row
    image: Panel
    masks: list[Panel]


def masks_of_areas(
    runs: Runs, pairs: Chosen = None, classes: Chosen = None, root: str | None = None
) -> Figure:
    """Each image with its extremal masks over areas, that of a* framed (Figure 1). Needs a spatial run."""
    joined = FigureRuns(runs, root, STUDY)
    return sheet([_all_masks(sweep) for sweep in _sweeps(joined, pairs, classes)])


def score_curve(runs: Runs, pairs: Chosen = None, classes: Chosen = None, root: str | None = None) -> Figure:
    """Scores of the preserved and of the deleted mask against its area, the masks above (Figure 3).

    Needs a spatial run. A thin line leads from each mask to its score.
    """
    joined = FigureRuns(runs, root, STUDY)
    return _two_storeys(_sweeps(joined, pairs, classes), 3.0, _draw_porcupine)


def area_growth(runs: Runs, pairs: Chosen = None, classes: Chosen = None, root: str | None = None) -> Figure:
    """Masks over areas and, as bars, their score over the whole image's, at most 1.25 (Figure 5).

    Needs a spatial run. The numbers at the bars are not cut. Where the whole image's logit is not positive
    the quotient has no meaning, and there are no bars.
    """
    joined = FigureRuns(runs, root, STUDY)
    return _two_storeys(_sweeps(joined, pairs, classes), 0.9, _draw_growth)


def _sweeps(joined: FigureRuns, pairs: Chosen, classes: Chosen) -> list[Sweep | Panel]:
    """The masks of each pair, or why there are none."""
    sweeps: list[Sweep | Panel] = []
    for pair in joined.pairs(pairs, classes):
        try:
            sweeps.append(sweep_of(joined, pair))
        except Absent as absent:
            sweeps.append(Panel(name_of(pair), note=str(absent)))
    return sweeps


def sweep_of(joined: FigureRuns, pair: Row) -> Sweep:
    """The masks of a pair over areas.

    Raises:
        Absent: there are none.
    """
    run, row = joined.rows(STUDY, pair)[0]
    title = f"{name_of(row)}: {row['score_full']:.1f}"
    image = image_panel(joined, run, row, title, row["input_shape"])
    ground = ground_of(image, *row["input_shape"])
    star = star_of(row)
    masks = [
        Panel(f"area {area:.3g}: {score:.1f}", overlay(ground, mask), star=i == star)
        for i, (area, score, mask) in enumerate(
            zip(row["areas"], row["score_preserve"], draw_masks(run, row), strict=True)
        )
    ]
    return Sweep(row, image, masks)


def star_of(row: Row) -> int | None:
    """Which of the areas is a*, if any: the bisection may have found another one."""
    if row["a_star"] is None:
        return None
    near = np.flatnonzero(np.isclose(row["areas"], row["a_star"]))
    return int(near[0]) if len(near) else None


def spatial_curves(row: Row) -> Curves:
    """Scores of a row of the spatial table."""
    scores = {"preserve": row["score_preserve"], "delete": row["score_delete"]}
    levels = {"whole image": row["score_full"], "fully perturbed": row["score_perturbed"]}
    return Curves(row["areas"], scores, levels, row["a_star"], "area kept")


def _all_masks(sweep: Sweep | Panel) -> list[Panel]:
    return [sweep] if isinstance(sweep, Panel) else [sweep.image, *sweep.masks]


def _two_storeys(
    sweeps: Sequence[Sweep | Panel], height: float, draw: Callable[[Axes, Sequence[Axes], Sweep], None]
) -> Figure:
    """For each pair its image and masks, and below the masks a graph of them.

    Args:
        height: of the graphs, inches.
        draw: the graph, in its axes and given those of the masks.
    """
    areas = max((len(sweep.masks) for sweep in sweeps if isinstance(sweep, Sweep)), default=1)
    figure = new_figure(SIDE * (1 + areas), (SIDE + 0.35 + height) * len(sweeps))
    grid = figure.add_gridspec(2 * len(sweeps), 1 + areas, height_ratios=[SIDE, height] * len(sweeps))
    for i, sweep in enumerate(sweeps):
        top = [figure.add_subplot(grid[2 * i, column]) for column in range(1 + areas)]
        draw_row(top, _all_masks(sweep))
        if isinstance(sweep, Sweep):
            below = figure.add_subplot(grid[2 * i + 1, 1 : 1 + len(sweep.masks)])
            draw(below, top[1:], sweep)
    return figure


def _draw_porcupine(axis: Axes, masks: Sequence[Axes], sweep: Sweep) -> None:
    curves = spatial_curves(sweep.row)
    draw_curves(axis, curves)
    for picture, area, score in zip(masks, curves.sizes, sweep.row["score_preserve"], strict=False):
        line = ConnectionPatch(
            (0.5, 0), (area, score), picture.transAxes, axis.transData, color="grey", linewidth=0.5
        )
        line.set_in_layout(False)
        axis.figure.add_artist(line)


def _draw_growth(axis: Axes, masks: Sequence[Axes], sweep: Sweep) -> None:
    full, areas = sweep.row["score_full"], sweep.row["areas"]
    axis.set_xlim(-0.5, len(areas) - 0.5)
    axis.set_xticks([])
    if full <= 0:
        draw_panel(axis, Panel("", note=f"the whole image's score, {full:.1f}, is not positive"))
        return
    shares = [score / full for score in sweep.row["score_preserve"]]
    bars = axis.bar(range(len(areas)), np.minimum(shares, SATURATION), 0.6, color=BLUE)
    axis.bar_label(bars, [f"{share:.2f}" for share in shares], fontsize=8, padding=1)
    axis.axhline(1, color=GREEN, linewidth=1)
    axis.set_ylim(min(0.0, *shares), SATURATION + 0.25)
    axis.set_yticks([0, 1, SATURATION])
    axis.tick_params(labelsize=8)
    axis.set_ylabel("score / whole", fontsize=8)
