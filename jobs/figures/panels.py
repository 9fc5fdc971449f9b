"""Panels of figures: pictures of the rows of a run, or the reason why there is none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from extremal.jobs.report.joined_run import belongs

from extremal.jobs.figures.chosen import Absent, Material, Row
from extremal.jobs.figures.drawing import Curves, Panel, heat, overlay, plain
from extremal.pipeline.stored_masks import draw_masks
from extremal.storage import Run, kinds
from extremal.workers.errors import ImageError
from extremal.workers.images import decode

GROUND = 0.7  # brightness of what stands for a missing image below a mask
NAME_LETTERS = 40  # so that the score after a long name is not cut
CELL = 16  # pixels there of a cell of a channel's map


@dataclass(frozen=True)
class Sweep:
    """A row of the spatial table, drawn: the image, and a panel for every area, that of a* as its star."""

    row: Row
    image: Panel
    masks: list[Panel]


def name_of(row: Row) -> str:
    """What a pair is called: its class, or where the dataset knows none, the output that was explained."""
    return plain(str(row["class_name"] or row.get("target_name") or row["image_id"]), NAME_LETTERS)


def or_note(title: str, make: Callable[..., Panel], *arguments: Any) -> Panel:
    """A panel, or why there is none."""
    try:
        return make(*arguments)
    except Absent as absent:
        return Panel(title, note=str(absent))


def image_panel(
    material: Material, run: Run, row: Row, title: str, shape: Sequence[int] | None = None
) -> Panel:
    """The image of a row; see `Material.picture`."""
    try:
        return Panel(title, material.picture(run, row["path"], shape))
    except Absent as absent:
        return Panel(title, note=str(absent))


def ground_of(image: Panel, height: int, width: int) -> np.ndarray:
    """What to lay a mask over: the image, or plain ground of this size where it is missing."""
    return np.full((height, width, 3), GROUND) if image.picture is None else image.picture


def sweep_of(material: Material, pair: Row) -> Sweep:
    """The masks of a pair over areas.

    Raises:
        Absent: there are none.
    """
    run, row = material.rows(kinds.SPATIAL, pair)[0]
    title = f"{name_of(row)}: {row['score_full']:.1f}"
    image = image_panel(material, run, row, title, row["input_shape"])
    ground = ground_of(image, *row["input_shape"])
    star = _star(row)
    masks = [
        Panel(f"area {area:.3g}: {score:.1f}", overlay(ground, mask), star=i == star)
        for i, (area, score, mask) in enumerate(
            zip(row["areas"], row["score_preserve"], draw_masks(run, row), strict=True)
        )
    ]
    return Sweep(row, image, masks)


def _star(row: Row) -> int | None:
    """Which of the areas is a*, if any: the bisection may have found another one."""
    if row["a_star"] is None:
        return None
    near = np.flatnonzero(np.isclose(row["areas"], row["a_star"]))
    return int(near[0]) if len(near) else None


def extremal_panel(material: Material, pair: Row) -> Panel:
    """The mask of a*, or else of the next larger area, or of the largest.

    Raises:
        Absent: there are none.
    """
    sweep = sweep_of(material, pair)
    areas, a_star, star = sweep.row["areas"], sweep.row["a_star"], _star(sweep.row)
    if star is not None:
        return Panel(f"extremal\na* = {a_star:.3g}", sweep.masks[star].picture)
    if a_star is None:
        return Panel(f"extremal\nno a*: area {areas[-1]:.3g}", sweep.masks[-1].picture)
    larger = min(int(np.searchsorted(areas, a_star)), len(areas) - 1)
    return Panel(f"extremal\na* = {a_star:.3g}: area {areas[larger]:.3g}", sweep.masks[larger].picture)


def map_panel(material: Material, method: str, pair: Row) -> Panel:
    """The map of a saliency method.

    Raises:
        Absent: there is none.
    """
    found = [(run, row) for run, row in material.rows(kinds.SALIENCY, pair) if row["method"] == method]
    if not found:
        raise Absent("not computed for this pair")
    run, row = found[0]
    if not row["map_shape"]:
        raise Absent("no map stored: run with maps = 28 below [saliency]")
    image = image_panel(material, run, row, method, row["input_shape"])
    ground = ground_of(image, *row["input_shape"])
    return Panel(method, heat(ground, np.reshape(row["map"], row["map_shape"])))


def channel_panels(material: Material, run: Run, row: Row) -> list[Panel]:
    """The image of a row of the channel table, and its saliency (eq. 11)."""
    rows, columns = row["saliency_shape"]
    image = image_panel(material, run, row, f"{name_of(row)}: {row['score_full']:.1f}")
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


def spatial_curves(row: Row) -> Curves:
    """Scores of a row of the spatial table."""
    scores = {"preserve": row["score_preserve"], "delete": row["score_delete"]}
    levels = {"whole image": row["score_full"], "fully perturbed": row["score_perturbed"]}
    return Curves(row["areas"], scores, levels, row["a_star"], "area kept")


def seen_panels(material: Material, pair: Row) -> list[Panel]:
    """The image of a pair and its channel saliency."""
    try:
        return channel_panels(material, *material.rows(kinds.CHANNEL, pair)[0])
    except Absent as absent:
        image = image_panel(material, material.runs[0], pair, name_of(pair))
        return [image, Panel("saliency", note=str(absent))]


def inversion_panels(material: Material, pair: Row) -> list[Panel]:
    """The inversions of the whole and of the masked activations, and where they differ."""
    try:
        _, row = material.rows(kinds.INVERSION, pair)[0]
        whole = _png(row["image"])
        masked = _png(row["image_masked"])
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


def inverted(material: Material, pair: Row) -> Panel:
    """The inversion of a pair's whole activations.

    Raises:
        Absent: there is none.
    """
    _, row = material.rows(kinds.INVERSION, pair)[0]
    return Panel(f"{name_of(row)}: cosine {row['cosine']:.2f}", _png(row["image"]))


def visualized(material: Material, channels: Run, channel: int, before: str = "") -> Panel:
    """The inversion of a single channel of a channel run; `before` begins its title.

    Raises:
        Absent: no run has it.
    """
    for run in (run for run in material.of_kind(kinds.INVERSION) if belongs(run, channels)):
        for shard in run.committed():  # the pictures, which are large, are read of one shard alone
            for table in run.tables(kinds.INVERSION, ["channel"], [shard]):
                if channel in (there := table["channel"].to_pylist()):
                    place = there.index(channel)
                    image = run.shard_table(shard, kinds.INVERSION)["image"][place].as_py()
                    return Panel(f"{before}channel {channel}", _png(image))
    raise Absent("no inversion of this channel in the runs given")


def exciting(material: Material, run: Run, examples: pa.Table, channel: int) -> list[Panel]:
    """The images that excite a channel of a channel run most, of the rows of `exemplars`."""
    found = examples.filter(pc.equal(examples["channel"], channel)).to_pylist()
    return [image_panel(material, run, row, f"activation {row['activation']:.1f}") for row in found]


def _png(content: bytes) -> np.ndarray:
    try:
        return np.asarray(decode(content)) / 255
    except ImageError as error:
        raise Absent(str(error)) from error
