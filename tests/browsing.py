"""Pages in a real browser, and what must hold of every one of them."""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium (apt-get install chromium)")
PATIENCE = 30_000  # milliseconds: the cores may be shared with many
expect.set_options(timeout=PATIENCE)
Open = Callable[..., Page]
# Of the rules of axe, those of colour alone depend on the scheme.
SCHEMES: dict[str, dict[str, Any]] = {"light": {}, "dark": {"runOnly": ["cat.color"]}}


@contextmanager
def launched() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Without a sandbox: a container's root has none, and the pages are our own.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def new_page(browser: Browser, faults: list[str], **context: Any) -> Page:
    """An empty page. What goes wrong in it is added: errors, foreign requests, hostile scripts."""

    def request(url: str) -> None:
        if not url.startswith(("file:///", "http://127.0.0.1:", "data:")):
            faults.append(f"request {url}")

    page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}).new_page()
    page.set_default_timeout(PATIENCE)
    page.on(
        "console",
        lambda m: faults.append(f"console {m.text}") if m.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: faults.append(f"error {error}"))
    page.on("dialog", lambda dialog: (faults.append("a script ran"), dialog.dismiss()))
    page.on("request", lambda r: request(r.url))
    return page


@contextmanager
def watched(browser: Browser, site: str) -> Iterator[Open]:
    """Opens pages of a site, each in a context of its own; afterwards nothing has gone wrong."""
    faults: list[str] = []
    pages = []

    def open_one(name: str, base: str = site, **context: Any) -> Page:
        pages.append(new_page(browser, faults, **context))
        pages[-1].goto(f"{base}/{name}")
        drawn(pages[-1])
        return pages[-1]

    yield open_one
    for page in pages:
        page.context.close()
    assert faults == []


def drawn(page: Page) -> None:
    """Waits until the page and, where it reads one, the whole index are there."""
    # A page that is on its way has no such element yet.
    text = "document.getElementById('status')?.textContent ?? 'Loading'"
    page.wait_for_function(f"() => !/Loading|read so far/.test({text})")
    page.wait_for_function("() => document.querySelector('footer')")


def shown(page: Page) -> list[int]:
    """Ids of the pairs of the cards."""
    links = page.locator(".card").evaluate_all("nodes => nodes.map(n => n.getAttribute('href'))")
    return [int(re.search(r"[?&]i=(\d+)", link).group(1)) for link in links]  # type: ignore[union-attr]


def choose(page: Page, values: Mapping[str, str]) -> None:
    """Sets filters of the gallery, and no others."""
    page.get_by_role("button", name="Reset").click()
    for name, value in values.items():
        control = page.locator(f"#filters [name={name}]")
        if value == "on":
            control.check()
        elif name in ("amin", "amax"):
            control.fill(value)
            control.press("Tab")
        else:
            control.select_option(value)


def check_accessible(page: Page) -> None:
    """axe finds nothing on the page, in light and dark."""
    page.wait_for_timeout(100)  # for the overlays of the cards
    # Preloading would fetch the style sheets anew, which the pages' policy refuses.
    options = {"resultTypes": ["violations"], "preload": False}
    for scheme, some in SCHEMES.items():
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        results = Axe().run(page, options={**options, **some}).response
        assert "color-contrast" in [rule["id"] for rule in results["passes"]]
        found = [(v["id"], [node["html"][:200] for node in v["nodes"]]) for v in results["violations"]]
        assert not found, (scheme, page.url, found)
