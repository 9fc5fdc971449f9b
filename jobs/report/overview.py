"""The first page: what the runs are, how far they are, their scores, calls and failures."""

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa

from extremal.jobs.report.joined_runs import Book, class_label
from extremal.jobs.report.pair_pages import CHUNK, PER_FILE, size_label
from extremal.jobs.tables.printed import cell, is_number
from extremal.pipeline.datasets.pairs import storable
from extremal.storage import Run, kinds

SHOWN_FAILURES = 1000
_CALL = (
    "started",
    "host",
    "seconds",
    "pairs",
    "failed",
    "pairs_per_hour",
    "retries",
    "lost_actors",
    "missing",
)


def now() -> str:
    """When and with what the site is made."""
    return f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, extremal {version('extremal')}"


def overview(book: Book, made: str) -> dict[str, Any]:
    """What `data/overview.js` holds; see docs/report-data.md.

    Raises:
        RunError: a shard is damaged or foreign.
    """
    run = book.run
    return {
        "title": f"{run.manifest.model.name} on {_dataset(run)}",
        "kind": run.kind.name,
        "made": made,
        "runs": [_run(source.run) for source in book.sources],
        "facts": _facts(book),
        "counts": _counts(book),
        "tables": _tables(book),
        "failures": _failures(run),
        "config": _config(run),
        "methods": book.methods,
        "classes": [class_label(key) for key in book.classes],
        "class_sizes": np.bincount(book.class_of, minlength=len(book.classes)).tolist(),
        "pairs": book.plan.num_rows,
        "chunk": CHUNK,
        "per_file": PER_FILE,
        "size_label": size_label(book),
        "has": {"classes": bool(book.classes), "pictures": len(book.pictures) > 0},
    }


def table(
    name: str, title: str, found: pa.Table, columns: Sequence[str] | None = None, note: str = ""
) -> dict[str, Any]:
    """A TABLE of the contract: cells as `extremal score` prints them."""
    names = found.column_names if columns is None else columns
    return {
        "id": name,
        "title": title,
        "note": note,
        "columns": [
            {"label": column.replace("_", " "), "number": is_number(found.schema.field(column).type)}
            for column in names
        ],
        "rows": [[cell(row, column) for column in names] for row in found.to_pylist()],
    }


def _dataset(run: Run) -> str:
    dataset = run.manifest.setting("dataset")
    return f"{dataset['name']} {dataset['split']}" if dataset.get("split") else str(dataset["name"])


def _run(run: Run) -> dict[str, Any]:
    return {
        "place": run.place(),
        "kind": run.kind.name,
        "network": run.manifest.model.name,
        "dataset": _dataset(run),
        "complete": not run.missing(),
    }


def _facts(book: Book) -> list[list[str]]:
    run = book.run
    config, model = run.manifest.config, run.manifest.model
    facts = {
        "network": model.name,
        "weights": f"SHA-256 {model.weights_sha256[:12]}",
        "input": f"short side {model.resize}, "
        + (f"central {model.crop} x {model.crop}" if model.crop else "whole image"),
        "dataset": _dataset(run),
        "method": ", ".join(config["saliency"]["methods"]) if run.kind == kinds.SALIENCY else run.kind.name,
        "precision": config.get("precision", "float32"),
        "seed": config.get("seed", 0),
        "hardware": _hardware(run),
        "rule of a hit": book.rule,
        "versions": ", ".join(f"{name} {version}" for name, version in run.manifest.versions.items())
        or "unknown",
        "configuration": run.manifest.config_hash[:12],
        "pictures": _pictures(book),
    }
    return [[label, storable(str(text))] for label, text in facts.items()]


def _hardware(run: Run) -> str:
    workers = {place: count for call in run.calls() for place, count in _workers(call).items()}
    return ", ".join(f"{count} x {place}" for place, count in workers.items()) or "unknown"


def _workers(call: dict[str, Any]) -> dict[str, Any]:
    workers = call.get("workers")
    return workers if isinstance(workers, dict) else {}


def _pictures(book: Book) -> str:
    if book.pictures.reason:
        return f"none: {book.pictures.reason}"
    lost = len(book.pictures.unreadable)
    return f"{len(book.pictures)} images" + (f", {lost} of them cannot be read" if lost else "")


def _counts(book: Book) -> dict[str, int]:
    """Pairs with a result, failed, and in shards that are not there."""
    run, total = book.run, book.plan.num_rows
    there = np.isin(book.plan["shard"].to_numpy(), run.committed())
    failed = set(run.table(kinds.FAILURES, ["pair"])["pair"].to_pylist())
    # Where a retry was stopped a pair has both; it has a result then, as on its page.
    for part in run.tables(run.kind, ["pair"], run.with_failures()):
        failed -= {*part["pair"].to_pylist()}
    return {
        "pairs": total,
        "results": int(there.sum()) - len(failed),
        "failed": len(failed),
        "missing": total - int(there.sum()),
    }


def _tables(book: Book) -> list[dict[str, Any]]:
    found = []
    several = len(book.sources) > 1
    for source, of_run in zip(book.sources, book.scores, strict=True):
        where = source.run.place() if several else ""
        for i, shown in enumerate(of_run.shown):
            name = f"scores-{source.number}-{i}"
            found.append(table(name, shown.title, shown.table, shown.columns, where))
        calls = [{name: call.get(name) for name in _CALL} for call in source.run.calls()]
        if calls:
            note = f"{where} What each call of the driver did, oldest first.".strip()
            found.append(_plain(f"calls-{source.number}", "Calls", note, _CALL, calls))
    return found


def _plain(
    name: str, title: str, note: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """A TABLE of values that no aggregator made."""
    numbers = [all(isinstance(row[column], int | float | None) for row in rows) for column in columns]
    return {
        "id": name,
        "title": title,
        "note": note,
        "columns": [
            {"label": column.replace("_", " "), "number": number}
            for column, number in zip(columns, numbers, strict=True)
        ],
        "rows": [["-" if row[column] is None else str(row[column]) for column in columns] for row in rows],
    }


def _failures(run: Run) -> dict[str, Any]:
    columns = ("pair", "image_id", "class_name", "stage", "error_type", "error")
    rows: list[dict[str, Any]] = []
    count = 0
    for part in run.tables(kinds.FAILURES, columns):
        count += part.num_rows
        rows += part.slice(0, max(0, SHOWN_FAILURES - len(rows))).to_pylist()
    note = f"{count} in all" + (f", the first {len(rows)} are shown" if count > len(rows) else "")
    return _plain("failures", "Failures", note, columns, rows)


def _config(run: Run) -> dict[str, Any]:
    """All of run.json but the names of the classes, which may be thousands."""
    tree: dict[str, Any] = json.loads(run.manifest.to_json())
    del tree["dataset"]["classes"]
    return tree
