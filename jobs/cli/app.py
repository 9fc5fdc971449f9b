"""The command `extremal`. Heavy modules are imported inside the commands: help must be instant."""

import logging
import os
from typing import Annotated

import typer

from extremal.jobs.cli.compute import benchmark, demo, explain, retry, run, sanity
from extremal.jobs.cli.look import figure, report, serve
from extremal.jobs.cli.options import add_command
from extremal.jobs.cli.results import ablate, classes, compact, score, status, table
from extremal.jobs.cli.submit import submit
from extremal.jobs.cli.train import finetune

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Extremal perturbations and channel attribution over whole image datasets.",
    epilog="Start with `extremal demo`: it needs no data, no weights and no GPU.",
)

# In the order of `extremal --help`.
COMMANDS = (
    run, submit, retry, compact, status, score, table, benchmark, classes, ablate, sanity,
    explain, finetune, figure, demo, report, serve,
)  # fmt: skip
for function in COMMANDS:
    add_command(app, function)


def main() -> None:
    """Entry point of the command."""
    if not os.environ.get("RAY_ADDRESS"):
        # Read when ray is imported. Without what Ray calls a cluster here, a Ray that we start listens on
        # loopback alone; otherwise on every interface.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        from extremal import __version__

        typer.echo(f"extremal {__version__}")
        raise typer.Exit


@app.callback()
def logs(
    log_json: Annotated[
        bool,
        typer.Option(
            "--log-json",
            help="Events as lines of JSON in place of texts for people; a final error stays plain.",
        ),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Extremal perturbations and channel attribution over whole image datasets."""
    if not log_json:
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        return
    from extremal.pipeline.events import JsonFormatter

    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("extremal").setLevel(logging.INFO)
