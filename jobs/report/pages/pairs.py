"""All there is to say of pairs: data/pairs/NNNNN.js."""

from collections.abc import Iterator

from extremal.jobs.joined_runs import Row
from extremal.jobs.page_data import Labelled, PairEntry, PairsFile, Point, Strip
from extremal.jobs.report.pages.inversions import inversion_record
from extremal.jobs.report.pages.overlays import strip_cells, tile_list
from extremal.jobs.report.pages.page import Part, ShardPage, script
from extremal.jobs.report.pair_records import PairRecord, PairRecords, class_label
from extremal.jobs.studies import StudyView

PER_FILE = 20  # pairs of a file


class PairsPage(ShardPage):
    """PER_FILE pairs a file, in plan order."""

    pattern = r"data/pairs/(\d{5,9})\.js"

    def paths(self, part: Part) -> Iterator[str]:
        for pair in self.records.pairs_of(part.number):
            if pair % PER_FILE == 0:
                yield f"data/pairs/{pair // PER_FILE:05d}.js"

    def content(self, path: str, *groups: str | None) -> bytes:
        start = int(groups[0] or 0) * PER_FILE
        stop = min(start + PER_FILE, self.records.plan.num_rows)
        if start >= stop:
            raise KeyError(path)
        pairs = [pair_entry(self.records, self.records.of_pair(pair)) for pair in range(start, stop)]
        file: PairsFile = {"start": start, "pairs": pairs}
        return script(path, file)


def pair_entry(records: PairRecords, record: PairRecord) -> PairEntry:
    """All that a page shows of a pair; PAIR in docs/report-data.md."""
    plan, size = record.plan, record.size
    target = next((row for rows in record.rows.values() for row in rows if "target" in row), {})
    of_class = int(records.class_of[record.pair])
    return {
        "pair": record.pair,
        "image_id": plan["image_id"],
        "path": plan["path"],
        "class": of_class,
        "class_name": class_label(records.classes[of_class]),
        "target": target.get("target"),
        "target_name": target.get("target_name"),
        "width": size[0] if size else None,
        "height": size[1] if size else None,
        "picture": records.thumbnails.number(record.pair),
        "region": list(records.first.region(size)) if size else None,
        "strip": _strip(records, record),
        "boxes": plan["boxes"],
        "points": [_point(name, row) for name, row in record.points.items()],
        "curves": [view.curve(row) for view, row in _rows(records, record) if view.curve],
        "numbers": _numbers(records, record),
        "inversion": inversion_record(records, record),
        "failure": record.failure,
    }


def _rows(records: PairRecords, record: PairRecord) -> Iterator[tuple[StudyView, Row]]:
    """The rows of a pair in all runs, each with how it looks."""
    for joined in records.runs:
        for row in record.rows.get(joined.number, []):
            yield joined.view, row


def _strip(records: PairRecords, record: PairRecord) -> Strip | None:
    cells = strip_cells(records, record)
    return {"cells": list(cells), "tiles": tile_list(records, record)} if cells else None


def _point(method: str, row: Row) -> Point:
    return {
        "method": method,
        "x": row["x"],
        "y": row["y"],
        "outcome": row["outcome"],
        "distance": row["distance"],
    }


def _numbers(records: PairRecords, record: PairRecord) -> Labelled:
    """Scalars of every run's rows, and what the points' maps say of energy, as label and text."""
    numbers = [line for view, row in _rows(records, record) for line in view.numbers(row)]
    for name, point in record.points.items():
        if point["energy_inside"] is not None:
            numbers.append([f"{name}: energy on the object", f"{100 * point['energy_inside']:.1f} %"])
    return numbers
