"""How commands end: exit codes, errors as one message, and what is printed on the way."""

import logging
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

BAD_INPUT, INTERRUPTED, TERMINATED = 2, 130, 143
RESUME = "Committed shards are safe in {}; run the same command to resume."


@contextmanager
def explained() -> Iterator[None]:
    """Known errors become one message and an exit code; anything else is a bug and keeps its trace."""
    from extremal.pipeline.errors import DriverError
    from extremal.storage.errors import UserError

    try:
        yield
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    except DriverError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


def until_stopped(out: str, action: Callable[[], int], advice: str = RESUME) -> int:
    """The action's exit code, or that of the signal that stopped it; `advice` then says how to go on."""
    try:
        return action()
    except KeyboardInterrupt:
        typer.echo(f"\nstopped. {advice.format(in_shell(out))}", err=True)
        return INTERRUPTED
    except SystemExit:  # SIGTERM, which Ray's own code may turn into one without our number
        typer.echo(f"terminated. {advice.format(in_shell(out))}", err=True)
        return TERMINATED


def console(stderr: bool = False) -> Console:
    """Paths and class names are printed as they are: square brackets in them are no markup."""
    # Where events are logged they say it all.
    quiet = stderr and logging.getLogger("extremal").isEnabledFor(logging.INFO)
    return Console(stderr=stderr, markup=False, highlight=False, quiet=quiet)


def in_shell(out: str) -> str:
    """A run's directory without credentials, to be pasted into a shell."""
    from extremal.storage.files import printable

    return shlex.quote(printable(out))
