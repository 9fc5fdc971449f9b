"""`extremal report` and `extremal serve`."""

from collections.abc import Sequence

from rich.console import Console

from extremal.jobs.report.serve import ADDRESS, Server
from extremal.jobs.report.site import Site
from extremal.jobs.report.write import write_site
from extremal.jobs.tables.printed import warn_incomplete
from extremal.pipeline.aggregates.pointing import Rule
from extremal.storage import Run
from extremal.storage.files import join, printable


def make_report(uris: Sequence[str], root: str | None, rule: Rule, out: str | None, console: Console) -> None:
    """Write the site of some runs; by default into the first of them.

    Raises:
        RunError: a run is damaged, or they do not fit together, or the folder cannot be written.
        DatasetError: the root is not there.
        PlaceError: `out` is no folder or URI.
    """
    site = _site(uris, root, rule, console)
    place = out or join(site.records.first.run.uri, "report")
    files, size = write_site(site, place, console)
    lost = len(site.records.thumbnails.unreadable)
    if lost:
        console.print(f"warning: {lost} images cannot be read; their pairs have no picture")
    console.print(
        f"wrote {files} files, {size / 1e6:.1f} MB. Open {printable(join(place, 'index.html'))}",
        soft_wrap=True,
    )


def serve_report(uris: Sequence[str], root: str | None, rule: Rule, port: int, console: Console) -> None:
    """Serve the site of some runs until interrupted.

    Raises:
        RunError, DatasetError: as `make_report`.
        ConfigError: the port is taken.
    """
    with Server(_site(uris, root, rule, console), port) as server:
        console.print(f"Open http://{ADDRESS}:{server.server_port}/ ; Ctrl-C ends it.")
        server.serve_forever()


def _site(uris: Sequence[str], root: str | None, rule: Rule, console: Console) -> Site:
    site = Site([Run.open(uri) for uri in uris], root, rule)
    for joined in site.records.runs:
        warn_incomplete(joined.run, console)
    if site.records.thumbnails.reason:
        console.print(f"warning: no pictures: {site.records.thumbnails.reason}", soft_wrap=True)
    return site
