"""Tables of text, as the pages show them."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from extremal.jobs.page_data import Table
from extremal.jobs.tables.printed import cell, is_number


def text_table(
    name: str, title: str, values: pa.Table, columns: Sequence[str] | None = None, note: str = ""
) -> Table:
    """Columns of an aggregate, cells as `extremal score` prints them."""
    names = values.column_names if columns is None else columns
    return {
        "id": name,
        "title": title,
        "note": note,
        "columns": [
            {"label": _label(column), "number": is_number(values.schema.field(column).type)}
            for column in names
        ],
        "rows": [[cell(row, column) for column in names] for row in values.to_pylist()],
    }


def plain_table(
    name: str, title: str, note: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]
) -> Table:
    """Values that no aggregator made."""
    numbers = [all(isinstance(row[column], int | float | None) for row in rows) for column in columns]
    return {
        "id": name,
        "title": title,
        "note": note,
        "columns": [
            {"label": _label(column), "number": number}
            for column, number in zip(columns, numbers, strict=True)
        ],
        "rows": [["-" if row[column] is None else str(row[column]) for column in columns] for row in rows],
    }


def _label(column: str) -> str:
    return column.replace("_", " ")
