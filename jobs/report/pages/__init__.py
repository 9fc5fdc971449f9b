"""The files of the site by sort: one file and one entry each, in the order in which they are made."""

from collections.abc import Sequence

from extremal.jobs.report.pages.browser import BrowserFiles
from extremal.jobs.report.pages.channels import ChannelFiles
from extremal.jobs.report.pages.class_page import ClassPage
from extremal.jobs.report.pages.classes import ClassesPage, SimilarityFile
from extremal.jobs.report.pages.index import IndexPage
from extremal.jobs.report.pages.inversions import InversionFiles
from extremal.jobs.report.pages.overlays import OverlayFiles
from extremal.jobs.report.pages.overview import OverviewPage
from extremal.jobs.report.pages.page import Page
from extremal.jobs.report.pages.pairs import PairsPage
from extremal.jobs.report.pages.thumbnails import ThumbnailFiles

PAGES: Sequence[type[Page]] = (
    ThumbnailFiles,
    OverlayFiles,
    InversionFiles,
    PairsPage,
    IndexPage,
    ClassPage,
    ChannelFiles,
    SimilarityFile,
    ClassesPage,
    OverviewPage,
    BrowserFiles,
)

__all__ = ["PAGES"]
