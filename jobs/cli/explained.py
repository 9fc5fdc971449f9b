"""What docstrings say of the fields of dataclasses: the one source of help texts and of the reference."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from extremal.workers.config import RunConfig

_ABSENT = re.compile(r"; (?:None|empty) = (.+)$")


def explanations(of: type) -> dict[str, str]:
    """What the docstring of a dataclass says of each of its fields.

    An entry is `name: text`, or `name, name: text`; a further one may follow in the same line.
    """
    text = (inspect.getdoc(of) or "").partition("\nAttributes:")[2].partition("\nRaises:")[0]
    name = "|".join(field.name for field in fields(of))
    starts = list(re.finditer(rf"(?:^ +|\. )((?:{name})(?:, (?:{name}))*): ", text, re.MULTILINE))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return {
        field: " ".join(text[start.end() : end].split())
        for start, end in zip(starts, ends, strict=False)
        for field in start[1].split(", ")
    }


def help_text(explanation: str, default: str | None = None) -> str:
    """The first sentence of an explanation as the help of an option.

    Args:
        explanation: `text; None = what that means.`; literal values at its beginning in backticks.
        default: what to show as one; None = what the explanation says of None or of an empty list.
    """
    sentence = re.split(r"\.(?= |$)", explanation)[0]
    absent = _ABSENT.search(sentence)
    if default is None and absent:
        default = absent[1]
    sentence = _ABSENT.sub("", sentence)
    text = f"{sentence[:1].upper()}{sentence[1:]}.".replace("`", "")
    return text if default is None else f"{text} [default: {default}]"


@dataclass(frozen=True)
class Setting:
    """A key of a run's TOML file as an option gives it.

    Attributes:
        flag_type: of the option; text for a list, whose items commas separate.
        item_type: of a list's items.
        default: as a help text shows it; None = the explanation says it.
        explanation: what its dataclass says.
    """

    flag_type: type
    item_type: type | None
    default: str | None
    explanation: str


def find_setting(path: tuple[str, ...]) -> Setting:
    """The setting at a path in a run's TOML file, `("spatial", "areas")`.

    Raises:
        KeyError: there is none.
    """
    section: type = RunConfig
    for name in path[:-1]:
        section = get_type_hints(section)[name]
    name = path[-1]
    types = _option_types(get_type_hints(section)[name])
    (default,) = (field.default for field in fields(section) if field.name == name)
    return Setting(*types, _shown(default), explanations(section)[name])


def _option_types(kind: Any) -> tuple[type, type | None]:
    """The type of an option for a setting, and that of its items if it is a list."""
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (option for option in get_args(kind) if option is not NoneType)
    if get_origin(kind) is tuple:
        return str, get_args(kind)[0]
    # The configuration refuses other words, and names all.
    return (str if get_origin(kind) is Literal else kind), None


def _shown(default: object) -> str | None:
    if default is MISSING or default in (None, "", ()):
        return None
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def texts(of: type) -> Mapping[str, str]:
    """The explanations of a dataclass and of those that it extends."""
    bases = [base for base in reversed(of.__mro__) if hasattr(base, "__dataclass_fields__")]
    return {name: text for base in bases for name, text in explanations(base).items()}
