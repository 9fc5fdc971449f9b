"""A run's results in few large files, for tools that read them often. The shards stay what they are."""

from collections.abc import Iterator
from contextlib import suppress

import pyarrow as pa

from extremal.storage.errors import RunError
from extremal.storage.files import list_files, parquet_bytes, remove, write_bytes
from extremal.storage.kinds import Kind
from extremal.storage.run import Run

PART_BYTES = 256 * 1024**2  # of Arrow memory; a file is compressed to less
GROUP_ROWS = 1024


def compact(run: Run) -> Iterator[str]:
    """Write compact/KIND/part-00000.parquet and so on, rows in plan order; yields each path written.

    Raises:
        RunError: the run is not complete, a shard is damaged, or the files cannot be written; what was
            written by then is removed, as a part of the run would pass for the whole of it.
    """
    missing = run.missing()
    if missing:
        raise RunError(
            f"{len(missing)} shards of {run.place()} are missing. "
            "Repeat its `extremal run` command until it is complete, then compact."
        )
    for kind in run.kinds:
        folder = f"{run.root}/compact/{kind.name}"
        whole = False
        try:
            run.filesystem.create_dir(folder, recursive=True)
            # A part of an earlier compaction beside a new one would double rows or lose them.
            _empty(run, folder)
            for number, table in enumerate(_parts(run, kind)):
                path = f"{folder}/part-{number:05d}.parquet"
                write_bytes(run.filesystem, path, parquet_bytes(table, GROUP_ROWS))
                yield path
            whole = True
        except OSError as error:
            raise RunError(f"Cannot write {folder}: {error}. Check permissions and free space.") from error
        finally:
            if not whole:
                with suppress(OSError):
                    _empty(run, folder)


def _empty(run: Run, folder: str) -> None:
    for info in list_files(run.filesystem, folder):
        remove(run.filesystem, info.path)


def _parts(run: Run, kind: Kind) -> Iterator[pa.Table]:
    """Tables of about PART_BYTES; one without rows if there are none."""
    waiting, size = [run.schema(kind).empty_table()], 0
    for table in run.tables(kind):
        if size and size + table.nbytes > PART_BYTES:
            yield pa.concat_tables(waiting)
            waiting, size = [], 0
        waiting.append(table)
        size += table.nbytes
    yield pa.concat_tables(waiting)
