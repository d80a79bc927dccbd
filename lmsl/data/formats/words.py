"""Splitting raw text into the words that get tags.

Three modes, stored with a run because they decide what its predictions are about:

- ``whitespace``: runs of non-space characters.
- ``char``: every non-space character with the marks that sit on it; for text without spaces.
- ``unicode`` (default): a run of letters, digits and underscores, together with combining marks
  and inner joiners, is a word; every other non-space character is a word of its own.

``unicode`` gives ``Babbage.`` -> ``Babbage`` ``.``; ``don't`` -> ``don`` ``'`` ``t``; ``3.5%`` ->
``3`` ``.`` ``5`` ``%``. Fine pieces are deliberate: an annotated span can only be learned when it
does not cut a word, and names end at hyphens and apostrophes. One emoji is one word, also with
skin tone, joiners or as a flag. Chinese ideographs and Hiragana are one word each (as in Unicode's
default segmentation, UAX #29); scripts that need a dictionary (Thai, Khmer) stay in one run unless
they carry zero-width spaces, so prefer ``char`` there.
"""

from functools import cache

import regex

from lmsl.data.formats.options import WordMode
from lmsl.errors import InputError

_SPACE = r"\s\x1c-\x1f"
_LETTER = r"\p{L}\p{N}_"
_ZERO_WIDTH_SPACES = r"\u200b\ufeff"
_JOINER = r"\u200d"
_FLAG = r"[\U0001f1e6-\U0001f1ff]{2}"
_IDEOGRAPHS = r"\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
# Marks, format characters and skin tones belong to what they follow. Without them Devanagari words
# would be cut at every vowel sign.
_EXTENDER = rf"[\p{{M}}\p{{Cf}}\U0001f3fb-\U0001f3ff--[{_ZERO_WIDTH_SPACES}]]"


def split_words(text: str, mode: WordMode = "unicode") -> tuple[tuple[int, int], ...]:
    """Return the character offsets [start, end) of the words of `text`, in order.

    Time is linear in the length of the text. Characters outside all words are white space and,
    in mode ``unicode``, zero-width spaces.
    """
    return tuple(match.span() for match in _pattern(mode).finditer(text))


@cache
def _pattern(mode: str) -> regex.Pattern[str]:
    if mode == "whitespace":
        return regex.compile(rf"[^{_SPACE}]+")
    if mode == "char":
        visible = _cluster(rf"[^{_SPACE}]")
        return regex.compile(f"{_FLAG}|{visible}", regex.VERSION1)
    if mode == "unicode":
        letter = rf"[[{_LETTER}]--[{_IDEOGRAPHS}]]"
        run = rf"{letter}(?:{letter}|{_EXTENDER})*"
        ideograph = rf"[{_IDEOGRAPHS}]{_EXTENDER}*"
        other = _cluster(rf"[^{_SPACE}{_LETTER}{_ZERO_WIDTH_SPACES}]")
        return regex.compile(f"{run}|{ideograph}|{_FLAG}|{other}", regex.VERSION1)
    raise InputError(f"--words: expected unicode, whitespace or char, got {mode!r}")


def _cluster(first: str) -> str:
    """A character, what sits on it, and the symbols which joiners glue to it."""
    symbol = rf"[^{_SPACE}{_LETTER}]"
    return rf"{first}{_EXTENDER}*(?:(?<={_JOINER}){symbol}{_EXTENDER}*)*"
