"""Which layers of a decoder an unmask string means: one bit a layer.

One bit per layer group, the leftmost nearest the input, ``1`` = bidirectional. Groups are
contiguous and as equal as possible, larger ones first (26 layers in 4 groups: 7, 7, 6, 6). Here a
string is read, once; inside the package bits travel. This module is pure: it knows strings and
numbers, no models.
"""

from collections.abc import Iterable, Sequence

from lmsl.config.strings import ALIASES, DEFAULT_GROUPS, check_string, expanded, stands_for_many
from lmsl.errors import InputError

Bits = Sequence[Sequence[bool]]
"""For each run of a stack one bit a layer, input side first: True where it is unmasked."""


def layer_bits(string: str, layers: int, groups: int | None = None) -> tuple[bool, ...]:
    """One flag a layer, input side first: ``True`` where the string unmasks.

    ``string`` is bits, one a group (as many groups as bits) or one a layer, or an alias:
    ``causal`` (no layer), ``full`` (every layer), ``middle`` (layers ``[L // 3, L - L // 3)``).
    ``groups``, when given, is the number of bits expected. Raises ``InputError``.
    """
    check_string(string)
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


def uneven_line(string: str, layers: int) -> str | None:
    """For people: how the layers fall where a string's groups are not all equal; None where they
    are."""
    if string in ALIASES or layers % len(string) == 0:
        return None
    sizes = ", ".join(map(str, group_sizes(layers, len(string))))
    return f"unmask {string}: {len(string)} groups of {sizes} layers"


def expand_strings(
    strings: str | Iterable[str], layers: int, groups: int = DEFAULT_GROUPS
) -> dict[str, tuple[bool, ...]]:
    """Every string that is asked for, ``grid`` and ``random:N`` written out, with its bits.

    A string listed twice, or one that ``grid`` already brought, is kept once. Different spellings
    of the same layers stay different strings.
    """
    asked = [strings] if isinstance(strings, str) else list(strings)
    if any(map(stands_for_many, asked)):
        # Before 2 ** groups strings are written out.
        group_sizes(layers, groups)
    return {string: layer_bits(string, layers) for string in expanded(asked, groups)}
