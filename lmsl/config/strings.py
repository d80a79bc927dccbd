"""Unmask strings as they are written: the letters, the aliases and the words for many strings.

Which layers of a model a string means is the business of ``lmsl.mask.bits``, which knows how many
there are. Everything that can be said of a string without a model is said here, so that a mistyped
one is refused before a model is loaded.
"""

from collections.abc import Iterable

import numpy as np

from lmsl.errors import InputError

ALIASES = ("causal", "full", "middle")
GRID = "grid"
RANDOM = "random:"
DEFAULT_GROUPS = 4


def check_string(string: object) -> None:
    """Refuse what is neither bits nor an alias; InputError."""
    if not isinstance(string, str):
        raise InputError(
            f"unmask: expected a string of bits, got {string!r} ({type(string).__name__}); "
            'quote it, YAML reads 0011 as a number: unmask: "0011"'
        )
    if not string:
        raise InputError("unmask: expected bits such as '0011', got an empty string")
    if string not in ALIASES and set(string) - {"0", "1"}:
        raise InputError(
            f"unmask: expected only 0 and 1, or one of {', '.join(ALIASES)} (and {GRID} or "
            f"{RANDOM}N for many), got {string!r}"
        )


def check_asked(string: str, groups: int) -> None:
    """The same where ``grid`` and ``random:N`` may stand for many strings of ``groups`` bits."""
    if string.startswith(RANDOM):
        _count_and_seed(string, groups)
    elif string != GRID:
        check_string(string)


def stands_for_many(string: object) -> bool:
    """Whether a word stands for strings of as many bits as there are groups."""
    return isinstance(string, str) and (string == GRID or string.startswith(RANDOM))


def all_causal(string: str) -> bool:
    """Whether no layer sees to the right."""
    return string == "causal" or set(string) == {"0"}


def expanded(strings: Iterable[str], groups: int) -> tuple[str, ...]:
    """The strings as listed, each once, ``grid`` replaced by all ``2 ** groups`` in binary order.

    ``random:N`` or ``random:N:SEED`` is N different strings of ``groups`` bits, drawn by a seed
    (0 by default): the first N of one endless sequence, so that a larger N only adds to them.
    """
    chosen: dict[str, None] = {}
    for string in strings:
        if not stands_for_many(string):
            check_string(string)
            chosen[string] = None
        elif string == GRID:
            chosen.update({f"{value:0{groups}b}": None for value in range(2**groups)})
        else:
            chosen.update(dict.fromkeys(_drawn(string, groups)))
    if not chosen:
        raise InputError("unmask: expected at least one string, got none")
    return tuple(chosen)


def _drawn(request: str, groups: int) -> list[str]:
    """The strings that ``random:N`` or ``random:N:SEED`` asks for."""
    count, seed = _count_and_seed(request, groups)
    generator = np.random.default_rng([seed, groups])
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(map(str, generator.integers(0, 2, groups)))] = None
    return list(found)


def _count_and_seed(request: str, groups: int) -> tuple[int, int]:
    count, _, seed = request.removeprefix(RANDOM).partition(":")
    if not (count.isdecimal() and (seed or "0").isdecimal() and 1 <= int(count) <= 2**groups):
        raise InputError(
            f"unmask: expected {RANDOM}N or {RANDOM}N:SEED with N from 1 to {2**groups} (all "
            f"strings of {groups} groups), got {request!r}"
        )
    return int(count), int(seed or "0")
