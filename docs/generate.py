"""Pages made when the site is built: home from the README, bad input from its tests, the rest from the code.

A hook of mkdocs (`hooks:` in mkdocs.yml). Nothing is written to disk, so the pages cannot grow old.
"""

import dataclasses
import inspect
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import extremal.jobs.figures
import extremal.storage
import extremal.workers
import extremal.workers.saliency
from extremal.jobs.cli.app import app
from extremal.jobs.cli.explained import explanations
from extremal.pipeline.config import sections
from extremal.storage.kinds import CHANNEL_OF_LAYER, FAILURES, INVERSION, KINDS, PAIR, POINTS
from extremal.storage.manifest import SCHEMA_VERSION
from extremal.workers.config import RunConfig
from extremal.workers.extremal.settings import spatial_preset

ROOT = Path(__file__).resolve().parents[1]
_TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
PRESETS = ("fast", "torchray", "paper")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of docs/."""
    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    return files


def home() -> str:
    """The README up to its two commands, with links as they are from docs/."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.partition("\n## What it does")[0].replace("](docs/", "](")


# --- command line ---


def command_line() -> str:
    """Every command with its usage, options, defaults and examples."""
    group: Any = typer.main.get_command(app)
    parts = [
        "# Command line",
        "Made from the code of the commands; `extremal COMMAND --help` says the same.",
        _options(group),
        *(_command(name, group.commands[name]) for name in group.commands),
    ]
    return "\n\n".join(parts) + "\n"


def _command(name: str, command: Any) -> str:
    with command.make_context(f"extremal {name}", [], resilient_parsing=True) as context:
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    return "\n\n".join(
        [
            f"## extremal {name}",
            f"```text\n{usage}\n```",
            _plain(inspect.cleandoc(command.help or "")),
            _options(command),
            inspect.cleandoc(command.epilog or ""),
        ]
    )


def _options(command: Any) -> str:
    kinds = get_type_hints(command.callback)
    rows = [
        [_names(param), _type(kinds[param.name]), _default(param), _plain(param.help or "")]
        for param in command.params
        if param.name in kinds
    ]
    return _table(["option", "type", "default", ""], rows)


def _names(param: Any) -> str:
    if param.param_type_name == "argument":
        return f"`{param.metavar or param.name}`"
    return ", ".join(f"`{name}`" for name in [*param.opts, *param.secondary_opts])


def _default(param: Any) -> str:
    if param.required:
        return "required"
    if getattr(param, "is_flag", False):
        return f"`{param.opts[0]}`" if param.default else ""
    return "" if param.default is None else f"`{param.default}`"


# --- configuration ---


def configuration() -> str:
    """Every key of a run's configuration, by the section of the TOML file that holds it."""
    parts = [
        "# Configuration",
        "The keys of a TOML file for `extremal run --config FILE`, made from the code. A preset "
        '(`preset = "fast"`, the default, `torchray` or `paper`) gives the numbers of `[spatial]`; keys of '
        "the file win over it, flags over the file. A run's whole configuration stands in its `run.json`.",
        *(_section(*section) for section in sections()),
    ]
    return "\n\n".join(parts) + "\n"


def _section(path: str, of: type) -> str:
    head = inspect.getdoc(of) or ""
    rows = [
        [f"`{field.name}`", _type(kind), *_values(path, field), _plain(explanations(of).get(field.name, ""))]
        for field in dataclasses.fields(of)
        if not dataclasses.is_dataclass(kind := get_type_hints(of)[field.name])
    ]
    columns = PRESETS if _in_preset(path) else ("default",)
    return "\n\n".join(
        [
            f"## [{path}]" if path else "## Top level",
            _plain(head.partition("\nAttributes:")[0].strip()),
            _table(["key", "type", *columns, ""], rows),
        ]
    )


def _in_preset(path: str) -> bool:
    return path.split(".", maxsplit=1)[0] == "spatial"


def _values(path: str, field: dataclasses.Field[Any]) -> list[str]:
    if _in_preset(path):
        return [_value(getattr(_at(spatial_preset(preset), path), field.name)) for preset in PRESETS]
    if not path or path in ("dataset", "network"):
        missing = field.default is dataclasses.MISSING
        return ["required" if missing else _value(field.default)]
    first, _, rest = path.partition(".")
    default = RunConfig.__dataclass_fields__[first].default_factory()  # type: ignore[misc]
    return [_value(getattr(_at(default, f"{first}.{rest}"), field.name))]


def _at(section: Any, path: str) -> Any:
    for name in [part for part in path.split(".")[1:] if part]:
        section = getattr(section, name)
    return section


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(map(repr, value))}]`".replace("'", '"')
    return f"`{value!r}`".replace("'", '"')


def _type(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(f'`"{value}"`' for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_type(one) for one in arguments if one is not NoneType)
    if origin in (tuple, list):
        return f"list of {_type(arguments[0])}"
    return _TYPES[kind]


# --- methods ---


def methods_table() -> str:
    """The cards of the saliency methods; docs/methods.md holds it as it is here."""
    rows = [
        [f"`{card.name}`", card.title, card.source, _layers(card), _smoothing(card)]
        for card in extremal.workers.saliency.METHODS.values()
    ]
    return _table(["`--method`", "title", "source", "reads", "smoothing before pointing"], rows)


def _layers(card: extremal.workers.saliency.Card) -> str:
    if card.reads is not None:
        return f"`[{card.reads}]`"
    return ", ".join(f"`{role}`" for role in card.layers) or "input"


def _smoothing(card: extremal.workers.saliency.Card) -> str:
    smooth = card.smoothing
    if not smooth.fraction:
        return "none"
    edges = ", edge pixels replicated" if smooth.border == "replicate" else ""
    return f"Gaussian, {smooth.fraction} of the {smooth.side} side{edges}"


# --- schemas ---


def schemas() -> str:
    """Every column of every table of a run."""
    parts = [
        "# Tables of a run",
        f"Schema {SCHEMA_VERSION}, made from `storage/kinds/`. `pair` joins the tables.",
        _plain(inspect.cleandoc(extremal.storage.kinds.__doc__ or "")),
    ]
    for name, schema in tables():
        rows = [
            [f"`{f.name}`", f"`{f.type}`", "yes" if f.nullable else "", _plain(f.metadata[b"doc"].decode())]
            for f in schema
        ]
        parts += [f"## {name}", _table(["column", "type", "null", ""], rows)]
    return "\n\n".join(parts) + "\n"


def tables() -> Iterator[tuple[str, pa.Schema]]:
    """(heading, columns) of every table of a run, by the unit of its plan."""
    yield "plan.parquet", PAIR.plan
    for kind in (*KINDS.values(), POINTS, FAILURES):
        yield f"{kind.name}/*.parquet", kind.schema(PAIR)
    yield "plan.parquet of channels", CHANNEL_OF_LAYER.plan
    yield "inversion/*.parquet of channels", INVERSION.schema(CHANNEL_OF_LAYER)
    yield "failures/*.parquet of channels", FAILURES.schema(CHANNEL_OF_LAYER)


# --- Python ---


def python() -> str:
    """Directives of mkdocstrings for every public name."""
    public = {
        "extremal.workers": extremal.workers.__all__,
        "extremal.workers.saliency": extremal.workers.saliency.__all__,
        "extremal.jobs.figures": extremal.jobs.figures.__all__,
        "extremal.pipeline.stored_masks": ["draw_masks"],
        "extremal.storage": extremal.storage.__all__,
    }
    parts = ["# Python", "What may be imported; the rest may change between versions."]
    for module, names in public.items():
        parts += [f"## {module}", *(f"::: {module}.{name}" for name in names)]
    return "\n\n".join(parts) + "\n"


# --- bad input ---

BAD_INPUT = """\
# Bad input

What comes of files and settings that are broken, odd or hostile. This page is made from `tests/corpus.py`,
which makes every input listed here; `tests/test_corpus.py` runs it. The outcomes:

- `result`: no mistake; the image has its row like any other.
- `failure: decode`, `failure: target`: one row in `failures` with the image's path, that stage, and a message
  with the words shown here. The other images are computed as if this one were not there.
- `left out`: there is no pair for it, as it is no image of the dataset.
- `refused`: one message with the words shown here, which names the file or the setting; exit code 2, nothing
  computed and no run directory made."""


def bad_input() -> str:
    """Every case of the tests' corpus: input, outcome, what the user sees."""
    corpus = runpy.run_path(str(ROOT / "tests/corpus.py"))
    parts = [BAD_INPUT]
    for title, cases in corpus["ALL"].items():
        rows = [[c.name, c.outcome.value, f"`{c.shown}`" if c.shown else c.note] for c in cases]
        parts += [f"## {title}", _table(["input", "outcome", "what the user sees"], rows)]
    return "\n\n".join(parts) + "\n"


# --- Markdown ---


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text of a docstring or a help as Markdown: what is not in backticks means itself."""
    parts = text.split("`")
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([*|\[\]<])", r"\\\1", parts[i])
    return "`".join(parts)


PAGES = {
    "index.md": home,
    "bad-input.md": bad_input,
    "reference/command-line.md": command_line,
    "reference/configuration.md": configuration,
    "reference/schemas.md": schemas,
    "reference/python.md": python,
}
