"""A folder of input files, local or on an object store, whose files are read by name."""

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pyarrow.fs as pafs

from extremal.storage.files import join, open_filesystem, printable, split

# Errors of the operating system that say something of the file and not of the machine.
OF_THE_FILE = frozenset(
    {
        errno.ENOENT,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.EACCES,
        errno.EPERM,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,
    }
)


class FileFault(Exception):
    """A file that cannot be read however often one tries; the message is the cause without its name."""


class Folder(ABC):
    """What lies below a root, by posix paths relative to it; "" is the root itself.

    Every method raises OSError where the storage or the network is at fault, so that another attempt
    may succeed.

    Attributes:
        root: absolute local path, or URI; to be shown by `show`, since it may hold credentials.
    """

    root: str

    def show(self, path: str = "") -> str:
        """The name of a file or folder for messages, without credentials."""
        return printable(join(self.root, path) if path else self.root)

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Content of a file.

        Raises:
            FileFault: it is missing, no regular file, or not to be read by us.
        """

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """A file to read from and to seek in, which locally reads only what is asked for.

        Raises:
            FileFault: as `read`.
        """

    @abstractmethod
    def is_file(self, path: str) -> bool:
        """Whether there is such a file. An object store is asked once for all files of a folder."""

    @abstractmethod
    def is_dir(self, path: str = "") -> bool:
        """Whether there is such a folder."""

    @abstractmethod
    def names(self, path: str = "") -> tuple[list[str], list[str]]:
        """Names of a folder's files and of its sub-folders, sorted; none if there is no such folder."""

    def walk(self, path: str = "") -> Iterator[tuple[str, list[str]]]:
        """Every folder from `path` down and the names of its files, sorted; hidden folders are left out."""
        files, folders = self.names(path)
        yield path, files
        for name in folders:
            if not name.startswith("."):
                yield from self.walk(f"{path}/{name}" if path else name)


def open_root(root: str) -> Folder:
    """The folder of a local path or a URI.

    Raises:
        PlaceError: the URI is not understood.
        OSError: the store cannot be reached.
    """
    if "://" not in root:
        return _LocalFolder(Path(root).expanduser().absolute())
    filesystem, path = open_filesystem(root)
    if isinstance(filesystem, pafs.LocalFileSystem):
        return _LocalFolder(Path(path))
    return _StoreFolder(root, filesystem, path)


def open_place(file: str) -> tuple[Folder, str]:
    """The folder and the name of a file given by local path or URI.

    Raises:
        PlaceError, OSError: as `open_root`.
    """
    folder, name = split(file)
    return open_root(folder), name


@contextmanager
def _faults() -> Iterator[None]:
    """Faults of the file become FileFault; those of the machine pass."""
    try:
        yield
    except FileNotFoundError:
        raise FileFault("no such file") from None
    except OSError as error:
        if error.errno not in OF_THE_FILE:
            raise
        raise FileFault(f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a name that no file can have
        raise FileFault(f"cannot be read: {error}") from error


class _LocalFolder(Folder):
    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self._root = root

    def read(self, path: str) -> bytes:
        with _faults():
            return self._regular(path).read_bytes()

    def open(self, path: str) -> BinaryIO:
        with _faults():
            return self._regular(path).open("rb")

    def _regular(self, path: str) -> Path:
        file = self._root / path
        if file.exists() and not file.is_file():
            raise FileFault("not a regular file")  # reading a pipe would wait for ever
        return file

    def is_file(self, path: str) -> bool:
        # A million times while planning: pathlib would take ten times as long.
        return os.path.isfile(f"{self.root}/{path}")

    def is_dir(self, path: str = "") -> bool:
        return (self._root / path).is_dir()

    def names(self, path: str = "") -> tuple[list[str], list[str]]:
        found: tuple[list[str], list[str]] = [], []
        try:
            with os.scandir(self._root / path) as entries:
                for entry in entries:
                    found[entry.is_dir()].append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        return sorted(found[0]), sorted(found[1])

    def walk(self, path: str = "") -> Iterator[tuple[str, list[str]]]:
        # Unlike `names` it follows no links, which may lead round in a circle.
        for folder, subfolders, names in os.walk(self._root / path):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            below = Path(folder).relative_to(self._root).as_posix()
            yield "" if below == "." else below, sorted(names)


class _StoreFolder(Folder):
    def __init__(self, uri: str, filesystem: pafs.FileSystem, root: str) -> None:
        self.root = uri
        self._filesystem = filesystem
        self._root = root
        self._listed: dict[str, frozenset[str]] = {}

    def _at(self, path: str) -> str:
        return "/".join([self._root, *PurePosixPath(path).parts])

    def read(self, path: str) -> bytes:
        with _faults(), self._filesystem.open_input_stream(self._at(path), compression=None) as stream:
            return bytes(stream.read())

    def open(self, path: str) -> BinaryIO:
        return BytesIO(self.read(path))

    def is_file(self, path: str) -> bool:
        place = PurePosixPath(path)
        folder = str(place.parent)
        if folder not in self._listed:
            self._listed[folder] = frozenset(self.names(folder)[0])
        return place.name in self._listed[folder]

    def is_dir(self, path: str = "") -> bool:
        return bool(self._filesystem.get_file_info(self._at(path)).type == pafs.FileType.Directory)

    def names(self, path: str = "") -> tuple[list[str], list[str]]:
        folder = self._at(path)
        # pyarrow's GCS knows of sub-folders only from what is listed below them.
        deep = self._filesystem.type_name == "gcs"
        files: set[str] = set()
        folders: set[str] = set()
        for info in self._filesystem.get_file_info(
            pafs.FileSelector(folder, allow_not_found=True, recursive=deep)
        ):
            name, below, _ = info.path[len(folder) + 1 :].partition("/")
            (folders if below or info.type == pafs.FileType.Directory else files).add(name)
        return sorted(files), sorted(folders)
