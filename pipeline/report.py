"""Tables of the aggregators, printed for people. A rate is never shown without what it is a rate of."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

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
}
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


def _text(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        shown = " ".join(_text(item) for item in value[:LIST_ITEMS])
        return shown if len(value) <= LIST_ITEMS else f"{shown} … ({len(value)})"
    return str(value)


def cell(row: Mapping[str, Any], name: str) -> str:
    """One value as text: rates in percent with limits and counts, floats to 4 digits, long lists cut.

    Args:
        row: a whole row, for the counts beside the value.
        name: the column.

    Raises:
        KeyError: the counts of a rate are not in the row.
    """
    if row[name] is not None and (name in _RATES or name in _MEANS):
        return _percent(row, name)
    if row[name] is not None and name in _COUNTED:
        return f"{_text(row[name])} ({row[_COUNTED[name]]})"
    if row[name] is not None and name in _DIFFERENCES:
        return f"{100 * row[name]:+.1f}{_interval(row, name.removesuffix('_difference'))}"
    return _text(row[name])


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
    names = list(columns) if columns is not None else table.column_names
    # Text, not str: class names may hold the square brackets that rich takes for markup.
    grid = Table(title=Text(title), caption=None if table.num_rows else "no rows")
    for name in names:
        number = is_number(table.schema.field(name).type)
        grid.add_column(Text(name), justify="right" if number else "left")
    for row in table.to_pylist():
        grid.add_row(*(Text(cell(row, name)) for name in names))
    (console or Console()).print(grid)
