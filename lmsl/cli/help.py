"""What ``--help`` prints: examples, the flags most asked for, and with ``--help-all`` all of them.

The text of a flag is the docstring of its field. tyro reads the values and prints no help: in one
box of all flags in the order of their classes nobody finds the one that is looked for.
"""

import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import docstring_parser
import tyro

Groups = Mapping[str, tuple[str, ...]]

_COLUMN = 26
"""Where the texts begin."""
_NARROW, _WIDE = 60, 99
_TYPES = {int: "INT", float: "NUMBER", str: "TEXT", Path: "PATH"}


@dataclass(frozen=True, kw_only=True)
class Help:
    """What is said of a command beside the texts of its flags."""

    examples: Mapping[str, str]
    """Command lines, and what each does."""
    groups: Groups
    """Titles, and the flags under them by the names of their fields."""
    first: tuple[str, ...] = ()
    """The flags that ``--help`` shows; all where none is named."""


def help_text(kind: type, name: str, about: Help, values: Any, *, everything: bool) -> str:
    """The help of a command.

    Args:
        kind: the dataclass of its flags.
        values: defaults, by the same names; those of the class where there is no attribute.
        everything: as ``--help-all`` asks for.
    """
    width = min(_WIDE, max(_NARROW, shutil.get_terminal_size().columns))
    texts, hints = field_texts(kind), get_type_hints(kind, include_extras=True)
    known = {field.name: field for field in fields(kind)}
    positional = [each for each in known if tyro.conf.Positional in _extras(hints[each])]
    usage = " ".join(_asked(known[each]) for each in positional)
    parts = [
        f"usage: lmsl {name} {usage + ' ' if usage else ''}[FLAGS]",
        textwrap.fill(" ".join((kind.__doc__ or "").split()), width),
        "\n".join(["examples:", *_examples(about.examples, width)]),
    ]

    def section(title: str, names: Iterable[str]) -> str:
        entries = [
            _entry(each, hints[each], texts.get(each, ""), _default(known[each], values), width)
            for each in names
        ]
        return "\n".join([f"{title}:", *entries])

    if positional:
        parts.append(section("what it is given", positional))
    if about.first and not everything:
        title = f"flags most asked for; lmsl {name} --help-all shows all {len(known)}"
        parts.append(section(title, about.first))
    else:
        parts += [section(title, names) for title, names in about.groups.items()]
    return "\n\n".join(parts)


def field_texts(kind: type) -> dict[str, str]:
    """The docstring of every field of a dataclass, those of its bases included, in one line."""
    return {
        text.arg_name: " ".join(text.description.split())
        for base in reversed(kind.__mro__[:-1])
        for text in docstring_parser.parse_from_object(base).params
        if text.description
    }


def _extras(hint: Any) -> tuple[Any, ...]:
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def _asked(field: "Field[Any]") -> str:
    """A positional argument in the line of usage."""
    name = field.name.upper()
    if get_origin(field.type) is tuple or "tuple" in str(field.type):
        name += " ..."
    return name if field.default is MISSING else f"[{name}]"


def _examples(lines: Mapping[str, str], width: int) -> Iterator[str]:
    column = max(map(len, lines)) + 2
    for line, text in lines.items():
        if 2 + column + len(text) <= width:
            yield f"  {line:<{column}}{text}"
        else:
            indent = " " * 6
            below = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)
            yield from (f"  {line}", *below)


def _entry(name: str, hint: Any, text: str, default: str, width: int) -> str:
    shape = value_shape(hint)
    flag = name.upper() if tyro.conf.Positional in _extras(hint) else f"--{dashed(name)} {shape}"
    text = f"{text} (default: {default})" if default else text
    indent = " " * _COLUMN
    lines = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)
    head = f"  {flag.rstrip()}"
    if len(head) + 2 <= _COLUMN and lines:
        return "\n".join([head.ljust(_COLUMN) + lines[0].lstrip(), *lines[1:]])
    return "\n".join([head, *lines])


def value_shape(hint: Any) -> str:
    """How a value of a type is written, as ``INT`` or ``nf4|none``; nothing for a switch."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return value_shape(inner[0])
    if hint is bool:
        return ""
    if origin is Literal:
        return "|".join(map(str, inner))
    if origin is tuple:
        return f"{value_shape(inner[0])} ..."
    if inner:
        return "|".join(value_shape(each) for each in inner if each is not type(None))
    return _TYPES.get(hint, str(hint))


def _default(field: "Field[Any]", values: Any) -> str:
    """The value that a flag has if it is not given; nothing where its text says what happens."""
    value = getattr(values, field.name, field.default)
    if value is MISSING or value is None or value is False or value == ():
        return ""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "yes" if value is True else str(value)


def dashed(name: str) -> str:
    """A field as a flag."""
    return name.replace("_", "-")
