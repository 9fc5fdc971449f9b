"""What the browser runs: HTML from one template, the scripts and the style.

The scripts are written as modules (browser/*.js), which linters and unit tests read. Browsers load no modules
from file://, so the site gets each as a plain script: without its imports, which a page's HTML loads before
it instead, and without the word `export`. All top-level names of the scripts of a page are one scope then.
"""

import re
from collections.abc import Iterator
from importlib.resources import files
from string import Template

from extremal.jobs.report.pages.page import Page, Part

# By name: title, and the module that draws it.
HTML = {
    "class.html": ("Class", "class"),
    "classes.html": ("Classes", "classes"),
    "gallery.html": ("Gallery", "gallery"),
    "index.html": ("Report", "overview"),
    "pair.html": ("Pair", "pair"),
}
AT_ONCE = "site"  # sets the theme before anything is drawn; the others wait for the page

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)


class BrowserFiles(Page):
    """The same files in every site."""

    pattern = r"[a-z]+\.(?:html|js|css)"

    def paths(self, part: Part) -> Iterator[str]:
        yield from sorted(browser_files())

    def content(self, path: str, *groups: str | None) -> bytes:
        return browser_files()[path]


def browser_files() -> dict[str, bytes]:
    """The content of every file by its name."""
    sources = {
        file.name: file.read_text(encoding="utf-8")
        for file in (files("extremal.jobs.report") / "browser").iterdir()
        if file.is_file()
    }
    template = Template(sources.pop("page.html"))
    modules = {name.removesuffix(".js"): text for name, text in sources.items() if name.endswith(".js")}
    pages = {
        name: template.substitute(title=title, scripts=_tags(modules, module))
        for name, (title, module) in HTML.items()
    }
    styles = {name: text for name, text in sources.items() if name.endswith(".css")}
    scripts = {f"{name}.js": _plain(text) for name, text in modules.items()}
    return {name: text.encode() for name, text in {**styles, **scripts, **pages}.items()}


def _plain(text: str) -> str:
    """A module as a script that needs the scripts of what it imports before it."""
    return '"use strict";\n' + _EXPORT.sub("", _IMPORT.sub("", text))


def _tags(modules: dict[str, str], module: str) -> str:
    at_once = _loaded(modules, AT_ONCE)
    order = list(dict.fromkeys([*at_once, *_loaded(modules, module)]))
    return "\n".join(
        f'<script src="{name}.js"{"" if name in at_once else " defer"}></script>' for name in order
    )


def _loaded(modules: dict[str, str], module: str) -> list[str]:
    """A module after all that it imports, each once."""
    imported = [name for other in _IMPORT.findall(modules[module]) for name in _loaded(modules, other)]
    return list(dict.fromkeys([*imported, module]))
