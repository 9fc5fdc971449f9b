"""Are the files of a run sound? What cannot be used is deleted before a run goes on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from extremal.storage.errors import RunError
from extremal.storage.files import remove, sweep_temps
from extremal.storage.kinds import FAILURES, Kind
from extremal.storage.run import READERS, Run

FOOTER = b"PAR1"  # how a whole Parquet file ends


def sweep(run: Run) -> list[str]:
    """Delete what cannot be used: temporary files over a day old, and shard files without their end.

    A shard whose main file goes is no longer committed; it will be computed again.

    Returns:
        paths of the shard files that were deleted. They were cut off by something else than this
        package, which publishes whole files only; `verify` finds subtler damage.

    Raises:
        RunError: the store fails.
    """
    for kind in run.kinds:
        sweep_temps(run.filesystem, f"{run.root}/{kind.name}")
    paths = [run.shard_path(shard, run.kind) for shard in run.committed()]
    try:
        with ThreadPoolExecutor(READERS) as pool:
            ends = list(pool.map(partial(_ends, run), paths))
        # A second look, since another driver may have written it anew between size and end.
        cut = [p for p, whole in zip(paths, ends, strict=True) if not whole and not _ends(run, p)]
        for path in cut:
            remove(run.filesystem, path)
    except OSError as error:
        raise RunError(f"The shards of {run.place()} cannot be looked at: {error}. Try again.") from error
    return cut


def _ends(run: Run, path: str) -> bool:
    """Whether a file ends as a Parquet file; one that is gone by now is none of our concern."""
    try:
        with run.filesystem.open_input_file(path) as file:
            size = file.size()
            return size > len(FOOTER) and bool(file.read_at(len(FOOTER), size - len(FOOTER)) == FOOTER)
    except FileNotFoundError:
        return True


def verify(run: Run) -> Iterator[str]:
    """Open the footers of all committed shards; yields a line for every file that is damaged.

    A shard must belong to this run and hold every unit of the plan, as a result or as a failure.
    """
    sizes = run.shard_sizes()
    there = {kind: set(run.shards_of(kind)) for kind in (*run.kind.beside, FAILURES)}

    def problem(shard: int) -> str | None:
        kinds = [run.kind, *(kind for kind, shards in there.items() if shard in shards)]
        try:
            rows = {kind: _rows(run, shard, kind) for kind in kinds}
        except RunError as error:
            return str(error)
        results, planned = rows[run.kind] / run.manifest.rows_per_unit, sizes.get(shard, 0)
        total = results + rows.get(FAILURES, 0)
        path = run.shard_path(shard, run.kind)
        if total > planned and rows.get(FAILURES):
            return f"{path}: a retry was stopped in it; `extremal retry {run.place()}` settles it."
        if total != planned:
            return f"{path} and its failures hold {total:g} of {planned} pairs. {run.fix(shard)}"
        for kind in run.kind.beside:
            if rows[run.kind] and shard not in there[kind]:
                return f"{path} has no {kind.name} beside it. {run.fix(shard)}"
        return None

    with ThreadPoolExecutor(READERS) as pool:
        yield from filter(None, pool.map(problem, run.committed()))


def _rows(run: Run, shard: int, kind: Kind) -> int:
    with run.open_shard(shard, kind) as file:
        return int(file.metadata.num_rows)
