"""Unmask strings: which layers of a decoder see to the right, written as a few bits.

One bit per layer group, the leftmost nearest the input, ``1`` = bidirectional. Groups are
contiguous and as equal as possible, larger ones first (26 layers in 4 groups: 7, 7, 6, 6). This
module is pure: it knows strings and numbers, no models.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from lmsl.errors import InputError

ALIASES = ("causal", "full", "middle")
GRID = "grid"
RANDOM = "random:"
DEFAULT_GROUPS = 4

Bits = Sequence[Sequence[bool]]
"""For each run of a stack one bit a layer, input side first: True where it is unmasked."""


def layer_bits(string: str, layers: int, groups: int | None = None) -> tuple[bool, ...]:
    """One flag a layer, input side first: ``True`` where the string unmasks.

    ``string`` is bits, one a group (as many groups as bits) or one a layer, or an alias:
    ``causal`` (no layer), ``full`` (every layer), ``middle`` (layers ``[L // 3, L - L // 3)``).
    ``groups``, when given, is the number of bits expected. Raises ``InputError``.
    """
    _check_string(string)
    if string == "causal":
        return (False,) * layers
    if string == "full":
        return (True,) * layers
    if string == "middle":
        third = layers // 3
        return tuple(third <= layer < layers - third for layer in range(layers))
    if len(string) > layers:
        raise InputError(
            f"unmask: expected at most {layers} bits, one a layer, got {len(string)} in {string!r}"
        )
    if groups is not None and len(string) not in (groups, layers):
        raise InputError(
            f"unmask: expected {groups} bits (one a group) or {layers} (one a layer), "
            f"got {len(string)} in {string!r}"
        )
    sizes = group_sizes(layers, len(string))
    return tuple(bit == "1" for bit, size in zip(string, sizes, strict=True) for _ in range(size))


def group_sizes(layers: int, groups: int) -> tuple[int, ...]:
    """Layers of each group, input side first: as equal as possible, larger ones first."""
    if not 1 <= groups <= layers:
        raise InputError(f"groups: expected 1 to {layers}, the number of layers, got {groups}")
    size, larger = divmod(layers, groups)
    return tuple(size + (group < larger) for group in range(groups))


def expand_strings(
    strings: str | Iterable[str], layers: int, groups: int = DEFAULT_GROUPS
) -> tuple[str, ...]:
    """The strings as listed, ``grid`` replaced by all ``2 ** groups`` of them in binary order.

    ``random:N`` or ``random:N:SEED`` is N different strings of ``groups`` bits, drawn by a seed
    (0 by default): the first N of one endless sequence, so that a larger N only adds to them.

    A string listed twice, or one that ``grid`` already brought, is kept once. Every string is
    checked against ``layers``. Different spellings of the same layers stay different strings.
    """
    chosen: dict[str, None] = {}
    for string in [strings] if isinstance(strings, str) else strings:
        if string == GRID:
            group_sizes(layers, groups)
            chosen.update({f"{value:0{groups}b}": None for value in range(2**groups)})
        elif isinstance(string, str) and string.startswith(RANDOM):
            group_sizes(layers, groups)
            chosen.update(dict.fromkeys(_drawn(string, groups)))
        else:
            layer_bits(string, layers)
            chosen[string] = None
    if not chosen:
        raise InputError("unmask: expected at least one string, got none")
    return tuple(chosen)


def _drawn(request: str, groups: int) -> list[str]:
    """The strings that ``random:N`` or ``random:N:SEED`` asks for."""
    count, _, seed = request.removeprefix(RANDOM).partition(":")
    if not (count.isdecimal() and (seed or "0").isdecimal() and 1 <= int(count) <= 2**groups):
        raise InputError(
            f"unmask: expected {RANDOM}N or {RANDOM}N:SEED with N from 1 to {2**groups} (all "
            f"strings of {groups} groups), got {request!r}"
        )
    generator = np.random.default_rng([int(seed or "0"), groups])
    found: dict[str, None] = {}
    while len(found) < int(count):
        found["".join(map(str, generator.integers(0, 2, groups)))] = None
    return list(found)


def _check_string(string: object) -> None:
    if not isinstance(string, str):
        raise InputError(
            f"unmask: expected a string of bits, got {string!r} ({type(string).__name__}); "
            'quote it, YAML reads 0011 as a number: unmask: "0011"'
        )
    if not string:
        raise InputError("unmask: expected bits such as '0011', got an empty string")
    if string not in ALIASES and set(string) - {"0", "1"}:
        raise InputError(
            f"unmask: expected only 0 and 1, or one of {', '.join(ALIASES)}, got {string!r}"
        )
