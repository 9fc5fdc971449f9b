"""Pictures of masks, saliency maps and curves as PNG files (matplotlib, no display needed)."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

DPI = 100
NAMED = 60  # classes up to which a map of classes has their names
BACKGROUND = 0.25  # brightness that is left outside a mask


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
    """A saliency map over a grey image, in cividis, which reads for colour-blind eyes too.

    Args:
        image: (H,W,3) in 0..1. saliency: (H,W), any range.
    """
    low, high = saliency.min(), saliency.max()
    scaled = (saliency - low) / max(high - low, 1e-12)
    colours = matplotlib.colormaps["cividis"](scaled)[..., :3]
    grey = image.mean(2, keepdims=True).repeat(3, 2)
    return np.asarray(0.45 * grey + 0.55 * colours)


def save_sheet(
    path: Path, rows: Sequence[Sequence[np.ndarray]], titles: Sequence[Sequence[str]], side: float = 2.2
) -> None:
    """A grid of pictures with a line of text above each."""
    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(side * columns, (side + 0.35) * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axes_row, pictures, texts in zip(axes, rows, titles, strict=True):
        for axis in axes_row:
            axis.axis("off")
        for axis, picture, text in zip(axes_row, pictures, texts, strict=False):
            axis.imshow(picture)
            axis.set_title(text, fontsize=8, parse_math=False)
    figure.savefig(path, dpi=DPI)


def save_curves(
    path: Path,
    sizes: Sequence[float],
    curves: dict[str, Sequence[float]],
    levels: dict[str, float],
    a_star: float | None,
    label: str,
) -> None:
    """Scores against areas or counts (the paper's Figures 3 and 8).

    Args:
        curves: scores per size. levels: constant scores to compare with. label: of the x axis.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis: Axes = figure.subplots()
    for (name, scores), style in zip(curves.items(), ("o-", "s--", "^:"), strict=False):
        axis.plot(sizes, scores, style, label=name)
    for (name, level), colour in zip(levels.items(), ("green", "firebrick"), strict=False):
        axis.axhline(level, color=colour, linewidth=1, label=name)
    if a_star is not None:
        axis.axvline(a_star, color="grey", linestyle=":", label=f"a* = {a_star:g}")
    axis.set_xlabel(label)
    axis.set_ylabel("class score (logit)")
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=DPI)


def similarity_curves(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A PNG of a sanity check: the mean similarity against the depth, with the quartiles, by method.

    Args:
        rows: of `pipeline.sanity.SANITY`; a mean that is None leaves a gap.
    """
    names = dict(sorted((row["depth"], row["layer"]) for row in rows))
    places = {depth: i for i, depth in enumerate(names)}
    figure = Figure(figsize=(max(6, 1.5 + 0.45 * len(names)) + 2.5, 5), layout="constrained")
    axis: Axes = figure.subplots()
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        x = [places[row["depth"]] for row in own]
        mean, absolute, low, high = (
            np.array([row[name] for row in own], float) for name in ("mean", "abs_mean", "q25", "q75")
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
    sink = BytesIO()
    figure.savefig(sink, dpi=DPI)
    return sink.getvalue()


def similarity_map(cosine: np.ndarray, names: Sequence[str]) -> bytes:
    """A PNG of a class-by-class similarity in PuOr, which reads for colour-blind eyes too; white is 0.

    Args:
        cosine: (C,C) in [-1,1], in the order of drawing. names: (C), drawn if at most NAMED.
    """
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
    sink = BytesIO()
    figure.savefig(sink, dpi=DPI)
    return sink.getvalue()
