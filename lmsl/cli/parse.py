"""From words on the command line to the dataclass of a command's flags.

tyro makes the parser, only of the command that was asked for. It answers an unknown flag with a
box of many lines, so those are looked for before.
"""

from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import Annotated, Any

import tyro

from lmsl.errors import InputError

_CLOSE = 0.6


def parse(kind: Any, arguments: list[str], name: str, default: Any = None) -> Any:
    """The flags of a command; help and refusals of values end the process, as tyro does it.

    Raises:
        InputError: a flag that the command does not have.
    """
    _check_flags(kind, arguments, name)
    annotated = Annotated[kind, tyro.conf.configure(tyro.conf.FlagCreatePairsOff)]
    if default is None:
        return tyro.cli(annotated, args=arguments, prog=f"lmsl {name}")
    return tyro.cli(annotated, args=arguments, prog=f"lmsl {name}", default=default)


def meant(word: str, known: Iterable[str], dashes: str = "") -> str:
    """The end of a refusal: the known word that looks most like this one, if any does."""
    close = get_close_matches(word, sorted(known), n=1, cutoff=_CLOSE)
    return f"; did you mean {dashes}{close[0]}?" if close else ""


def _check_flags(kind: type, arguments: list[str], name: str) -> None:
    names = {"help", *(field.name.replace("_", "-") for field in fields(kind))}
    for argument in arguments:
        # A flag's value never begins so: tyro takes it for the next flag.
        flag, _, _ = argument.partition("=")
        given = flag.removeprefix("--").replace("_", "-")
        if flag.startswith("--") and given and given.removeprefix("no-") not in names:
            hint = meant(given, names, "--") or f"; see lmsl {name} --help"
            raise InputError(f"{name}: no flag {flag}{hint}")
