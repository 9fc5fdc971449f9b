"""The inversions of channels: channels/NNNNN.png."""

from collections.abc import Iterator

from extremal.jobs.report.pages.page import Page, Part
from extremal.jobs.report.paths import channel_path


class ChannelFiles(Page):
    """A picture for every channel that was inverted."""

    pattern = r"channels/(\d{5,9})\.png"

    def paths(self, part: Part) -> Iterator[str]:
        return map(channel_path, self.data.class_channels.pictures)

    def content(self, path: str, *groups: str | None) -> bytes:
        return self.data.class_channels.png(int(groups[0] or 0))
