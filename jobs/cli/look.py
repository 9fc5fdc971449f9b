"""Commands that draw results: figures and pages."""

from pathlib import Path
from typing import Annotated

import typer

from extremal.jobs.cli.ending import console, explained, until_stopped
from extremal.jobs.cli.options import command
from extremal.jobs.cli.shared import MovedRoot, RuleOptions, RunUris

Runs = Annotated[
    list[str],
    typer.Argument(metavar="RUN...", help="Runs of one dataset; the first decides the pairs."),
]
ImagesRoot = Annotated[
    str | None, typer.Option("--root", help="Where the images lie now. [default: where they were]")
]


@command(
    epilog="**Examples**\n\n`extremal figure masks-of-areas runs/voc --pairs 3,17`\n\n"
    "`extremal figure compare-methods runs/voc runs/voc-methods --image 000001 --out compare.pdf`\n\n"
    "`extremal figure channels-of-classes runs/channels runs/pictures --classes 'goldfish,tabby' "
    "--root /data/imagenet`\n\n"
    "**Figures**\n\n"
    "- `masks-of-areas` images with their masks over areas (the paper's Figure 1); a spatial run\n"
    "- `compare-methods` masks at a* beside other methods' maps (2); a spatial run, saliency runs with maps\n"
    "- `score-curve` score against area, preserved and deleted (3); a spatial run\n"
    "- `area-growth` masks and their share of the full score as bars (5); a spatial run\n"
    "- `channel-curve` score against number of channels, with the saliency of eq. 11 (8); a channel run\n"
    "- `inversion-difference` inversions of all and of a* channels (9); an inversion run, a channel run\n"
    "- `channels-of-classes` mean masks, inversions, exciting images (10); a channel run, inversions of it\n"
    "- `inversions-of-classes` a contact sheet: channels and images by class; inversions, a channel run\n\n"
    "Several runs of one dataset are joined by image and class; pairs are those of the first. "
    "`from extremal.jobs.figures import masks_of_areas` and so on return matplotlib figures."
)
def figure(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which figure; all are listed below.")],
    uris: RunUris,
    pairs: Annotated[
        str | None, typer.Option(help="Numbers of pairs in the first run: 3,17. [default: the first 4]")
    ] = None,
    image: Annotated[str | None, typer.Option(help="All pairs of this image, by its id.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="Only these classes: cat,dog, or ids where a name has a comma.")
    ] = None,
    root: MovedRoot = None,
    out: Annotated[Path | None, typer.Option(help="File, .png or .pdf. [default: NAME.png]")] = None,
) -> None:
    """A figure of the paper from stored results, as PNG or PDF: needs no GPU and no network."""
    with explained():
        from extremal.jobs.figures.write import write_figure
        from extremal.jobs.options import numbers
        from extremal.pipeline.datasets.pairs import storable
        from extremal.pipeline.errors import ConfigError

        if pairs is not None and image is not None:
            raise ConfigError("Give --pairs or --image, not both.")
        chosen = numbers(pairs, int, "--pairs") if image is None else [image]
        named = None if classes is None else [name.strip() for name in classes.split(",")]
        typer.echo(storable(str(write_figure(name, uris, chosen, named, root, out))))


@command(
    epilog="**Examples**\n\n`extremal report runs/voc`\n\n"
    "`extremal report runs/voc runs/voc-methods runs/voc-channels --root /data --out report`\n\n"
    "`extremal report s3://bucket/voc --out s3://bucket/voc-report`\n\n"
    "Open index.html in a browser: the pages need no server and no network. Needs neither GPU nor network's "
    "weights; without the dataset they have no pictures.\n\n"
    "An earlier, larger report in the same --out leaves files: delete it first, or give another place.\n\n"
    "Exit codes: 0 written, 2 bad input, 130 interrupted, 143 terminated."
)
def report(
    uris: Runs,
    *,
    out: Annotated[
        str | None, typer.Option(help="Directory or URI of the pages. [default: report/ in the first run]")
    ] = None,
    root: ImagesRoot = None,
    scoring: RuleOptions,
) -> None:
    """Pages of a run for a browser: scores, a gallery, every pair and class with its masks and curves."""
    with explained():
        from extremal.jobs.report.make import make_report
        from extremal.pipeline.driving.signals import stoppable

        rule = scoring.rule()

        def write() -> int:
            with stoppable():
                make_report(uris, root, rule, out, console())
            return 0

        code = until_stopped(out or uris[0], write, "The same command writes the pages again.")
    raise typer.Exit(code)


@command(
    epilog="**Examples**\n\n`extremal serve runs/voc`\n\n"
    "`extremal serve runs/voc runs/voc-methods --root /data --port 8001`\n\n"
    "The same pages as of `extremal report`, made when they are looked at; for this machine only. From "
    "another: `ssh -L 8000:localhost:8000 HOST`. Ctrl-C ends it. Exit codes: 0 ended, 2 bad input."
)
def serve(
    uris: Runs,
    *,
    root: ImagesRoot = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    scoring: RuleOptions,
) -> None:
    """Pages of a run for a browser on this machine, made on demand: for runs too large to write out."""
    with explained():
        from extremal.jobs.report.make import serve_report

        try:
            serve_report(uris, root, scoring.rule(), port, console())
        except KeyboardInterrupt:
            typer.echo("stopped.", err=True)
