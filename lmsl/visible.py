"""Text from data as it may stand on a page or a terminal: seen, and doing nothing."""

import unicodedata

MOST_CHARACTERS = 80
SIGN = "\ufffd"
"""Stands for a character that would do something instead of being seen."""

_BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def visible(word: str) -> str:
    """A word or a type as it may stand on a page: long ones cut, and `harmless`."""
    return harmless(
        word if len(word) <= MOST_CHARACTERS else word[: MOST_CHARACTERS - 1] + "\u2026"
    )


def harmless(text: str, kept: str = "") -> str:
    """A text with `SIGN` for control characters, line and paragraph separators, and for those that
    turn the direction of the text around them.

    Args:
        kept: characters that stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(SIGN if c not in kept and _acts(c) else c for c in text)


def _acts(character: str) -> bool:
    return character in _BIDI or unicodedata.category(character) in ("Cc", "Zl", "Zp")
