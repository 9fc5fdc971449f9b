"""Many runs from one file, one after the other, and the table of them all."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from jobs.errors import INPUT_ERRORS
from jobs.options import settings_of
from jobs.run import COMPLETE, INCOMPLETE, check_device, execute
from jobs.table import show_table
from pipeline.config import ConfigError, RunConfig, merge, read_toml
from pipeline.driver import DriverError, Pool, start_ray
from pipeline.pointing import Rule
from storage import ConfigMismatch, Run, RunError
from storage.files import join

EXAMPLE = "give each run as [[run]], then its name and what differs from the settings above it"


@dataclass(frozen=True)
class Planned:
    """A run of a benchmark: the folder it gets below the benchmark's, and what to compute."""

    name: str
    config: RunConfig


def read_benchmark(file: Path, device: str | None = None) -> list[Planned]:
    """The runs of a TOML file: settings for all at its top, and a [[run]] for each.

    Args:
        device: where they will run; as for `jobs.options.assemble`.

    Raises:
        ConfigError: no TOML, no runs, names that repeat or are no names of folders, or bad settings.
    """
    shared = read_toml(file)
    tables = shared.pop("run", None)
    if not isinstance(tables, list) or not tables or not all(isinstance(t, Mapping) for t in tables):
        raise ConfigError(f"{file} has no runs: {EXAMPLE}.")
    runs: list[Planned] = []
    for number, table in enumerate(tables, 1):
        name = _name(file, number, table, [run.name for run in runs])
        own = {key: value for key, value in table.items() if key != "name"}
        try:
            runs.append(Planned(name, settings_of(merge(shared, own), None, {}, device)))
        except ConfigError as error:
            raise ConfigError(f"{file}, run {name}: {error}") from error
    return runs


def _name(file: Path, number: int, table: Mapping[str, Any], before: Sequence[str]) -> str:
    name = table.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]*", name, re.ASCII):
        raise ConfigError(
            f"{file}, run {number}: its name must be that of a folder, of letters, digits and ._+-, "
            f"not {name!r}; {EXAMPLE}."
        )
    if name in before:
        raise ConfigError(f"{file}, run {number}: the name {name!r} is another run's; give each its own.")
    return name


def run_benchmark(runs: Sequence[Planned], out: str, pool: Pool, console: Console) -> int:
    """Create or continue every run below `out`, also after one that fails, and print their table.

    Returns:
        The exit code: 0 if every run is complete, 1 otherwise.

    Raises:
        ConfigError: there is no such device.
        RunError: the runs do not fit into one table.
        DriverError: the cluster cannot be reached.
        KeyboardInterrupt, SystemExit: it was stopped.
    """
    check_device(pool)
    incomplete, ours = [], []
    with _one_ray(runs, out, pool):
        for number, planned in enumerate(runs, 1):
            console.print(f"\nrun {number} of {len(runs)}: {planned.name}", style="bold")
            code = _execute(planned, out, pool, console)
            if code != COMPLETE:
                incomplete.append(planned.name)
            if code is not None and _found(join(out, planned.name)):
                ours.append(join(out, planned.name))
    if incomplete:
        names = ", ".join(incomplete)
        console.print(f"\nINCOMPLETE: {names}; the same command continues", style="bold red", soft_wrap=True)
    if ours:
        show_table(ours, Rule(), False, "text", None)
    return INCOMPLETE if incomplete else COMPLETE


def _execute(planned: Planned, out: str, pool: Pool, console: Console) -> int | None:
    """The run's exit code, None if another run is in its place; an error costs no other run."""
    try:
        return execute(planned.config, join(out, planned.name), pool, console)[1]
    except (*INPUT_ERRORS, DriverError) as error:
        console.print(f"error: {error}", soft_wrap=True)
        return None if isinstance(error, ConfigMismatch) else INCOMPLETE


def _found(place: str) -> Run | None:
    try:
        return Run.find(place)
    except RunError:
        return None


@contextmanager
def _one_ray(runs: Sequence[Planned], out: str, pool: Pool) -> Iterator[None]:
    """One Ray for all runs, if there is anything left to compute."""
    found = (_found(join(out, planned.name)) for planned in runs)
    if ray.is_initialized() or not any(run is None or run.missing() for run in found):
        yield
        return
    start_ray(pool, max(planned.config.threads for planned in runs))
    try:
        yield
    finally:
        ray.shutdown()
