"""Several runs, one after the other, as one job."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from rich.console import Console

from extremal.jobs.run import COMPLETE, check_device, execute
from extremal.pipeline.driving.driver import Pool, start_ray
from extremal.pipeline.errors import DriverError
from extremal.storage import ConfigMismatch, Run, RunError
from extremal.storage.errors import UserError
from extremal.storage.files import join
from extremal.workers.config import RunConfig


@dataclass(frozen=True)
class Planned:
    """One of several runs: the folder it gets below theirs, and what to compute."""

    name: str
    config: RunConfig


def run_all(
    runs: Sequence[Planned], out: str, pool: Pool, console: Console
) -> tuple[dict[str, Run], list[str]]:
    """Create or continue every run below `out`, also after one that fails; Ray is started once.

    Returns:
        The runs that are there, by name and in order, and the names of those that are not complete. A run
        of another configuration in a run's place is only in the second.

    Raises:
        DeviceError: there is no such device.
        DriverError: the cluster cannot be reached.
        KeyboardInterrupt, SystemExit: it was stopped.
    """
    check_device(pool)
    there: dict[str, Run] = {}
    incomplete: list[str] = []
    with _one_ray(runs, out, pool):
        for number, planned in enumerate(runs, 1):
            console.print(f"\nrun {number} of {len(runs)}: {planned.name}", style="bold")
            code = _execute(planned, out, pool, console)
            if code != COMPLETE:
                incomplete.append(planned.name)
            found = _found(join(out, planned.name))
            if code is not None and found is not None:
                there[planned.name] = found
    if incomplete:
        names = ", ".join(incomplete)
        console.print(f"\nINCOMPLETE: {names}; the same command continues", style="bold red", soft_wrap=True)
    return there, incomplete


def _execute(planned: Planned, out: str, pool: Pool, console: Console) -> int | None:
    """The run's exit code, None if another run is in its place; an error costs no other run."""
    try:
        return execute(planned.config, join(out, planned.name), pool, console)[1]
    except (UserError, DriverError) as error:
        console.print(f"error: {error}", soft_wrap=True)
        return None if isinstance(error, ConfigMismatch) else 1


def _found(place: str) -> Run | None:
    try:
        return Run.find(place)
    except RunError:
        return None


def _is_open(place: str) -> bool:
    """Whether a run has anything left to compute; a damaged one will say so itself."""
    try:
        run = Run.find(place)
        return run is None or bool(run.missing())
    except RunError:
        return True


@contextmanager
def _one_ray(runs: Sequence[Planned], out: str, pool: Pool) -> Iterator[None]:
    """One Ray for all runs, if there is anything left to compute."""
    if ray.is_initialized() or not any(_is_open(join(out, planned.name)) for planned in runs):
        yield
        return
    start_ray(pool, max(planned.config.threads for planned in runs))
    try:
        yield
    finally:
        ray.shutdown()
