"""Figures for papers, from the command line: a name, runs, a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from extremal.jobs.drawing import save
from extremal.jobs.figures.channels import channel_curve, channels_of_classes
from extremal.jobs.figures.comparison import compare_methods
from extremal.jobs.figures.inversions import inversion_difference, inversions_of_classes
from extremal.jobs.figures.masks import area_growth, masks_of_areas, score_curve
from extremal.pipeline.errors import ConfigError

PER_PAIR = {
    "masks-of-areas": masks_of_areas,
    "compare-methods": compare_methods,
    "score-curve": score_curve,
    "area-growth": area_growth,
    "channel-curve": channel_curve,
    "inversion-difference": inversion_difference,
}
PER_CLASS = {
    "channels-of-classes": channels_of_classes,
    "inversions-of-classes": inversions_of_classes,
}
SUFFIXES = (".png", ".pdf")


def write_figure(
    name: str,
    uris: Sequence[str],
    pairs: Sequence[int | str] | None,
    classes: Sequence[str] | None,
    root: str | None,
    out: Path | None,
) -> Path:
    """Draw a figure into a file, NAME.png by default.

    Raises:
        ConfigError: there is no such figure, it takes no pairs, or the file cannot be written.
        RunError, PlaceError: as the figures raise.
    """
    if name not in PER_PAIR | PER_CLASS:
        raise ConfigError(f"There is no figure {name!r}. There are: {', '.join([*PER_PAIR, *PER_CLASS])}.")
    out = out or Path(f"{name}.png")
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out is a file that ends in {' or '.join(SUFFIXES)}, not {str(out)!r}.")
    chosen: dict[str, Any] = {"classes": classes, "root": root}
    if name in PER_PAIR:
        figure = PER_PAIR[name](uris, pairs, **chosen)
    elif pairs is None:
        figure = PER_CLASS[name](uris, **chosen)
    else:
        raise ConfigError(f"{name} shows classes: give --classes instead of --pairs or --image.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save(figure, out)
    except OSError as error:
        raise ConfigError(f"Cannot write the figure to {out}: {error}.") from error
    return out
