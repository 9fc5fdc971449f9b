"""Files on any filesystem that pyarrow reaches, written whole or not at all."""

import os
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from extremal.storage.errors import PlaceError

STALE_TEMP_S = 24 * 3600

# A store that is gone must become an error: pyarrow's own defaults try GCS for 15 minutes, and S3 either
# not again at all (what from_uri makes) or, at a stalled connection, after 3 s, which a busy one may take.
CONNECT_S = 10.0
REQUEST_S = 30.0  # without a byte
ATTEMPTS = 5
GCS_RETRY_S = 60


def _flag(value: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"{value!r} is neither true nor false")
    return value.lower() in ("true", "1")


# Parameters of an s3:// URI: keywords of S3FileSystem that hold no secrets.
_S3_PARAMETERS: dict[str, Callable[[str], Any]] = {
    "region": str,
    "scheme": str,
    "endpoint_override": str,
    "tls_ca_file_path": str,
    "connect_timeout": float,
    "request_timeout": float,
    "anonymous": _flag,
    "allow_bucket_creation": _flag,
    "check_directory_existence_before_creation": _flag,
    "force_virtual_addressing": _flag,
}

HIDDEN = "***"  # in the place of credentials

_SECRETS = (
    # Up to the last @, since a secret may hold a slash that should have been written as %2F.
    (re.compile(r"://[^?\s'\"]*:[^?\s'\"]*@"), f"://{HIDDEN}@"),
    (re.compile(r"([?&][^=&\s]*(?:key|secret|token|password|sig)[^=&\s]*=)[^&\s'\"]*", re.I), rf"\1{HIDDEN}"),
)


def printable(text: str) -> str:
    """A URI, or a message with URIs in it, without the credentials that they may hold."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def join(place: str, name: str) -> str:
    """The path or URI of `name` below a local path or URI, whose parameters stay at the end."""
    folder, mark, query = place.partition("?") if "://" in place else (place, "", "")
    return f"{folder.rstrip('/')}/{name}{mark}{query}"


def split(place: str) -> tuple[str, str]:
    """The folder of a file given by local path or URI, with the URI's parameters, and the file's name."""
    if "://" not in place:
        path = Path(place).expanduser()
        return str(path.parent), path.name
    address, mark, query = place.partition("?")
    folder, _, name = address.rstrip("/").rpartition("/")
    return f"{folder}{mark}{query}", unquote(name)


def open_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Filesystem and path of a local path or a URI such as s3://bucket/run (no trailing slash).

    Endpoint and credentials come from the URI, or else from the environment as the stores' own tools
    read it (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, ...).

    Raises:
        PlaceError: the URI is not understood.
        OSError: the region of an S3 bucket cannot be asked for.
    """
    try:
        uri.encode()
    except UnicodeEncodeError:
        raise PlaceError("its name is not UTF-8") from None
    if not uri:
        raise PlaceError("it is empty")
    if "://" not in uri:
        return pafs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    try:
        if uri.startswith("s3://"):
            return _open_s3(uri)
        if uri.startswith(("gs://", "gcs://")) and "retry_limit_seconds=" not in uri:
            uri += f"{'&' if '?' in uri else '?'}retry_limit_seconds={GCS_RETRY_S}"
        filesystem, path = pafs.FileSystem.from_uri(uri)
    except (ValueError, TypeError, pa.ArrowNotImplementedError) as error:
        # pyarrow repeats the whole URI; a chained error would still carry it into a log.
        raise PlaceError(printable(str(error))) from None
    return filesystem, path.rstrip("/")


def _open_s3(uri: str) -> tuple[pafs.FileSystem, str]:
    """As pyarrow's from_uri, which knows no timeouts and no second attempt."""
    parts = urlsplit(uri, allow_fragments=False)
    user, _, bucket = parts.netloc.rpartition("@")
    if not bucket or ":" in bucket:
        raise ValueError("it has no bucket (a slash in a key or secret is written %2F)")
    options: dict[str, Any] = {"connect_timeout": CONNECT_S, "request_timeout": REQUEST_S}
    # The SDK reads the rest of the environment itself.
    options["endpoint_override"] = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _S3_PARAMETERS:
            raise ValueError(f"it has an unknown parameter {name}; known are {', '.join(_S3_PARAMETERS)}")
        options[name] = _S3_PARAMETERS[name](value)
    if user:
        key, _, secret = user.partition(":")
        options |= {"access_key": unquote(key), "secret_key": unquote(secret)}
    if "region" not in options and not options["endpoint_override"]:
        options["region"] = pafs.resolve_s3_region(bucket)
    retry = pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS)
    # Only a delayed open makes a small object one PUT instead of an upload of several parts.
    filesystem = pafs.S3FileSystem(**options, retry_strategy=retry, allow_delayed_open=True)
    return filesystem, f"{bucket}{unquote(parts.path)}".rstrip("/")


def write_bytes(filesystem: pafs.FileSystem, path: str, data: bytes, durable: bool = True) -> None:
    """Publish a file in one step: readers see the old content or the new, never a part.

    Locally a unique temporary file in the same folder is synced and renamed. On NFS too: the server
    renames atomically, and nobody else has the temporary's name. The folder itself is not synced: after
    a power failure the file may be absent, which is work to do again, but never half there. Two writers
    of one file are harmless, the last one stays. On an object store one small object is one PUT;
    streaming to the final key would publish half a file when an exception closes the stream.

    Args:
        durable: whether a local file must be whole after a power failure too; waiting for the disk takes
            milliseconds, too many for a hundred thousand files that can be made again.
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
            if durable:
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


def parquet_bytes(table: pa.Table, row_group_size: int | None = None) -> bytes:
    """A table as the content of a Parquet file."""
    sink = pa.BufferOutputStream()
    # Strings repeat (class names, paths); masks and scores do not, and a dictionary only slows them.
    dictionary = [f.name for f in table.schema if pa.types.is_string(f.type)]
    # Random bits of a mask still decode: without checksums most damage would pass unseen.
    pq.write_table(
        table,
        sink,
        row_group_size=row_group_size,
        compression="zstd",
        use_dictionary=dictionary,
        write_page_checksum=True,
    )
    return bytes(sink.getvalue())
