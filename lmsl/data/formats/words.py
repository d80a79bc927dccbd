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

import re
import sys
import unicodedata
from functools import cache

from lmsl.data.formats.options import WordMode
from lmsl.errors import InputError

_ZERO_WIDTH_SPACES = "\u200b\ufeff"
_JOINER = "\u200d"
_SKIN_TONES = "\U0001f3fb-\U0001f3ff"
_REGIONAL = "[\U0001f1e6-\U0001f1ff]"
_IDEOGRAPHS = "\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"


def split_words(text: str, mode: WordMode = "unicode") -> tuple[tuple[int, int], ...]:
    """Return the character offsets [start, end) of the words of `text`, in order.

    Time is linear in the length of the text. Characters outside all words are white space and,
    in mode ``unicode``, zero-width spaces.
    """
    return tuple(match.span() for match in _pattern(mode).finditer(text))


@cache
def _pattern(mode: str) -> re.Pattern[str]:
    if mode == "whitespace":
        return re.compile(r"\S+")
    flag = f"{_REGIONAL}{{2}}"
    if mode == "char":
        visible = _cluster(r"[^\s]")
        return re.compile(f"{flag}|{visible}")
    if mode == "unicode":
        letter = rf"[^\W{_IDEOGRAPHS}]"
        run = rf"{letter}(?:{letter}|[{_extenders()}])*"
        ideograph = rf"[{_IDEOGRAPHS}][{_extenders()}]*"
        other = _cluster(rf"[^\s\w{_ZERO_WIDTH_SPACES}]")
        return re.compile(f"{run}|{ideograph}|{flag}|{other}")
    raise InputError(f"--words: expected unicode, whitespace or char, got {mode!r}")


def _cluster(first: str) -> str:
    """A character, what sits on it, and the symbols which joiners glue to it."""
    return rf"{first}[{_extenders()}]*(?:(?<={_JOINER})[^\s\w][{_extenders()}]*)*"


@cache
def _extenders() -> str:
    """Body of a character class: marks and format characters that belong to what they follow.

    Python's ``\\w`` leaves combining marks out, which would cut Devanagari words at every vowel
    sign. All marks live in planes 0, 1 and 14.
    """
    ranges: list[list[int]] = []
    for code in (*range(0x20000), *range(0xE0000, min(0xE0200, sys.maxunicode))):
        char = chr(code)
        if unicodedata.category(char) not in ("Mn", "Mc", "Me", "Cf"):
            continue
        if char in _ZERO_WIDTH_SPACES:
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return _SKIN_TONES + "".join(f"{chr(a)}-{chr(b)}" for a, b in ranges)
