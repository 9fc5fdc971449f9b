"""What the runs are, how far they are, their scores, calls and failures: data/overview.js."""

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import numpy as np

from extremal.jobs.page_data import Counts, Labelled, Overview, RunRecord, Table
from extremal.jobs.report.index_entries import size_label
from extremal.jobs.report.pages.index import CHUNK
from extremal.jobs.report.pages.page import Page, Part, script
from extremal.jobs.report.pages.pairs import PER_FILE
from extremal.jobs.report.pair_records import PairRecords, class_label
from extremal.jobs.report.text_tables import plain_table, text_table
from extremal.pipeline.datasets.pairs import storable
from extremal.storage import Run
from extremal.storage.calls import read_calls
from extremal.storage.kinds import FAILURES

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


class OverviewPage(Page):
    """What every page reads first."""

    pattern = r"data/overview\.js"

    def paths(self, part: Part) -> Iterator[str]:
        yield "data/overview.js"

    def content(self, path: str, *groups: str | None) -> bytes:
        return script(path, overview(self.records, self.data.made))


def overview(records: PairRecords, made: str) -> Overview:
    """What the file holds.

    Raises:
        RunError: a shard is damaged or foreign.
    """
    run = records.first.run
    return {
        "title": f"{run.manifest.model.name} on {_dataset(run)}",
        "kind": run.kind.name,
        "made": made,
        "runs": [_run(joined.run) for joined in records.runs],
        "facts": _facts(records),
        "counts": _counts(records),
        "tables": _tables(records),
        "failures": _failures(run),
        "config": _config(run),
        "methods": records.methods,
        "classes": [class_label(key) for key in records.classes],
        "class_sizes": np.bincount(records.class_of, minlength=len(records.classes)).tolist(),
        "pairs": records.plan.num_rows,
        "chunk": CHUNK,
        "per_file": PER_FILE,
        "size_label": size_label(records),
        "has": {"classes": bool(records.classes), "pictures": len(records.thumbnails) > 0},
    }


def _dataset(run: Run) -> str:
    dataset = run.manifest.setting("dataset")
    return f"{dataset['name']} {dataset['split']}" if dataset.get("split") else str(dataset["name"])


def _run(run: Run) -> RunRecord:
    return {
        "place": run.place(),
        "kind": run.kind.name,
        "network": run.manifest.model.name,
        "dataset": _dataset(run),
        "complete": not run.missing(),
    }


def _facts(records: PairRecords) -> Labelled:
    run = records.first.run
    config, model = run.manifest.config, run.manifest.model
    facts = {
        "network": model.name,
        "weights": f"SHA-256 {model.weights_sha256[:12]}",
        "input": f"short side {model.resize}, "
        + (f"central {model.crop} x {model.crop}" if model.crop else "whole image"),
        "dataset": _dataset(run),
        "method": records.first.view.method(run),
        "precision": config.get("precision", "float32"),
        "seed": config.get("seed", 0),
        "hardware": _hardware(run),
        "rule of a hit": records.rule,
        "versions": ", ".join(f"{name} {version}" for name, version in run.manifest.versions.items())
        or "unknown",
        "configuration": run.manifest.config_hash[:12],
        "pictures": _pictures(records),
    }
    return [[label, storable(str(text))] for label, text in facts.items()]


def _hardware(run: Run) -> str:
    workers = {place: count for call in read_calls(run) for place, count in _workers(call).items()}
    return ", ".join(f"{count} x {place}" for place, count in workers.items()) or "unknown"


def _workers(call: dict[str, Any]) -> dict[str, Any]:
    workers = call.get("workers")
    return workers if isinstance(workers, dict) else {}


def _pictures(records: PairRecords) -> str:
    if records.thumbnails.reason:
        return f"none: {records.thumbnails.reason}"
    lost = len(records.thumbnails.unreadable)
    return f"{len(records.thumbnails)} images" + (f", {lost} of them cannot be read" if lost else "")


def _counts(records: PairRecords) -> Counts:
    """Pairs with a result, failed, and in shards that are not there."""
    run, total = records.first.run, records.plan.num_rows
    number = run.unit.number
    there = np.isin(records.plan["shard"].to_numpy(), run.committed())
    failed = set(run.table(FAILURES, [number])[number].to_pylist())
    # Where a retry was stopped a pair has both; it has a result then, as on its page.
    for results in run.tables(run.kind, [number], run.with_failures()):
        failed -= {*results[number].to_pylist()}
    return {
        "pairs": total,
        "results": int(there.sum()) - len(failed),
        "failed": len(failed),
        "missing": total - int(there.sum()),
    }


def _tables(records: PairRecords) -> list[Table]:
    tables = []
    several = len(records.runs) > 1
    for joined, of_run in zip(records.runs, records.scores, strict=True):
        where = joined.run.place() if several else ""
        for i, shown in enumerate(of_run.shown):
            name = f"scores-{joined.number}-{i}"
            tables.append(text_table(name, shown.title, shown.table, shown.columns, where))
        calls = [{name: call.get(name) for name in _CALL} for call in read_calls(joined.run)]
        if calls:
            note = f"{where} What each call of the driver did, oldest first.".strip()
            tables.append(plain_table(f"calls-{joined.number}", "Calls", note, _CALL, calls))
    return tables


def _failures(run: Run) -> Table:
    names = run.schema(FAILURES).names
    # A pair's file and number of a class say no more.
    columns = [name for name in names if name not in ("path", "class_id")]
    rows: list[dict[str, Any]] = []
    count = 0
    for failures in run.tables(FAILURES, columns):
        count += failures.num_rows
        rows += failures.slice(0, max(0, SHOWN_FAILURES - len(rows))).to_pylist()
    note = f"{count} in all" + (f", the first {len(rows)} are shown" if count > len(rows) else "")
    return plain_table("failures", "Failures", note, columns, rows)


def _config(run: Run) -> dict[str, Any]:
    """All of run.json but the names of the classes, which may be thousands."""
    tree: dict[str, Any] = json.loads(run.manifest.to_json())
    del tree["dataset"]["classes"]
    return tree
