"""The paper's Table 1 from any number of runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import typer

from extremal.jobs.tables.formats import FORMATS, Format, notes, render
from extremal.pipeline.aggregates.blocks import blocks
from extremal.pipeline.aggregates.comparison import compare, make_columns
from extremal.pipeline.aggregates.pointing import Rule
from extremal.pipeline.datasets.pairs import storable
from extremal.pipeline.errors import ConfigError
from extremal.storage import Run


def show_table(uris: Sequence[str], rule: Rule, intervals: bool, form: str, out: Path | None) -> None:
    """Print the table of some runs, or write it into a file; the notes of a CSV go to stderr.

    Raises:
        RunError: a run cannot be read, or runs do not fit together.
        ConfigError: there is no such format, or the file cannot be written.
    """
    if form not in FORMATS:
        raise ConfigError(f"--format is one of {', '.join(FORMATS)}; not {form!r}.")
    columns = make_columns(Run.open(uri) for uri in uris)
    with blocks() as way:
        table = compare(columns, rule, intervals, way)
    below = [storable(line) for line in notes(table, columns, rule)]
    text = render(table, cast(Format, form), below)
    if form == "csv":
        typer.echo("\n".join(below), err=True)
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"Cannot write the table to {out}: {error}.") from error
    typer.echo(f"wrote {out}", err=True)
