"""Pictures of what activations hold: the layout of the paper's Figure 9, and a contact sheet of classes."""

import numpy as np
from matplotlib.figure import Figure

from extremal.jobs.drawing import Panel, heat, sheet
from extremal.jobs.figures.channels import STUDY as CHANNELS
from extremal.jobs.figures.channels import channel_panels, visualized
from extremal.jobs.figures.chosen import MOST, SHOWN, Chosen, ClassKey, FigureRuns, Runs, choose
from extremal.jobs.figures.panels import image_panel, name_of, or_note, stored_picture
from extremal.jobs.joined_runs import Absent, Row
from extremal.jobs.studies import view_of
from extremal.pipeline.aggregates.class_channels import CLASS, class_channels, class_keys
from extremal.storage import RunError

STUDY = "inversion"


def inversion_difference(
    runs: Runs, pairs: Chosen = None, classes: Chosen = None, root: str | None = None
) -> Figure:
    """What the channels of a* keep, as a picture (Figure 9).

    The image, the saliency of eq. 11, the inversion of the whole activations, that of the masked ones (eq.
    12), and the Euclidean distance of the two pictures' colours. Needs an inversion run, and for the saliency
    a channel run.
    """
    joined = FigureRuns(runs, root, STUDY)
    return sheet(
        [
            [*seen_panels(joined, pair), *inversion_panels(joined, pair)]
            for pair in joined.pairs(pairs, classes)
        ]
    )


def inversions_of_classes(runs: Runs, classes: Chosen = None, root: str | None = None) -> Figure:
    """A contact sheet: in a row for each class the inversions of its channels, then those of its images.

    Needs an inversion run of pairs, of which the first few of each class are shown. The channels are the
    largest of the class's mean mask and the most specific one; they need a channel run and its inversions of
    channels, and are left out without one.
    """
    joined = FigureRuns(runs, root, STUDY)
    of_pairs = [run for run in joined.of_study(STUDY) if view_of(run).of_pairs(run)]
    if not of_pairs:
        raise RunError("This figure needs inversions of pairs: add a run of --method inversion.")
    shown = FigureRuns((of_pairs[0],), joined.root)
    members: dict[ClassKey, list[int]] = {}
    for table in of_pairs[0].tables(of_pairs[0].kind, ["pair", *CLASS]):
        for key, pair in zip(class_keys(table), table["pair"].to_pylist(), strict=True):
            members.setdefault(key, []).append(pair)
    keys = sorted(members) if classes is None else choose(sorted(members), classes)
    if not 0 < len(keys) <= MOST:
        raise RunError(
            f"{len(keys)} classes have inversions; a sheet shows 1 to {MOST}: choose by --classes."
        )
    channels = _channels_by_class(joined)
    return sheet(
        [
            [
                *channels.get(key, []),
                *(or_note(name_of(p), inverted, shown, p) for p in shown.pairs(members[key][:SHOWN])),
            ]
            for key in keys
        ]
    )


def _channels_by_class(joined: FigureRuns) -> dict[ClassKey, list[Panel]]:
    """Inversions of the largest and of the most specific channel of each class of the first channel run."""
    panels: dict[ClassKey, list[Panel]] = {}
    for run in joined.of_study(CHANNELS)[:1]:
        for row in class_channels(run, 1).to_pylist():
            first = {kind: (row[f"{kind}_channels"] or [None])[0] for kind in ("top", "specific")}
            panels[row["class_id"], row["class_name"]] = [
                Panel(kind, note="no pair of this class has an a*")
                if channel is None
                else or_note(f"{kind}: channel {channel}", visualized, joined, run, channel, f"{kind}: ")
                for kind, channel in first.items()
            ]
    return panels


def seen_panels(joined: FigureRuns, pair: Row) -> list[Panel]:
    """The image of a pair and its channel saliency."""
    try:
        return channel_panels(joined, *joined.rows(CHANNELS, pair)[0])
    except Absent as absent:
        image = image_panel(joined, joined.runs[0], pair, name_of(pair))
        return [image, Panel("saliency", note=str(absent))]


def inversion_panels(joined: FigureRuns, pair: Row) -> list[Panel]:
    """The inversions of the whole and of the masked activations, and where they differ."""
    try:
        _, row = joined.rows(STUDY, pair)[0]
        whole = stored_picture(row["image"])
        masked = stored_picture(row["image_masked"])
    except Absent as absent:
        return [Panel("inversion", note=str(absent))]
    distance = np.sqrt(((whole - masked) ** 2).sum(2))
    between = row["cosine_between"]
    title = "difference" + ("" if between is None else f"\ncosine of activations {between:.2f}")
    return [
        Panel("all channels", whole),
        Panel("no a*: largest count" if row["a_star"] is None else f"{row['a_star']} channels", masked),
        Panel(title, heat(whole, distance)),
    ]


def inverted(joined: FigureRuns, pair: Row) -> Panel:
    """The inversion of a pair's whole activations.

    Raises:
        Absent: there is none.
    """
    _, row = joined.rows(STUDY, pair)[0]
    return Panel(f"{name_of(row)}: cosine {row['cosine']:.2f}", stored_picture(row["image"]))
