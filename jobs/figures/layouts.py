"""The layouts of the paper's Figures 1, 2, 3, 5, 8, 9 and 10, and a contact sheet, from the store alone.

Every function takes runs of one dataset, by URI or opened: pairs are those of the first run, and the others
are joined to them by image and class. What a pair lacks is said in its panel; the rest is drawn.

    pairs: numbers of pairs (int) or ids of images (str), each for all its pairs; None = the first few.
    classes: ids (int) or names (str), to which the pairs are limited; None = all.
    root: where the images lie now; None = where they were.

All raise RunError, with the fix, where a run, pair or class is not there or the runs are of other kinds.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from extremal.jobs.report.joined_run import subject_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

from extremal.jobs.figures.chosen import MOST, SHOWN, Absent, ClassKey, Material, Row, Runs, choose
from extremal.jobs.figures.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    SIDE,
    Panel,
    draw_curves,
    draw_panel,
    draw_row,
    new_figure,
    plain,
    sheet,
)
from extremal.jobs.figures.panels import (
    Sweep,
    channel_curves,
    channel_panels,
    exciting,
    extremal_panel,
    image_panel,
    inversion_panels,
    inverted,
    map_panel,
    name_of,
    or_note,
    seen_panels,
    spatial_curves,
    sweep_of,
    visualized,
)
from extremal.pipeline.aggregates.class_channels import CLASS, class_channels, class_keys
from extremal.pipeline.aggregates.exemplars import exemplars
from extremal.storage import RunError, kinds

Chosen = Sequence[int | str] | None

SATURATION = 1.25  # of the bars of Figure 5: a quarter above the whole image's score
EXAMPLES = 4  # images that excite a channel


def masks_of_areas(
    runs: Runs, pairs: Chosen = None, classes: Chosen = None, root: str | None = None
) -> Figure:
    """Each image with its extremal masks over areas, that of a* framed (Figure 1). Needs a spatial run."""
    material = Material.of(runs, root, kinds.SPATIAL)
    return sheet([_all_masks(sweep) for sweep in _sweeps(material, pairs, classes)])


def compare_methods(
    runs: Runs, pairs: Chosen = None, classes: Chosen = None, root: str | None = None
) -> Figure:
    """Each image, its extremal mask at a* and the other methods' maps (Figure 2).

    Needs a spatial run, or one of saliency methods that stored their maps, or both.
    """
    material = Material.of(runs, root)
    columns: dict[str, Callable[[Row], Panel]] = {}
    if material.of_kind(kinds.SPATIAL):
        columns["extremal"] = partial(extremal_panel, material)
    for run in material.of_kind(kinds.SALIENCY):
        for method in run.manifest.setting("saliency", "methods"):
            columns.setdefault(method, partial(map_panel, material, method))
    if not columns:
        raise RunError("This figure needs a spatial run or one of saliency methods. Add one.")
    rows = []
    for pair in material.pairs(pairs, classes):
        image = image_panel(material, material.runs[0], pair, name_of(pair))
        rows.append([image, *(or_note(name, make, pair) for name, make in columns.items())])
    return sheet(rows)


def score_curve(runs: Runs, pairs: Chosen = None, classes: Chosen = None, root: str | None = None) -> Figure:
    """Scores of the preserved and of the deleted mask against its area, the masks above (Figure 3).

    Needs a spatial run. A thin line leads from each mask to its score.
    """
    material = Material.of(runs, root, kinds.SPATIAL)
    return _two_storeys(_sweeps(material, pairs, classes), 3.0, _draw_porcupine)


def area_growth(runs: Runs, pairs: Chosen = None, classes: Chosen = None, root: str | None = None) -> Figure:
    """Masks over areas and, as bars, their score over the whole image's, at most 1.25 (Figure 5).

    Needs a spatial run. The numbers at the bars are not cut. Where the whole image's logit is not positive
    the quotient has no meaning, and there are no bars.
    """
    material = Material.of(runs, root, kinds.SPATIAL)
    return _two_storeys(_sweeps(material, pairs, classes), 0.9, _draw_growth)


def channel_curve(
    runs: Runs, pairs: Chosen = None, classes: Chosen = None, root: str | None = None
) -> Figure:
    """Score against the number of channels, with the saliency of eq. 11 (Figure 8). Needs a channel run."""
    material = Material.of(runs, root, kinds.CHANNEL)
    chosen = material.pairs(pairs, classes)
    figure = new_figure(SIDE * 4.5, (SIDE + 0.5) * len(chosen))
    axes = figure.subplots(len(chosen), 3, squeeze=False, width_ratios=[1, 1, 2.5])
    for axes_row, pair in zip(axes, chosen, strict=True):
        try:
            run, row = material.rows(kinds.CHANNEL, pair)[0]
        except Absent as absent:
            draw_row(axes_row, [Panel(name_of(pair), note=str(absent))])
            continue
        draw_row(axes_row[:2], channel_panels(material, run, row))
        draw_curves(axes_row[2], channel_curves(row))
    return figure


def inversion_difference(
    runs: Runs, pairs: Chosen = None, classes: Chosen = None, root: str | None = None
) -> Figure:
    """What the channels of a* keep, as a picture (Figure 9).

    The image, the saliency of eq. 11, the inversion of the whole activations, that of the masked ones (eq.
    12), and the Euclidean distance of the two pictures' colours. Needs an inversion run, and for the saliency
    a channel run.
    """
    material = Material.of(runs, root, kinds.INVERSION)
    return sheet(
        [
            [*seen_panels(material, pair), *inversion_panels(material, pair)]
            for pair in material.pairs(pairs, classes)
        ]
    )


def channels_of_classes(runs: Runs, classes: Chosen = None, root: str | None = None) -> Figure:
    """Each class's mean channel mask as bars, the inversion of its largest, k*_c, and the images that excite
    that channel most, of whatever class (Figure 10, seeds CH-6).

    Needs a channel run, and for the inversions an inversion run of channels.
    """
    material = Material.of(runs, root, kinds.CHANNEL)
    run = material.of_kind(kinds.CHANNEL)[0]
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
        inversion = or_note(f"channel {star}", visualized, material, run, star)
        draw_row(axes_row[1:], [inversion, *exciting(material, run, examples, star)])
    return figure


def inversions_of_classes(runs: Runs, classes: Chosen = None, root: str | None = None) -> Figure:
    """A contact sheet: in a row for each class the inversions of its channels, then those of its images.

    Needs an inversion run of pairs, of which the first few of each class are shown. The channels are the
    largest of the class's mean mask and the most specific one; they need a channel run and its inversions of
    channels, and are left out without one.
    """
    material = Material.of(runs, root, kinds.INVERSION)
    of_pairs = [run for run in material.of_kind(kinds.INVERSION) if subject_of(run) == "pairs"]
    if not of_pairs:
        raise RunError("This figure needs inversions of pairs: add a run of --method inversion.")
    shown = Material((of_pairs[0],), material.root)
    members: dict[ClassKey, list[int]] = {}
    for table in of_pairs[0].tables(kinds.INVERSION, ["pair", *CLASS]):
        for key, pair in zip(class_keys(table), table["pair"].to_pylist(), strict=True):
            members.setdefault(key, []).append(pair)
    keys = sorted(members) if classes is None else choose(sorted(members), classes)
    if not 0 < len(keys) <= MOST:
        raise RunError(
            f"{len(keys)} classes have inversions; a sheet shows 1 to {MOST}: choose by --classes."
        )
    channels = _channels_by_class(material)
    return sheet(
        [
            [
                *channels.get(key, []),
                *(or_note(name_of(p), inverted, shown, p) for p in shown.pairs(members[key][:SHOWN])),
            ]
            for key in keys
        ]
    )


def _channels_by_class(material: Material) -> dict[ClassKey, list[Panel]]:
    """Inversions of the largest and of the most specific channel of each class of the first channel run."""
    found: dict[ClassKey, list[Panel]] = {}
    for run in material.of_kind(kinds.CHANNEL)[:1]:
        for row in class_channels(run, 1).to_pylist():
            first = {kind: (row[f"{kind}_channels"] or [None])[0] for kind in ("top", "specific")}
            found[row["class_id"], row["class_name"]] = [
                Panel(kind, note="no pair of this class has an a*")
                if channel is None
                else or_note(f"{kind}: channel {channel}", visualized, material, run, channel, f"{kind}: ")
                for kind, channel in first.items()
            ]
    return found


def _sweeps(material: Material, pairs: Chosen, classes: Chosen) -> list[Sweep | Panel]:
    """The masks of each pair, or why there are none."""
    found: list[Sweep | Panel] = []
    for pair in material.pairs(pairs, classes):
        try:
            found.append(sweep_of(material, pair))
        except Absent as absent:
            found.append(Panel(name_of(pair), note=str(absent)))
    return found


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
