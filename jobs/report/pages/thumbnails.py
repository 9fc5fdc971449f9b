"""The images of the dataset as small pictures: pictures/PPP/PPPPPP.jpg."""

from collections.abc import Iterable, Iterator

from extremal.jobs.report.pages.page import THUMBNAILS, Page, Part, grouped
from extremal.jobs.report.paths import picture_path


class ThumbnailFiles(Page):
    """A picture for every image; its path is there also where the image proves unreadable."""

    pattern = r"pictures/\d{3,6}/(\d{6,9})\.jpg"
    part = THUMBNAILS

    def parts(self) -> Iterable[Part]:
        """Groups of images."""
        return grouped(THUMBNAILS, len(self.records.thumbnails))

    def paths(self, part: Part) -> Iterator[str]:
        return map(picture_path, part.numbers)

    def content(self, path: str, *groups: str | None) -> bytes:
        number = int(groups[0] or 0)
        if picture_path(number) != path:
            raise KeyError(path)
        return self.records.thumbnails.jpeg(number)
