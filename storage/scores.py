"""What aggregators make of a run, written into it: scores/NAME.parquet and the like."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.csv

from extremal.storage.errors import RunError
from extremal.storage.files import parquet_bytes, write_bytes
from extremal.storage.run import Run


def write_scores(run: Run, name: str, table: pa.Table, hidden: Sequence[str] = ()) -> str:
    """Write an aggregate as scores/NAME.parquet and scores/NAME.csv (lists joined by spaces).

    Args:
        hidden: columns too long for a CSV that people read.

    Returns:
        the place of the CSV.

    Raises:
        RunError: the directory cannot be written.
    """
    flat = table.drop_columns(list(hidden))
    for i, field in enumerate(flat.schema):
        if pa.types.is_list(field.type):
            joined = [None if v is None else " ".join(map(str, v)) for v in flat[i].to_pylist()]
            flat = flat.set_column(i, field.name, pa.array(joined, pa.string()))
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(flat, sink)
    write_score(run, f"{name}.parquet", parquet_bytes(table))
    return write_score(run, f"{name}.csv", bytes(sink.getvalue()))


def write_score(run: Run, name: str, content: bytes) -> str:
    """Write a file, such as a picture of an aggregate, as scores/NAME.

    Returns:
        its place.

    Raises:
        RunError: the directory cannot be written.
    """
    folder = f"{run.root}/scores"
    try:
        run.filesystem.create_dir(folder, recursive=True)
        write_bytes(run.filesystem, f"{folder}/{name}", content)
    except OSError as error:
        raise RunError(f"Cannot write {folder}/{name}: {error}. Check permissions and free space.") from error
    return run.place(f"scores/{name}")
