"""Commands whose options are dataclasses.

A parameter of a command whose type is a dataclass stands for the fields of that: each is an option. Its help
is what the docstring says of the field. `setting` makes a field an option for a key of a run's TOML file,
with the type, the default and the help of that.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from functools import wraps
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer

from extremal.jobs.cli.explained import find_setting, help_text, texts

F = TypeVar("F", bound=Callable[..., None])

Flag = Any
"""The type of a field that `setting` makes: that of the setting, or None where it is not given."""

_PATH, _DEFAULT, _METAVAR = "path", "default", "metavar"
_ABOUT = "_about_command"


def setting(*path: str, default: str | None = None, metavar: str | None = None) -> Any:
    """A field for a setting.

    Args:
        path: of the setting in a run's TOML file.
        default: what to show as one; None = that of its dataclass.
        metavar: what stands for a value; None = its type.
    """
    shown = {_PATH: path, _DEFAULT: default, _METAVAR: metavar}
    return dataclasses.field(default=None, metadata=shown)


def given_settings(options: object) -> dict[tuple[str, ...], Any]:
    """The values of the fields made by `setting`, by path; None = not given.

    Raises:
        ConfigError: text that is no list of numbers.
    """
    from extremal.jobs.options import numbers

    values: dict[tuple[str, ...], Any] = {}
    for field in dataclasses.fields(options):  # type: ignore[arg-type]  # the caller's is a dataclass
        if path := field.metadata.get(_PATH):
            value, item = getattr(options, field.name), find_setting(path).item_type
            values[path] = value if item is None else numbers(value, item, flag_name(field.name))
    return values


def flag_name(field: str) -> str:
    """The option of a field, as it is typed."""
    return f"--{field.replace('_', '-')}"


def command(**about: Any) -> Callable[[F], F]:
    """A decorator for commands, of which `about` are typer's words; `commands` are made of them."""

    def decorate(function: F) -> F:
        setattr(function, _ABOUT, about)
        return function

    return decorate


def add_command(app: typer.Typer, function: Callable[..., None]) -> None:
    """Register a command, with the fields of its dataclasses as parameters of its own."""
    kinds = get_type_hints(function, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type] = {}
    for parameter in inspect.signature(function).parameters.values():
        kind = kinds[parameter.name]
        if dataclasses.is_dataclass(kind):
            groups[parameter.name] = kind  # type: ignore[assignment]  # a class, as it is a type hint
            parameters += _parameters(groups[parameter.name])
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=kind))

    @wraps(function)
    def called(**values: Any) -> None:
        function(**_grouped(values, groups))

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command(**getattr(function, _ABOUT))(called)


def _grouped(values: Mapping[str, Any], groups: Mapping[str, type]) -> dict[str, Any]:
    rest = dict(values)
    made = {
        name: of(**{field.name: rest.pop(field.name) for field in dataclasses.fields(of)})
        for name, of in groups.items()
    }
    return made | rest


def _parameters(of: type) -> Iterator[inspect.Parameter]:
    """The fields of a dataclass as parameters of a command."""
    kinds, explained = get_type_hints(of, include_extras=True), texts(of)
    for field in dataclasses.fields(of):
        if path := field.metadata.get(_PATH):
            of_run = find_setting(path)
            text = help_text(of_run.explanation, field.metadata[_DEFAULT] or of_run.default)
            option = typer.Option(help=text, metavar=field.metadata[_METAVAR])
            annotation: Any = Annotated[of_run.flag_type | None, option]
        else:
            annotation = _with_help(kinds[field.name], explained.get(field.name, ""))
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
        )


def _with_help(kind: Any, explanation: str) -> Any:
    """The type of an option with its help, unless it has one."""
    plain, info = kind, typer.Option()
    if get_origin(kind) is Annotated:
        plain, info = get_args(kind)
    if info.help is None:
        info = copy(info)  # others may share it
        info.help = help_text(explanation)
    return Annotated[plain, info]
