"""Methods side by side: the layout of the paper's Figure 2."""

from collections.abc import Callable
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from extremal.jobs.drawing import Panel, heat, sheet
from extremal.jobs.figures.chosen import Chosen, FigureRuns, Runs
from extremal.jobs.figures.masks import STUDY as MASKS
from extremal.jobs.figures.masks import star_of, sweep_of
from extremal.jobs.figures.panels import ground_of, image_panel, name_of, or_note
from extremal.jobs.joined_runs import Absent, Row
from extremal.jobs.studies.saliency import methods
from extremal.storage import RunError

MAPS = "saliency"


def compare_methods(
    runs: Runs, pairs: Chosen = None, classes: Chosen = None, root: str | None = None
) -> Figure:
    """Each image, its extremal mask at a* and the other methods' maps (Figure 2).

    Needs a spatial run, or one of saliency methods that stored their maps, or both.
    """
    joined = FigureRuns(runs, root)
    columns: dict[str, Callable[[Row], Panel]] = {}
    if joined.of_study(MASKS):
        columns["extremal"] = partial(extremal_panel, joined)
    for run in joined.of_study(MAPS):
        for method in methods(run):
            columns.setdefault(method, partial(map_panel, joined, method))
    if not columns:
        raise RunError("This figure needs a spatial run or one of saliency methods. Add one.")
    rows = []
    for pair in joined.pairs(pairs, classes):
        image = image_panel(joined, joined.runs[0], pair, name_of(pair))
        rows.append([image, *(or_note(name, make, pair) for name, make in columns.items())])
    return sheet(rows)


def extremal_panel(joined: FigureRuns, pair: Row) -> Panel:
    """The mask of a*, or else of the next larger area, or of the largest.

    Raises:
        Absent: there are none.
    """
    sweep = sweep_of(joined, pair)
    areas, a_star, star = sweep.row["areas"], sweep.row["a_star"], star_of(sweep.row)
    if star is not None:
        return Panel(f"extremal\na* = {a_star:.3g}", sweep.masks[star].picture)
    if a_star is None:
        return Panel(f"extremal\nno a*: area {areas[-1]:.3g}", sweep.masks[-1].picture)
    larger = min(int(np.searchsorted(areas, a_star)), len(areas) - 1)
    return Panel(f"extremal\na* = {a_star:.3g}: area {areas[larger]:.3g}", sweep.masks[larger].picture)


def map_panel(joined: FigureRuns, method: str, pair: Row) -> Panel:
    """The map of a saliency method.

    Raises:
        Absent: there is none.
    """
    maps = [(run, row) for run, row in joined.rows(MAPS, pair) if row["method"] == method]
    if not maps:
        raise Absent("not computed for this pair")
    run, row = maps[0]
    if not row["map_shape"]:
        raise Absent("no map stored: run with maps = 28 below [saliency]")
    image = image_panel(joined, run, row, method, row["input_shape"])
    ground = ground_of(image, *row["input_shape"])
    return Panel(method, heat(ground, np.reshape(row["map"], row["map_shape"])))
