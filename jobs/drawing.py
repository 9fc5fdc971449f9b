"""How masks, saliency maps and curves are drawn (matplotlib, no display needed): one way for all pictures.

The colours are those of Okabe and Ito, and cividis: both read for colour-blind eyes too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from extremal.workers.images import Preprocess

if TYPE_CHECKING:
    from torch import Tensor

    from extremal.pipeline.aggregates.similarity import Similarity

DPI = 200
NAMED = 60  # classes up to which a map of classes has their names
SIDE = 2.2  # of a picture, inches
BACKGROUND = 0.25  # brightness that is left outside a mask
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
TITLE_LETTERS, NOTE_LETTERS = 60, 240


@dataclass(frozen=True)
class Panel:
    """A picture (H,W,3) in 0..1 with a title above; without a picture `note` says why. A star has a frame."""

    title: str
    picture: np.ndarray | None = None
    note: str = ""
    star: bool = False


@dataclass(frozen=True)
class Curves:
    """Scores against sizes of masks.

    Attributes:
        sizes: (A) areas or counts. scores: two curves of A logits, by name.
        levels: the two constant logits to compare with, of everything and of nothing kept.
        label: of the sizes.
    """

    sizes: Sequence[float]
    scores: Mapping[str, Sequence[float]]
    levels: Mapping[str, float]
    a_star: float | None
    label: str


def displayed(x: "Tensor", preprocess: Preprocess) -> np.ndarray:
    """A network input (3,h,w) as a picture (h,w,3) in 0..1."""
    mean, std = (x.new_tensor(v)[:, None, None] for v in (preprocess.mean, preprocess.std))
    return np.asarray((x * std + mean).clamp(0, 1).permute(1, 2, 0).cpu().numpy())


def overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The kept part in colour, the rest dark and grey; for display only, the network saw a blur.

    Args:
        image: (H,W,3) in 0..1. mask: (H,W) in [0,1].

    Returns:
        (H,W,3) in 0..1.
    """
    grey = image.mean(2, keepdims=True) * BACKGROUND
    weight = mask[..., None]
    return np.asarray(weight * image + (1 - weight) * grey).clip(0, 1)


def heat(image: np.ndarray, saliency: np.ndarray) -> np.ndarray:
    """A saliency map over a grey image, in cividis.

    Args:
        image: (H,W,3) in 0..1. saliency: (h,w), any range; made as large as the image, bilinearly.
    """
    height, width = image.shape[:2]
    small = Image.fromarray(np.asarray(saliency, np.float32))
    large = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    low, high = large.min(), large.max()
    colours = matplotlib.colormaps["cividis"]((large - low) / max(high - low, 1e-12))[..., :3]
    grey = image.mean(2, keepdims=True).repeat(3, 2)
    return np.asarray(0.45 * grey + 0.55 * colours)


def plain(text: str, letters: int = TITLE_LETTERS) -> str:
    """A text from outside as a figure can show it: cut, and without characters that have no picture."""
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
    return shown if len(shown) <= letters else f"{shown[: letters - 1]}…"


def draw_panel(axis: Axes, panel: Panel) -> None:
    """A panel without ticks; its texts are taken as they are, since $ in a class name begins no formula."""
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(visible=panel.star, color=ORANGE, linewidth=3)
    lines = "\n".join(fill(plain(line), 28) for line in panel.title.splitlines())
    axis.set_title(lines, fontsize=8, parse_math=False)
    if panel.picture is not None:
        axis.imshow(panel.picture)
        return
    axis.set_box_aspect(1)
    note = fill(plain(panel.note, NOTE_LETTERS), 26)
    axis.text(
        0.5, 0.5, note, ha="center", va="center", fontsize=7, transform=axis.transAxes, parse_math=False
    )


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches, with room for titles at its upper edge."""
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=0.08))


def sheet(rows: Sequence[Sequence[Panel]]) -> Figure:
    """A grid of panels."""
    columns = max(len(row) for row in rows)
    figure = new_figure(SIDE * columns, (SIDE + 0.35) * len(rows))
    for axes_row, panels in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        draw_row(axes_row, panels)
    return figure


def draw_row(axes: Sequence[Axes], panels: Sequence[Panel]) -> None:
    """Panels from left to right; axes without one stay empty."""
    for axis, panel in zip(axes, panels, strict=False):
        draw_panel(axis, panel)
    for axis in axes[len(panels) :]:
        axis.axis("off")


def draw_curves(axis: Axes, curves: Curves) -> None:
    """Scores against areas or counts (the paper's Figures 3 and 8)."""
    for (name, scores), style, colour in zip(
        curves.scores.items(), ("o-", "s--"), (BLUE, ORANGE), strict=True
    ):
        axis.plot(curves.sizes, scores, style, color=colour, markersize=4, label=name)
    for (name, level), style, colour in zip(curves.levels.items(), ("-", "-."), (GREEN, RED), strict=True):
        axis.axhline(level, color=colour, linestyle=style, linewidth=1, label=name)
    if curves.a_star is not None:
        axis.axvline(curves.a_star, color="grey", linestyle=":", label=f"a* = {curves.a_star:.3g}")
    axis.set_xlabel(plain(curves.label), parse_math=False)
    axis.set_ylabel("class score (logit)")
    axis.legend(fontsize=8)


def curve_sheet(curves: Curves) -> Figure:
    """Curves alone."""
    figure = new_figure(6, 4)
    draw_curves(figure.subplots(), curves)
    return figure


def encode(figure: Figure, form: str) -> bytes:
    """A figure as the content of a png or pdf file: the same figure gives the same bytes, without a date.

    The letters of a PDF are TrueType (42), which publishers ask for and editors can change.
    """
    sink = BytesIO()
    metadata = {"CreationDate": None} if form == "pdf" else {}
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(sink, format=form, dpi=DPI, metadata=metadata)
    return sink.getvalue()


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as its suffix says, .png or .pdf.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    path.write_bytes(encode(figure, path.suffix.lower().removeprefix(".")))


def similarity_curves(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A PNG of a sanity check: the mean similarity against the depth, with the quartiles, by method.

    Args:
        rows: of `extremal.pipeline.aggregates.sanity.SANITY`; a mean that is None leaves a gap.
    """
    names = dict(sorted((row["depth"], row["layer"]) for row in rows))
    places = {depth: i for i, depth in enumerate(names)}
    figure = Figure(figsize=(max(6, 1.5 + 0.45 * len(names)) + 2.5, 5), layout="constrained")
    axis: Axes = figure.subplots()
    for method in dict.fromkeys(row["method"] for row in rows):
        of_method = [row for row in rows if row["method"] == method]
        x = [places[row["depth"]] for row in of_method]
        mean, absolute, low, high = (
            np.array([row[name] for row in of_method], float) for name in ("mean", "abs_mean", "q25", "q75")
        )
        (line,) = axis.plot(x, mean, "o-", label=method)
        axis.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axis.plot(x, absolute, "--", color=line.get_color(), linewidth=1, label=f"{method}, absolute value")
    axis.axhline(0, color="grey", linewidth=1)
    labels = [name if depth == 0 else f"{name} ({depth})" for depth, name in names.items()]
    axis.set_xticks(range(len(names)), labels, rotation=60, ha="right", fontsize=8, parse_math=False)
    axis.set_xlabel("random from the output down to (layers)")
    axis.set_ylabel("rank correlation with the original's map")
    figure.legend(fontsize=8, loc="outside right upper")
    return encode(figure, "png")


def similarity_map(similarity: "Similarity") -> bytes:
    """A PNG of a class-by-class similarity in PuOr, which reads for colour-blind eyes too; white is 0.

    The classes are in clustered order, and named if they are at most NAMED.
    """
    names = [name or str(number) for number, name in (similarity.classes[i] for i in similarity.order)]
    cosine = similarity.cosine[np.ix_(similarity.order, similarity.order)]
    side = max(6.0, 3 + 0.16 * min(len(names), NAMED))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axis: Axes = figure.subplots()
    picture = axis.imshow(cosine, cmap="PuOr_r", vmin=-1, vmax=1, interpolation="nearest")
    figure.colorbar(picture, label="cosine of the mean channel masks less their mean", shrink=0.8)
    if len(names) <= NAMED:
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7, parse_math=False)
        axis.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
    else:
        axis.set_xlabel(f"{len(names)} classes, in clustered order")
    return encode(figure, "png")
