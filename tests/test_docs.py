"""Documents agree with what they document: tests, commands, settings, columns, ids. The site asks nobody."""

import dataclasses
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import corpus
import pytest
import typer

from extremal.jobs.cli.app import app
from extremal.jobs.cli.explained import explanations
from extremal.pipeline.config import sections

ROOT = Path(__file__).resolve().parents[1]


def hook(name: str) -> ModuleType:
    """A hook of the site, docs/NAME.py; docs/ is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / f"docs/{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return hook("generate")


def test_every_fault_is_a_test() -> None:
    rows = [line for line in (ROOT / "docs/faults.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 15
    for row in rows:
        found = re.search(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert found, row
        file, name = found.groups()
        (path,) = (ROOT / "tests").rglob(file)
        assert f"def {name}(" in path.read_text(), row


def test_every_command_and_option_is_in_the_reference(generate: ModuleType) -> None:
    page = generate.command_line()
    group: Any = typer.main.get_command(app)
    assert {"run", "status", "score"} <= set(group.commands)
    for name, command in group.commands.items():
        part = page.partition(f"\n## extremal {name}\n")[2].partition("\n## ")[0]
        assert command.help.split(".")[0] in part.replace("\\", ""), name
        for param in command.params:
            if param.name != "help":
                shown = param.opts[0] if param.param_type_name == "option" else param.metavar or param.name
                assert f"| `{shown}`" in part, (name, param.name)


def test_every_setting_is_in_the_reference_and_explained(generate: ModuleType) -> None:
    page = generate.configuration()
    for path, section in sections():
        part = page.partition(f"\n## [{path}]\n" if path else "\n## Top level\n")[2].partition("\n## ")[0]
        told = explanations(section)
        for field in dataclasses.fields(section):
            if dataclasses.is_dataclass(generate.get_type_hints(section)[field.name]):
                continue
            assert f"| `{field.name}` |" in part, (path, field.name)
            assert told.get(field.name), f"the docstring of {section.__name__} says nothing of {field.name}"


def test_the_table_of_methods_is_that_of_the_cards(generate: ModuleType) -> None:
    assert generate.methods_table() in (ROOT / "docs/methods.md").read_text()


def test_settings_have_the_values_of_their_presets(generate: ModuleType) -> None:
    page = generate.configuration()
    steps = [line for line in page.splitlines() if line.startswith("| `steps` |")]
    assert [line.split(" | ")[2:-1] for line in steps] == [["`100`", "`800`", "`1600`"], ["`300`"], ["`256`"]]


def test_explanations_end_where_the_next_begins() -> None:
    @dataclasses.dataclass
    class Two:
        """Head.

        Attributes:
            a, b: of both: first
                and second line. c: its own.
            d: last.
        """

        a: int
        b: int
        c: int
        d: int

    both = "of both: first and second line"
    assert explanations(Two) == {"a": both, "b": both, "c": "its own.", "d": "last."}


def test_every_column_is_in_the_reference(generate: ModuleType) -> None:
    page = generate.schemas().replace("\\", "")
    for name, schema in generate.tables():
        part = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        for field in schema:
            assert f"\n| `{field.name}` | `{field.type}` |" in part, field
            assert field.metadata[b"doc"].decode() in part, field


def test_every_bad_input_is_on_its_page(generate: ModuleType) -> None:
    rows = [line.split(" | ") for line in generate.bad_input().splitlines() if line.startswith("| ")]
    shown = {name.removeprefix("| "): (outcome, seen.removesuffix(" |")) for name, outcome, seen in rows}
    for case in (case for table in corpus.ALL.values() for case in table):
        assert shown.pop(case.name) == (case.outcome.value, f"`{case.shown}`" if case.shown else case.note)
    assert shown.keys() == {"input", "---"}


def test_the_architecture_names_what_is_there() -> None:
    """Every path of the page exists, and every function beside one is in that file."""
    page = (ROOT / "docs/architecture.md").read_text()
    paths = set(re.findall(r"`((?:jobs|pipeline|workers|storage|tests|docs)/[\w/.]*)`", page))
    assert len(paths) > 50
    new = {"workers/saliency/input_x_gradient.py"}
    assert [path for path in sorted(paths - new) if not (ROOT / path).exists()] == []
    rows = [line for line in page.partition("## From equation")[2].splitlines() if line.startswith("| ")]
    checked = 0
    for names, path in re.findall(r"((?:`\w+`(?:, )?)+) in `([\w/.]+)`", "\n".join(rows)):
        text = (ROOT / path).read_text()
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(def|class) {name}\b", text, re.MULTILINE), (name, path)
            checked += 1
    assert checked > 30


def _shell_commands(text: str) -> Iterator[list[str]]:
    """Arguments of every `extremal ...` in the shell blocks of a page."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "extremal" in words[:2]:
                yield words[words.index("extremal") + 1 :]


def test_every_command_shown_is_one() -> None:
    """Its options exist and have values; what they mean to a run is tested elsewhere."""
    commands: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    shown = 0
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for name, *arguments in _shell_commands(page.read_text()):
            with commands[name].make_context(f"{page.name}: extremal {name}", arguments):
                shown += 1
    assert shown > 30


def test_formulas_become_mathml() -> None:
    page = hook("formulas").on_page_content(
        '<p>$<code>a &lt; b</code>$</p><pre class="math"><code>x^2</code></pre>'
    )
    assert page.count("<math ") == 2
    assert 'display="block"' in page
    assert "<mo>&#x0003C;</mo>" in page
    assert "<msup>" in page
    assert "$" not in page


# E has other uses (error codes of ruff), but for these two.
_ID = re.compile(r"\b(?:[CG]\d{1,2}|(?:EP|CH|CMP|NG|MET)-\d+|E[78])\b")


def test_every_id_of_the_code_is_in_the_register() -> None:
    _, _, register = (ROOT / "docs/mathematics.md").read_text().partition("## Ids used in the code")
    cells = [line.split("|")[1] for line in register.splitlines() if line.startswith("| ")]
    known = {one for cell in cells for one in _ID.findall(cell)}
    for first, last in re.findall(r"\| ((?:EP|CH)-\d+) to ((?:EP|CH)-\d+) \|", register):
        (kind, a), (_, b) = first.split("-"), last.split("-")
        known |= {f"{kind}-{n}" for n in range(int(a), int(b) + 1)}
    used = {
        one: path
        for folder in ("jobs", "pipeline", "workers", "storage", "docs")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md") and path.name != "mathematics.md"
        for one in _ID.findall(path.read_text())
    }
    assert len(used) > 20
    assert {one: path for one, path in used.items() if one not in known} == {}


class _Requests(HTMLParser):
    """Every address that a browser fetches by itself, and every link within the site."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed"):
            self.fetched += [values.get("src") or "", *(values.get("srcset") or "").split(",")]
        if tag == "link":
            self.fetched.append(values.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. Strict: a link or an anchor that leads nowhere is an error."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def _texts(site: Path, suffix: str) -> Iterator[tuple[Path, str]]:
    for path in site.rglob(f"*{suffix}"):
        yield path, path.read_text()


def test_the_site_asks_nobody(site: Path) -> None:
    seen = 0
    for path, text in _texts(site, ".html"):
        page = _Requests()
        page.feed(text)
        seen += len(page.fetched)
        assert not [url for url in page.fetched if re.match(r"\s*(https?:)?//", url)], path
    assert seen > 50
    for path, text in _texts(site, ".css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", text), path


def test_formulas_of_the_site_are_drawn(site: Path) -> None:
    page = (site / "mathematics.html").read_text()
    assert page.count("<math ") > 60
    assert "$<code>" not in page
    assert '<pre class="math">' not in page
