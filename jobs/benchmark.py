"""Many runs from one file, one after the other, and the table of them all."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from extremal.jobs.options import settings_of
from extremal.jobs.run import COMPLETE, INCOMPLETE
from extremal.jobs.several import Planned, run_all
from extremal.jobs.tables.compare import show_table
from extremal.pipeline.aggregates.comparison import check_seeds
from extremal.pipeline.aggregates.pointing import Rule
from extremal.pipeline.config import merge, read_toml, stored_tree
from extremal.pipeline.driving.driver import Pool
from extremal.pipeline.errors import ConfigError
from extremal.pipeline.studies import STUDIES
from extremal.storage import RunError
from extremal.workers.config import DatasetConfig, NetworkConfig

EXAMPLE = "give each run as [[run]], then its name and what differs from the settings above it"


def read_benchmark(file: Path, device: str | None = None) -> list[Planned]:
    """The runs of a TOML file: settings for all at its top, and a [[run]] for each.

    Args:
        device: where they will run; as for `extremal.jobs.options.assemble`.

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
    _check_table(file, runs)
    return runs


def _check_table(file: Path, runs: Sequence[Planned]) -> None:
    """Refuse runs that will not fit into one table, before days are spent on them."""
    averaged: dict[tuple[DatasetConfig, NetworkConfig, str], list[tuple[str, dict[str, Any]]]] = {}
    for run in runs:
        config = run.config
        for method in STUDIES[config.method].maps(config.own):
            key = config.dataset, config.network, method
            averaged.setdefault(key, []).append((f"run {run.name}", stored_tree(config)))
    for (*_, method), members in averaged.items():
        try:
            check_seeds(method, members)
        except RunError as error:
            raise ConfigError(f"{file}: {error}") from error


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
    there, incomplete = run_all(runs, out, pool, console)
    if there:
        show_table([run.uri for run in there.values()], Rule(), False, "text", None)
    return INCOMPLETE if incomplete else COMPLETE
