"""The site as files, in a folder or below a URI, made by processes side by side."""

import logging
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePosixPath
from threading import Thread

import pyarrow.fs as pafs
from rich.console import Console

from extremal.jobs.report.index_entries import Entries
from extremal.jobs.report.pages.page import SHARD, THUMBNAILS, WHOLE, Part
from extremal.jobs.report.site import Site
from extremal.pipeline.progress import ProgressReport
from extremal.storage import RunError
from extremal.storage.files import open_filesystem, printable, write_bytes

# Threads would fight for the interpreter: two of them took nearly twice the CPU of one. Each process takes
# some 200 MB with 50,000 pairs, and more with more of them.
WRITERS = min(4, os.cpu_count() or 1)


class _Folder:
    """Where the files go; local folders are made as they are needed."""

    def __init__(self, out: str) -> None:
        self._filesystem, self._root = open_filesystem(out)
        self._made: set[str] = set()

    def write(self, path: str, content: bytes) -> None:
        target = f"{self._root}/{path}"
        folder = str(PurePosixPath(target).parent)
        # An object store has no folders; making one would cost a request.
        if folder not in self._made and isinstance(self._filesystem, pafs.LocalFileSystem):
            self._filesystem.create_dir(folder, recursive=True)
        self._made.add(folder)
        write_bytes(self._filesystem, target, content, durable=False)


@dataclass(frozen=True)
class _Written:
    """What came of a part: sizes of its files, and what others need to know of it."""

    sizes: list[int]
    entries: Entries | None
    unreadable: dict[int, str]


class _Writer:
    """Writes parts of a site."""

    def __init__(self, site: Site, folder: _Folder) -> None:
        self._site, self._folder = site, folder

    def write(self, part: Part, unreadable: Iterable[int]) -> _Written:
        """`unreadable`: images that any process has found to be so."""
        site, thumbnails = self._site, self._site.records.thumbnails
        thumbnails.lose(dict.fromkeys(unreadable, ""))
        before = {*thumbnails.unreadable}
        sizes = []
        for path in site.part_paths(part):
            try:
                content = site[path]
            except KeyError:
                if part.name != THUMBNAILS:
                    raise
                continue  # an image that cannot be read; the overview counts it
            self._folder.write(path, content)
            sizes.append(len(content))
        lost = {number: why for number, why in thumbnails.unreadable.items() if number not in before}
        entries = site.data.entries.of_shard(part.number) if part.name == SHARD else None
        return _Written(sizes, entries, lost)


# ---- in a process of its own --------------------------------------------------------------------

_writers: list[_Writer] = []  # the one of this process


def _begin(site: Site, out: str) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    # The process that orders tells of lost images.
    logging.getLogger("extremal.jobs.report.thumbnails").disabled = True
    _writers.append(_Writer(site, _Folder(out)))


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _write(part: Part, unreadable: frozenset[int]) -> _Written:
    return _writers[0].write(part, unreadable)


# ---- in the process that orders -----------------------------------------------------------------


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that are started meanwhile never hear Ctrl-C; this one hears it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _write_all(site: Site, out: str) -> Iterator[tuple[Part, _Written]]:
    """Write all parts; yields each with what came of it when it is there."""
    # No fork: threads of pyarrow and of the store's client would be lost in it.
    context = multiprocessing.get_context("spawn")
    writer = _Writer(site, _Folder(out))
    with ProcessPoolExecutor(WRITERS, context, _begin, (site, out)) as pool:
        try:
            for stage, parts in groupby(site.parts(), key=lambda part: part.stage):
                lost = frozenset(site.records.thumbnails.unreadable)
                if stage >= WHOLE:  # needs what this process knows of all pairs, and is little work
                    yield from ((part, writer.write(part, ())) for part in parts)
                    continue
                with _deaf():
                    futures = {pool.submit(_write, part, lost): part for part in parts}
                for future in as_completed(futures):
                    yield futures.pop(future), future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def write_site(site: Site, out: str, console: Console) -> tuple[int, int]:
    """Write every file of a site; those of an earlier report in its place are replaced one by one.

    Returns:
        Number of files and of bytes written.

    Raises:
        RunError: the folder cannot be written, or a shard is damaged.
        PlaceError: `out` is no folder or URI.
    """
    site.prepare()  # what is wrong with it is said before hours of writing
    progress = ProgressReport(sum(part.items for part in site.parts()), 0, console, "items")
    files = written = 0
    try:
        with progress:
            for part, made in _write_all(site, out):
                site.learn(part, made.entries, made.unreadable)
                files, written = files + len(made.sizes), written + sum(made.sizes)
                lost = part.items - len(made.sizes) if part.name == THUMBNAILS else 0
                progress.add(part.items, lost)
    except OSError as error:
        raise RunError(
            f"Cannot write {printable(out)}: {error}. Check permissions and free space."
        ) from error
    except BrokenProcessPool as error:
        raise RunError(
            f"One of the {WRITERS} processes that write the report was ended: perhaps for want of memory, or "
            "because a script calls this without `if __name__ == '__main__':` above."
        ) from error
    return files, written
