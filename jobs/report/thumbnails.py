"""The dataset's images as small pictures, as far as the dataset is still reachable."""

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from io import BytesIO

import numpy as np
import pyarrow as pa

from extremal.jobs.joined_runs import checked_root
from extremal.storage import Run
from extremal.storage.errors import PlaceError
from extremal.storage.files import HIDDEN, printable
from extremal.storage.folder import Folder, open_root
from extremal.workers.errors import ImageError
from extremal.workers.images import image_size, thumbnail

log = logging.getLogger(__name__)

SIDE = 224  # short side of a picture, pixels
QUALITY = 80


class Thumbnails:
    """The images of a plan, each once, numbered by first appearance.

    Attributes:
        of_pair: (N) the number of each pair's image.
        reason: why there are no pictures at all; "" if there are.
        unreadable: numbers of the images that could not be read so far, and why.
    """

    def __init__(self, run: Run, plan: pa.Table, root: str | None) -> None:
        """`plan`: of pairs. `root`: where the images lie now; None = where they were.

        Raises:
            DatasetError: the root that was given is not there.
        """
        paths = plan["path"].combine_chunks().dictionary_encode()
        if isinstance(paths, pa.ChunkedArray):
            paths = paths.unify_dictionaries().combine_chunks()
        self.of_pair: np.ndarray = paths.indices.to_numpy()
        self._paths = paths.dictionary
        _, first = np.unique(self.of_pair, return_index=True)
        self._sizes = plan.select(["width", "height"]).take(first)
        self.unreadable: dict[int, str] = {}
        self._folder, self.reason = _open(run, root)

    def __len__(self) -> int:
        return len(self._paths) if self._folder else 0

    def number(self, pair: int) -> int:
        """Number of a pair's picture, -1 if there is none."""
        number = int(self.of_pair[pair])
        return number if self._folder and number not in self.unreadable else -1

    def size(self, pair: int) -> tuple[int, int] | None:
        """Width and height of a pair's image from its header, None if it cannot be read."""
        if self._folder is None:
            return None
        try:
            return image_size(self._folder, self._paths[int(self.of_pair[pair])].as_py())
        except OSError:
            return None

    def lose(self, reasons: Mapping[int, str]) -> None:
        """Note images that cannot be read; a warning tells of each once."""
        for number, why in reasons.items():
            if number not in self.unreadable:
                self.unreadable[number] = why
                log.warning("no picture: %s", why)

    def try_pairs(self, pairs: Iterable[int]) -> None:
        """Find out which images of some pairs cannot be read."""
        for number in {int(self.of_pair[pair]) for pair in pairs} if self._folder else set():
            with suppress(KeyError):
                self.jpeg(number)

    def _explained(self, number: int) -> tuple[int, int] | None:
        """Width and height of an image when it was planned, if they were known."""
        width, height = (self._sizes[name][number].as_py() for name in ("width", "height"))
        return (width, height) if width and height else None

    def jpeg(self, number: int) -> bytes:
        """A picture.

        Raises:
            KeyError: there is none, or it cannot be read; it is in `unreadable` then.
        """
        if self._folder is None or not 0 <= number < len(self._paths):
            raise KeyError(number)
        try:
            small = thumbnail(self._folder, self._paths[number].as_py(), SIDE, self._explained(number))
        except (ImageError, OSError) as error:
            self.lose({number: printable(str(error))})
            raise KeyError(number) from None
        sink = BytesIO()
        small.save(sink, "JPEG", quality=QUALITY)
        return sink.getvalue()


def _open(run: Run, given: str | None) -> tuple[Folder | None, str]:
    """The folder of the images, or None and why."""
    if given is not None:
        return open_root(checked_root(given)), ""
    root = run.manifest.dataset.root
    if not root:
        return None, f"{run.place('run.json')} does not say where they lie: give --root"
    if HIDDEN in root:
        return None, f"{root} was given with credentials, which no run stores: give --root again"
    try:
        folder = open_root(root)
        if folder.is_dir():
            return folder, ""
        error: Exception = FileNotFoundError("no such folder")
    except (PlaceError, OSError) as caught:
        error = caught
    return None, f"{printable(root)} is not reachable ({printable(str(error))}): give --root"
