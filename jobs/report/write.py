"""The site as files, in a folder or below a URI."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import groupby
from pathlib import PurePosixPath
from threading import Lock

import pyarrow.fs as pafs
import torch
from rich.console import Console

from jobs.report.site import Part, Site
from pipeline.progress import ProgressReport
from storage import RunError
from storage.files import open_filesystem, printable, write_bytes

WRITERS = 2  # threads: one writes or waits for the store while the other computes; more only fight


class _Folder:
    """Where the files go; local folders are made as they are needed."""

    def __init__(self, out: str) -> None:
        self._filesystem, self._root = open_filesystem(out)
        self._made: set[str] = set()
        self._lock = Lock()

    def write(self, path: str, content: bytes) -> None:
        target = f"{self._root}/{path}"
        folder = str(PurePosixPath(target).parent)
        with self._lock:
            # An object store has no folders; making one would cost a request.
            if folder not in self._made and isinstance(self._filesystem, pafs.LocalFileSystem):
                self._filesystem.create_dir(folder, recursive=True)
            self._made.add(folder)
        write_bytes(self._filesystem, target, content, durable=False)


def _write_all(site: Site, parts: Sequence[Part], folder: _Folder) -> Iterator[tuple[Part, list[int]]]:
    """Write parts side by side; yields each with the sizes of its files when it is there."""
    with ThreadPoolExecutor(WRITERS) as pool:
        futures = {pool.submit(_write, site, part, folder): part for part in parts}
        try:
            for future in as_completed(futures):
                yield futures.pop(future), future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _write(site: Site, part: Part, folder: _Folder) -> list[int]:
    sizes = []
    for path in site.part_paths(part):
        try:
            content = site[path]
        except KeyError:
            if part.name != "pictures":
                raise
            continue  # an image that cannot be read; the overview counts it
        folder.write(path, content)
        sizes.append(len(content))
    return sizes


def write_site(site: Site, out: str, console: Console) -> tuple[int, int]:
    """Write every file of a site; those of an earlier report in its place are replaced one by one.

    Returns:
        Number of files and of bytes written.

    Raises:
        RunError: the folder cannot be written, or a shard is damaged.
        PlaceError: `out` is no folder or URI.
    """
    torch.set_num_threads(1)  # the writers share the cores already
    parts = site.parts()
    _ = site.book.names, site.classes  # by one thread, before all need them
    progress = ProgressReport(sum(part.files for part in parts), 0, console, "files")
    files = written = 0
    try:
        folder = _Folder(out)
        with progress:
            for _, stage in groupby(parts, key=lambda part: part.stage):
                for part, sizes in _write_all(site, list(stage), folder):
                    files, written = files + len(sizes), written + sum(sizes)
                    lost = part.files - len(sizes) if part.name == "pictures" else 0
                    progress.add(part.files, lost)
    except OSError as error:
        raise RunError(
            f"Cannot write {printable(out)}: {error}. Check permissions and free space."
        ) from error
    return files, written
