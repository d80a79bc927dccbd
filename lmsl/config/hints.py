"""Checking values against the type hints of a dataclass, for settings that come from outside.

Python does not look at the hints, so a misspelt choice in a file (``schedule: cosin``) would go
through the whole run as if it were another one.
"""

from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def converted(value: Any, hint: Any) -> Any:
    """The value in the form the hint asks for, where nothing but the form differs.

    Lists and single values become tuples, text becomes a path and a path text. YAML 1.1 reads
    2e-4 as text and a bare yes as true; both are taken back. What does not fit is returned as it
    is, for `fits` to refuse.
    """
    kinds = _kinds(hint)
    if get_origin(hint) is tuple:
        values = value if isinstance(value, list | tuple) else (value,)
        return tuple(converted(each, get_args(hint)[0]) for each in values)
    if isinstance(value, str) and Path in kinds:
        return Path(value)
    if isinstance(value, Path) and Path not in kinds and str in kinds:
        return str(value)
    if isinstance(value, str) and float in kinds:
        try:
            return float(value)
        except ValueError:
            return value
    if isinstance(value, bool) and {"yes", "no"} <= set(get_args(hint)):
        return "yes" if value else "no"
    if isinstance(value, int) and not isinstance(value, bool) and float in kinds:
        return float(value)
    return value


def fits(value: Any, hint: Any) -> bool:
    """Whether the value is of the hinted type; a bool is no number."""
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(fits(each, get_args(hint)[0]) for each in value)
    for kind in _kinds(hint):
        if get_origin(kind) is Literal:
            fitting = isinstance(value, str) and value in get_args(kind)
        else:
            number_wanted = kind is int or kind is float
            fitting = isinstance(value, kind) and not (number_wanted and isinstance(value, bool))
        if fitting:
            return True
    return False


def described(hint: Any) -> str:
    """The hint in words: ``a whole number``, ``one of cosine, linear, constant``."""
    if get_origin(hint) is tuple:
        return f"one or more of: {described(get_args(hint)[0])}"
    return " or ".join(_described(kind) for kind in _kinds(hint))


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    return "nothing" if kind is NoneType else _WORDS.get(kind, "a path")


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
