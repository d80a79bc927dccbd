"""Entity types in words, as prompts name them and answers repeat them.

A language model knows ``location`` better than ``LOC``, so the abbreviations of the data sets that
everybody uses are written out, and other names are taken apart: ``playlist_owner`` is ``playlist
owner``. Two types are never called the same: where words would do that, all types keep their own
names.
"""

import re
from collections import Counter
from collections.abc import Sequence

from lmsl.errors import InputError
from lmsl.wording import quoted

# Of CoNLL-2003 and CoNLL-2000, in the words of the 2024 paper's prompts.
_KNOWN = {
    "PER": "person",
    "LOC": "location",
    "ORG": "organization",
    "MISC": "miscellaneous",
    "NP": "noun phrase",
    "VP": "verb phrase",
    "PP": "prepositional phrase",
    "ADVP": "adverb phrase",
    "SBAR": "subordinated clause",
    "ADJP": "adjective phrase",
    "PRT": "particles",
    "CONJP": "conjunction phrase",
    "INTJ": "interjection",
    "LST": "list marker",
    "UCP": "unlike coordinated phrase",
}
_UNDERLINES = re.compile(r"[_\s]+")


def in_words(types: Sequence[str]) -> tuple[str, ...]:
    """What each type is called, in their order.

    Raises:
        InputError: names that differ in white space alone, or have nothing else.
    """
    called = [_written_out(kind) for kind in types]
    if len({name.casefold() for name in called}) < len(called):
        called = [" ".join(kind.split()) for kind in types]
    for kind, name in zip(types, called, strict=True):
        if not name or Counter(called)[name] > 1:
            raise InputError(
                f"--task generate: type {quoted(kind)} cannot be told from others in an answer, "
                "where white space separates words; rename it"
            )
    return tuple(called)


def _written_out(kind: str) -> str:
    return _KNOWN.get(kind) or " ".join(_UNDERLINES.sub(" ", kind).split()) or kind.strip()
