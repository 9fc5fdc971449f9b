"""Tables of the aggregators, printed for people. A rate is never shown without what it is a rate of."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from extremal.storage import Run, kinds

LIST_ITEMS = 6
NOTHING = "-"

# Rate -> the counts whose sums are its numerator and its denominator.
_RATES = {
    "accuracy": (("hits",), ("hits", "misses")),
    "pooled": (("hits",), ("hits", "misses")),
    "pass_of_tested": (("passed",), ("passed", "failed")),
    "pass_of_all": (("passed", "vacuous"), ("n",)),
}
# Mean of rates -> the count of what was averaged, and its unit.
_MEANS = {
    "class_mean": ("classes_seen", "classes"),
    "energy": ("energy_n", "pairs"),
    "energy_class_mean": ("energy_n", "pairs"),
    "energy_pooled": ("energy_n", "pairs"),
}
# Mean of other numbers -> the count of what was averaged.
_COUNTED = {
    "insertion": "insertion_n",
    "deletion": "deletion_n",
    "score_mean": "n",
    "normalised_mean": "n_normalised",
    "cosine": "n",
    "cosine_masked": "n_masked",
    "cosine_between": "n_masked",
    "drop_own": "n",
    "drop_others": "n_compared",
}
# Mean of other numbers -> the count of what was averaged; shown with the limits beside it.
_RANGES = {
    "excess": "n_compared",
    "random_own": "draws",
    "random_excess": "draws",
    "matched_own": "draws",
    "matched_excess": "draws",
}
# Permutation test -> the count of the draws at least as large, of all draws.
_TESTS = {f"{name}_p": f"{name}_count" for name in _RANGES if name != "excess"}
# Difference of rates, in points of percent.
_DIFFERENCES = ("class_mean_difference", "pooled_difference")


def _percent(row: Mapping[str, Any], name: str) -> str:
    share = f"{100 * row[name]:.1f} %{_interval(row, name)}"
    if name in _MEANS:
        count, unit = _MEANS[name]
        return f"{share} ({row[count]} {unit})"
    above, below = _RATES[name]
    return f"{share} ({sum(row[c] for c in above)}/{sum(row[c] for c in below)})"


def _interval(row: Mapping[str, Any], name: str) -> str:
    """The limits of a rate, from the columns beside it."""
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return "" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]"


def _counted(row: Mapping[str, Any], name: str) -> str | None:
    """A mean that is no rate, or a test, with what it is of; None if it is neither."""
    if name in _COUNTED:
        return f"{_text(row[name])} ({row[_COUNTED[name]]})"
    if name in _RANGES:
        limits = f"[{_text(row[f'{name}_low'], 3)}, {_text(row[f'{name}_high'], 3)}]"
        return f"{_text(row[name])} {limits} ({row[_RANGES[name]]})"
    if name in _TESTS:
        return f"{_text(row[name])} ({row[_TESTS[name]]}/{row['draws']})"
    return None


def _text(value: Any, digits: int = 4) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, list):
        shown = " ".join(_text(item) for item in value[:LIST_ITEMS])
        return shown if len(value) <= LIST_ITEMS else f"{shown} … ({len(value)})"
    return str(value)


def cell(row: Mapping[str, Any], name: str) -> str:
    """One value as text: rates in percent, floats to 4 digits and limits to 3, with counts; long lists cut.

    Args:
        row: a whole row, for the counts beside the value.
        name: the column.

    Raises:
        KeyError: the counts of a rate are not in the row.
    """
    if row[name] is None:
        return NOTHING
    if name in _RATES or name in _MEANS:
        return _percent(row, name)
    if name in _DIFFERENCES:
        return f"{100 * row[name]:+.1f}{_interval(row, name.removesuffix('_difference'))}"
    return _counted(row, name) or _text(row[name])


# The space before the limits or the count of a rate.
_BESIDE = re.compile(r"(?<=[%\d]) (?=\[)|(?<=[%\]\d]) (?=\(\d)")


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def print_table(
    table: pa.Table, title: str, columns: Sequence[str] | None = None, console: Console | None = None
) -> None:
    """Print a table of an aggregator, numbers to the right.

    Args:
        table: what `pointing`, `monotonicity`, `class_channels` or their summaries return.
        title: printed above.
        columns: which to show, in order; all by default. Rates keep their counts either way.
        console: where to; standard output by default.

    Raises:
        KeyError: a column is not in the table.
    """
    console = console or Console()
    names = list(columns) if columns is not None else table.column_names
    rows = [[cell(row, name) for name in names] for row in table.to_pylist()]
    headings = names
    if _width(names, rows) > console.width:
        # Broken where they can be read, not where the terminal ends.
        rows = [[_BESIDE.sub("\n", text) for text in row] for row in rows]
        headings = [name.replace("_", "_\n") for name in names]
    # Text, not str: class names may hold the square brackets that rich takes for markup.
    grid = Table(title=Text(title), caption=None if table.num_rows else "no rows")
    for name, heading in zip(names, headings, strict=True):
        number = is_number(table.schema.field(name).type)
        grid.add_column(Text(heading), justify="right" if number else "left", overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    console.print(grid)


def _width(names: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Characters of a table whose lines are not broken."""
    return sum(max(map(len, column)) + 3 for column in zip(names, *rows, strict=True)) + 1


def warn_incomplete(run: Run, console: Console) -> None:
    """Tell of a run's pairs that failed and of its shards that are missing: they are in no score."""
    failed = run.table(kinds.FAILURES, [run.unit.number]).num_rows
    if failed:
        console.print(
            f"warning: {failed} of {run.manifest.dataset.pairs} pairs failed and are in no score",
            soft_wrap=True,
        )
    missing = len(run.missing())
    if missing:
        console.print(
            f"warning: {missing} shards of {run.place()} are not committed and in no score", soft_wrap=True
        )
