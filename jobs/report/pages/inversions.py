"""The pictures that an inversion run has of the report's pairs: inversions/NNNNNN.png."""

from collections.abc import Iterator

from extremal.jobs.joined_runs import JoinedRun, Row
from extremal.jobs.page_data import InversionRecord
from extremal.jobs.report.pages.page import Part, ShardPage
from extremal.jobs.report.pair_records import PairRecord, PairRecords
from extremal.jobs.report.paths import inversion_path
from extremal.jobs.studies.view import PairPictures


def inverted_run(records: PairRecords) -> tuple[JoinedRun, PairPictures] | None:
    """The first run with pictures of the report's pairs, which are channels if the first run says so."""
    for joined in records.runs:
        pictures = joined.view.pair_pictures
        if pictures and (joined.number == 0 or joined.view.of_pairs(joined.run)):
            return joined, pictures
    return None


def _inverted_row(records: PairRecords, record: PairRecord) -> tuple[PairPictures, Row] | None:
    inverted = inverted_run(records)
    rows = record.rows.get(inverted[0].number) if inverted else None
    return (inverted[1], rows[0]) if inverted and rows else None


def inversion_record(records: PairRecords, record: PairRecord) -> InversionRecord | None:
    """What the page of a pair says of its inversion."""
    inverted = _inverted_row(records, record)
    if inverted is None:
        return None
    pictures, row = inverted
    return {
        "whole": inversion_path(record.pair),
        "masked": inversion_path(record.pair, masked=True) if pictures.has_masked(row) else None,
        "numbers": pictures.numbers(row),
    }


class InversionFiles(ShardPage):
    """The inversion of the whole activations of a pair, and of the masked ones."""

    pattern = r"inversions/(\d{6,9})(-masked)?\.png"

    def paths(self, part: Part) -> Iterator[str]:
        for record in self.records.of_shard(part.number):
            inverted = _inverted_row(self.records, record)
            if inverted:
                yield inversion_path(record.pair)
                if inverted[0].has_masked(inverted[1]):
                    yield inversion_path(record.pair, masked=True)

    def content(self, path: str, *groups: str | None) -> bytes:
        pair, inverted = int(groups[0] or 0), inverted_run(self.records)
        if inverted is None or pair >= self.records.plan.num_rows:
            raise KeyError(path)
        joined, pictures = inverted
        column = pictures.masked if groups[1] else pictures.whole
        for _, table in joined.tables(joined.run.kind, [column], [pair]):
            content = table[column][0].as_py()
            if content is not None:
                return bytes(content)
        raise KeyError(path)
