"""A comparison table as text, Markdown, LaTeX or CSV. No accuracy stands without its pairs."""

import io
from collections.abc import Sequence
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.csv

from extremal.pipeline.aggregates.comparison import TITLES, Column, run_notes
from extremal.pipeline.aggregates.pointing import SUBSETS, Rule

Format = Literal["text", "markdown", "latex", "csv"]
FORMATS: tuple[str, ...] = get_args(Format)

PAPER = "paper"
_HEADS = {"all": "All", "difficult": "Diff"}
_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}

Grid = list[list[str]]
Cells = dict[tuple[str, str, str], dict[str, Any]]


def notes(table: pa.Table, columns: Sequence[Column], rule: Rule) -> list[str]:
    """What must be said below a table: what its numbers are, and what they leave out."""
    lines = [
        f"Mean over classes of the pointing game's accuracy, %; {rule}; in parentheses the pairs counted."
    ]
    if any(value is not None for value in table["class_mean_low"].to_pylist()):
        lines.append("In brackets 95 % bootstrap intervals over images.")
    if any(value is not None for value in table["published"].to_pylist()):
        lines.append("paper: Fong, Patrick, Vedaldi, ICCV 2019, Table 1.")
        marked = {row["column"] for row in table.to_pylist() if row["published"] is not None}
        for column in (column for column in columns if column.title in marked):
            if not column.runs[0].manifest.setting("dataset").get("difficult_list"):
                lines.append(f"{column.title}: Diff is by the rule, the paper's by its authors' list.")
    for column in columns:
        if " #" in column.title:
            lines.append(f"{column.title}: {', '.join(run.place() for run in column.runs)}")
    counted = {row["column"] for row in table.to_pylist()}
    for column in (column for column in columns if column.title not in counted):
        lines.append(f"no pair with ground truth: {', '.join(run.place() for run in column.runs)}")
    return lines + run_notes(columns)


def render(table: pa.Table, form: Format, below: Sequence[str] = ()) -> str:
    """The table in a format; the notes go below it. CSV is long, one row for a number, and has no notes.

    Args:
        table: rows of `extremal.pipeline.aggregates.comparison.TABLE`.
        below: lines of text.
    """
    if form == "csv":
        sink = io.BytesIO()
        pyarrow.csv.write_csv(table, sink)
        return sink.getvalue().decode()
    groups, heads, body = _grid(table)
    below = [" ".join(line.split()) for line in below]
    writer = {"text": _as_text, "markdown": _as_markdown, "latex": _as_latex}[form]
    return writer(groups, heads, body, below)


def _grid(table: pa.Table) -> tuple[list[tuple[str, int]], list[str], Grid]:
    """Titles of the columns with their widths, heads below them, and a line for every method."""
    cells: Cells = {(row["column"], row["method"], row["subset"]): row for row in table.to_pylist()}
    titles = list(dict.fromkeys(column for column, _, _ in cells))
    methods = list(dict.fromkeys(method for _, method, _ in cells))
    methods.sort(key=lambda m: list(TITLES).index(m) if m in TITLES else len(TITLES))
    compared = {column for (column, _, _), row in cells.items() if row["published"] is not None}
    groups, heads = [], ["Method"]
    for title in titles:
        mine = [h for s in SUBSETS for h in (_HEADS[s], *([PAPER] if title in compared else []))]
        groups.append((title, len(mine)))
        heads += mine
    body = [[TITLES.get(method, method)] for method in methods]
    for line, method in zip(body, methods, strict=True):
        for title in titles:
            for subset in SUBSETS:
                row = cells.get((title, method, subset))
                line += [_ours(row), *([_theirs(row)] if title in compared else [])]
    return groups, heads, body


def _ours(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    pairs = f"({row['n']})" if row["runs"] == 1 else f"({row['n']} in {row['runs']} runs)"
    if row["class_mean"] is None:
        return f"- {pairs}"
    low, high = row["class_mean_low"], row["class_mean_high"]
    limits = "" if low is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{100 * row['class_mean']:.1f}{limits} {pairs}"


def _theirs(row: dict[str, Any] | None) -> str:
    return "" if row is None or row["published"] is None else f"{100 * row['published']:.1f}"


def _as_text(groups: list[tuple[str, int]], heads: list[str], body: Grid, below: Sequence[str]) -> str:
    widths = [max(len(line[i]) for line in [heads, *body]) for i in range(len(heads))]
    at = 1
    for title, width in groups:  # a title needs room over its columns
        here = sum(widths[at : at + width]) + 2 * (width - 1)
        widths[at + width - 1] += max(0, len(title) - here)
        at += width
    spans, at = [" " * widths[0]], 1
    for title, width in groups:
        spans.append(title.ljust(sum(widths[at : at + width]) + 2 * (width - 1)))
        at += width
    lines = ["  ".join(spans).rstrip()]
    for line in [heads, *body]:
        lines.append("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())
    return "\n".join([*lines, "", *below]) + "\n"


def _as_markdown(groups: list[tuple[str, int]], heads: list[str], body: Grid, below: Sequence[str]) -> str:
    titles = ["", *(title for title, width in groups for _ in range(width))]
    full = [f"{title} {head}".strip() for title, head in zip(titles, heads, strict=True)]
    lines = [full, ["---", *["---:"] * (len(heads) - 1)], *body]
    shown = ["| " + " | ".join(_in_markdown(cell) for cell in line) + " |" for line in lines]
    return "\n".join([*shown, *(f"\n{_in_markdown(line)}" for line in below)]) + "\n"


def _in_markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _as_latex(groups: list[tuple[str, int]], heads: list[str], body: Grid, below: Sequence[str]) -> str:
    spans = [rf"\multicolumn{{{width}}}{{c}}{{{_escaped(title)}}}" for title, width in groups]
    lines = [
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"\hline",
        " & ".join(["", *spans]) + r" \\",
        " & ".join(map(_escaped, heads)) + r" \\",
        r"\hline",
        *(" & ".join(map(_escaped, line)) + r" \\" for line in body),
        r"\hline",
        r"\end{tabular}",
        *(f"% {line}" for line in below),
    ]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in text)
