"""From words on the command line to the dataclass of a command's flags.

tyro makes the parser, only of the command that was asked for. Help is ours
(``lmsl.cli.help``), and so is the form of a refusal: tyro answers with a box of many lines, of
which one is kept.
"""

import io
import re
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr
from dataclasses import MISSING, fields
from difflib import get_close_matches
from itertools import chain, dropwhile, takewhile, zip_longest
from typing import Annotated, Any, get_type_hints

import tyro

from lmsl.cli.help import dashed, help_text, value_shape
from lmsl.cli.topics import HELP
from lmsl.errors import InputError

_CLOSE = 0.6
_HELP = ("-h", "--help", "--help-all")
_FRAME = "╭╮╰╯│─ "
# Where standard output has no such signs the title is a line of its own above a rule.
_RULE = re.compile("-*")
_UNREADABLE = re.compile(r"Error parsing --([\w-]+): .*? \[(.*?)\](?:\.| |$)")
_WRONG_CHOICE = re.compile(r"invalid choice (.*) for argument '(.*)'\. Expected one of \((.*)\)")
_NO_VALUE = re.compile(r"Missing value for argument '(.*)'")
_TOO_MUCH = re.compile(r"Unrecognized options: (.*)")


def parse(kind: Any, arguments: list[str], name: str, default: Any = None) -> Any:
    """The flags of a command; help ends the process.

    Args:
        default: where values not given come from, instead of the class.

    Raises:
        InputError: a flag that the command does not have, or a value that is none of it.
    """
    if asked := {*_HELP} & {*arguments}:
        print(help_text(kind, name, HELP[name], default, everything="--help-all" in asked))
        sys.exit(0)
    _check_flags(kind, arguments, name)
    annotated = Annotated[kind, tyro.conf.configure(tyro.conf.FlagCreatePairsOff)]
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            if default is None:
                return tyro.cli(annotated, args=arguments, prog=f"lmsl {name}")
            return tyro.cli(annotated, args=arguments, prog=f"lmsl {name}", default=default)
    except SystemExit as end:
        raise InputError(f"{name}: {_refusal(kind, told.getvalue())}") from end


def meant(word: str, known: Iterable[str], dashes: str = "") -> str:
    """The end of a refusal: the known word that looks most like this one, if any does."""
    close = get_close_matches(word, sorted(known), n=1, cutoff=_CLOSE)
    return f"; did you mean {dashes}{close[0]}?" if close else ""


def _check_flags(kind: type, arguments: list[str], name: str) -> None:
    hints = get_type_hints(kind)
    names = {*(flag.lstrip("-") for flag in _HELP), *(dashed(each.name) for each in fields(kind))}
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue="--"):
        # A flag's value never begins so: tyro takes it for the next flag.
        flag, _, _ = argument.partition("=")
        given = dashed(flag.removeprefix("--"))
        if flag.startswith("--") and given and given.removeprefix("no-") not in names:
            hint = _elsewhere(given) or meant(given, names, "--")
            raise InputError(f"{name}: no flag {flag}{hint or f'; see lmsl {name} --help-all'}")
        takes = hints.get(given.replace("-", "_"), bool) if flag.startswith("--") else bool
        if takes is not bool and "=" not in argument and following.startswith("--"):
            raise InputError(f"{name}: {flag}: expected a value, got none")


def _elsewhere(flag: str) -> str:
    """The end of a refusal of a flag that other commands have."""
    commands = [
        f"lmsl {command}"
        for command, about in HELP.items()
        if flag in map(dashed, chain.from_iterable(about.groups.values()))
    ]
    *most, last = commands or [""]
    listed = f"{', '.join(most)} and {last}" if most else last
    return f"; {listed} {'have' if most else 'has'} it" if last else ""


def _refusal(kind: type, box: str) -> str:
    """What a box of tyro says, in one line."""
    title, *lines = [line.strip(_FRAME) for line in box.splitlines()] or [""]
    begun = dropwhile(_RULE.fullmatch, lines)
    text = " ".join(takewhile(lambda line: not _RULE.fullmatch(line), begun))
    if text.startswith("Missing from "):
        needed = (each.name.upper() for each in fields(kind) if each.default is MISSING)
        return f"expected {' and '.join(needed)}; see --help"
    if found := _UNREADABLE.match(text):
        name, got = found.groups()
        hint = get_type_hints(kind, include_extras=True)[name.replace("-", "_")]
        return f"--{name}: expected {value_shape(hint).replace('|', ' or ')}, got {got}"
    if found := _WRONG_CHOICE.match(text):
        got, flag, choices = found.groups()
        return f"{flag}: expected {choices.replace(chr(39), '').rstrip(',')}, got {got}"
    if found := _NO_VALUE.match(text):
        return f"{found[1]}: expected a value, got none"
    if found := _TOO_MUCH.match(text):
        return f"expected no further words but flags, got {found[1]}"
    return text or title or "cannot be read"
