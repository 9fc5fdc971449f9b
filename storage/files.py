"""Files on any filesystem that pyarrow reaches, written whole or not at all."""

import os
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pyarrow.fs as pafs

STALE_TEMP_S = 24 * 3600


def open_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Filesystem and path of a local path or a URI such as s3://bucket/run (no trailing slash).

    Raises:
        ValueError: the URI is not understood by pyarrow.fs.
    """
    if "://" not in uri:
        return pafs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    filesystem, path = pafs.FileSystem.from_uri(uri)
    return filesystem, path.rstrip("/")


def write_bytes(filesystem: pafs.FileSystem, path: str, data: bytes) -> None:
    """Publish a file in one step: readers see the old content or the new, never a part.

    Locally a unique temporary file is synced and renamed. On an object store one small object is one
    PUT; streaming to the final key would publish half a file when an exception closes the stream.
    """
    if not isinstance(filesystem, pafs.LocalFileSystem):
        with filesystem.open_output_stream(path) as stream:
            stream.write(data)
        return
    target = Path(path)
    temp = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temp.open("wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        temp.replace(target)
    finally:
        temp.unlink(missing_ok=True)


def remove(filesystem: pafs.FileSystem, path: str) -> None:
    """Delete a file, if it is there."""
    with suppress(FileNotFoundError):
        filesystem.delete_file(path)


def list_files(filesystem: pafs.FileSystem, folder: str) -> list[pafs.FileInfo]:
    """Files directly in a folder, [] if it does not exist."""
    infos = filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
    return [info for info in infos if info.type == pafs.FileType.File]


def exists(filesystem: pafs.FileSystem, path: str) -> bool:
    """Whether there is anything at `path`."""
    return bool(filesystem.get_file_info(path).type != pafs.FileType.NotFound)


def sweep_temps(filesystem: pafs.FileSystem, folder: str) -> None:
    """Delete temporary files that a killed process left over a day ago; younger ones may have an owner."""
    if isinstance(filesystem, pafs.LocalFileSystem):
        for temp in Path(folder).glob(".*.tmp"):
            # Its owner, or another sweep, may be faster.
            with suppress(FileNotFoundError):
                if time.time() - temp.stat().st_mtime > STALE_TEMP_S:
                    temp.unlink()
