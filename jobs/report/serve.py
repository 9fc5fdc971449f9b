"""The site on demand: a web server for this machine alone."""

import logging
import mimetypes
import sys
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import unquote, urlsplit

from extremal.jobs.report.site import Site
from extremal.pipeline.errors import ConfigError
from extremal.storage import RunError
from extremal.storage.files import printable

log = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
HOSTS = {"127.0.0.1", "localhost"}
KEPT_FILES = 256

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class Server(ThreadingHTTPServer):
    """Serves a site on loopback. Files are made one at a time; some are kept."""

    daemon_threads = True

    def __init__(self, site: Site, port: int) -> None:
        """`port`: 0 = any free one; `server_port` says which.

        Raises:
            ConfigError: the port is taken or not to be had.
        """
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(f"Cannot listen on {ADDRESS}:{port}: {error}. Give another --port.") from error
        self._lock = Lock()
        self._content = lru_cache(maxsize=KEPT_FILES)(site.__getitem__)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves a page hangs up on its pictures: worth no traceback on the terminal."""
        level = logging.DEBUG if isinstance(sys.exc_info()[1], ConnectionError) else logging.ERROR
        log.log(level, "a request failed", exc_info=True)

    def content(self, path: str) -> bytes:
        """A file of the site.

        Raises:
            KeyError, RunError: as of the site.
        """
        with self._lock:
            return self._content(path)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version = "extremal"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        try:
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
            path = unquote(urlsplit(self.path).path).removeprefix("/") or "index.html"
        except ValueError:
            return self._send(HTTPStatus.BAD_REQUEST, b"no address\n", "text/plain", body)
        # A name of somebody else's that leads here would let their pages read ours (DNS rebinding).
        if host not in HOSTS:
            return self._send(HTTPStatus.FORBIDDEN, b"open http://localhost instead\n", "text/plain", body)
        try:
            content = self.server.content(path)
        except KeyError:
            return self._send(HTTPStatus.NOT_FOUND, b"no such page\n", "text/plain", body)
        except RunError as error:
            log.warning("%s: %s", path, error)
            text = f"{printable(str(error))}\n".encode("utf-8", "backslashreplace")
            return self._send(HTTPStatus.INTERNAL_SERVER_ERROR, text, "text/plain", body)
        self._send(HTTPStatus.OK, content, mimetypes.guess_type(path)[0] or "text/plain", body)

    def _send(self, status: HTTPStatus, content: bytes, kind: str, body: bool) -> None:
        self.send_response(status)
        text = kind.startswith("text/")
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if text else kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)
