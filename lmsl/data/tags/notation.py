"""How a file writes its tags, where that is not ``B-PER``: ``B_PER``, ``b-per``, ``PER-B``, ``o``.

A tag set is read in one of these notations only if every tag fits it and it cannot well be
anything else; the types stay as they are written. A set most of which looks like tags of a scheme
without being so is refused: taken as plain tags or bare types it would train and score nonsense.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import NamedTuple

from lmsl.errors import InputError
from lmsl.wording import quoted

OUTSIDE = "O"
LETTERS = "BIMESLU"

MAX_LABELS = 5000
"""More labels than any scheme of annotation has: it is the wrong column that holds so many."""

_CANONICAL = re.compile(rf"[{LETTERS}](?:-.*)?", re.DOTALL)
_BETWEEN = "-_:/.|\u2010\u2011\u2012\u2013\u2014\u2212\uff0d"
_LETTER = rf"[{LETTERS}{LETTERS.lower()}]"
_PREFIXED = re.compile(rf"({_LETTER})([{_BETWEEN}])(.+)", re.DOTALL)
_SUFFIXED = re.compile(rf"(.+)([{_BETWEEN}])({_LETTER})", re.DOTALL)
_LIKE_PREFIX = re.compile(
    rf"\W?(?:{_LETTER}|begin|beg|start|inside|in|middle|mid|end|last|single|unit)[\W_]+\w.*",
    re.IGNORECASE | re.DOTALL,
)
# What people write for O; only where it stands on most words.
_LIKE_OUTSIDE = re.compile(r"[\W\d_]+|o|other|none|null|nil|nan|out|outside", re.IGNORECASE)


class Notation(NamedTuple):
    """Tags as written, as O and B-TYPE; and what to say of it."""

    tags: dict[str, str]
    note: str | None


@lru_cache(maxsize=1 << 15)
def has_control(label: str) -> bool:
    """Whether a label holds a character that no column of a file can: tabs, line ends, NUL."""
    if label.isascii() and label.isprintable():
        return False
    return any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in label)


def check_number(source: str, labels: Collection[str]) -> None:
    """Refuse more than `MAX_LABELS` types; InputError."""
    if len(labels) > MAX_LABELS and len({_type(label) for label in labels}) > MAX_LABELS:
        raise InputError(
            f"{source}: expected at most {MAX_LABELS} different labels, got more, such as "
            f"{quoted(min(labels))}; check --tag-column"
        )


def _type(label: str) -> str:
    return label[2:] if label[1:2] in ("-", "_") else label


def looks_like_tag(cell: str) -> bool:
    """Whether a cell could be a tag of a scheme in any notation that is read."""
    return (
        cell in ("O", "o")
        or _PREFIXED.fullmatch(cell) is not None
        or _SUFFIXED.fullmatch(cell) is not None
    )


def read_notation(kinds: Iterable[str], *, certain: bool) -> Notation:
    """Bring the different tags of a file to the notation O, B-TYPE.

    Args:
        kinds: the different tags.
        certain: that they are tags of a scheme has been said.

    Raises:
        InputError: (without a place) most tags look like those of a scheme, but not all.
    """
    found = set(kinds)
    tags = found - {OUTSIDE, "o"}
    small = {"o": OUTSIDE} if "o" in found else {}
    note = "tag 'o' is read as O" if small else None
    if (
        not tags
        or any("-" in tag and _CANONICAL.fullmatch(tag) for tag in tags)
        or (tags <= set(LETTERS) and tags & set("BI"))
    ):
        return Notation(small, note)
    if tags <= set(LETTERS.lower()) and "b" in tags and tags != found:
        table = {tag: tag.upper() for tag in tags}
        return Notation({**table, "o": OUTSIDE}, "tags b, i, o are read as B, I, O")
    for notation in _notations(tags):
        if certain or _sure(notation, outside=tags != found):
            written = min(notation, key=lambda tag: (notation[tag][0] != "B", tag))
            letter, type_ = notation[written]
            table = {tag: f"{letter}-{type_}" for tag, (letter, type_) in notation.items()}
            note = f"tags are read as {letter}-{type_} where {quoted(written)} is written"
            return Notation({**table, "o": OUTSIDE}, note)
    if not certain:
        _refuse_lookalikes(tags)
    return Notation({}, None)


def refuse_outside_lookalike(tag: str, *, alone: bool) -> None:
    """Refuse, as plain tags or types, tags of which this one stands on most words, or all."""
    if _LIKE_OUTSIDE.fullmatch(tag):
        if alone:
            raise InputError(
                f"expected tags, got {quoted(tag)} on every word, which says nothing; name the "
                "column of the tags with --tag-column, or choose --scheme plain where that is a "
                "label"
            )
        raise InputError(
            f"expected O for words outside of entities, got {quoted(tag)} on most words; write O, "
            "or name another --tag-column, or choose --scheme plain (no spans)"
        )


def _notations(tags: set[str]) -> Iterable[dict[str, tuple[str, str]]]:
    """Every reading of all tags as prefix and type, with one mark between them."""
    for pattern, letter, type_ in ((_PREFIXED, 1, 3), (_SUFFIXED, 3, 1)):
        matches = {tag: pattern.fullmatch(tag) for tag in tags}
        read = {tag: (m[letter], m[type_]) for tag, m in matches.items() if m}
        marks = {m[2] for m in matches.values() if m}
        cases = {found.isupper() for found, _ in read.values()}
        if len(read) == len(tags) and len(marks) == len(cases) == 1:
            yield {tag: (found.upper(), kind) for tag, (found, kind) in read.items()}


def _sure(notation: dict[str, tuple[str, str]], *, outside: bool) -> bool:
    """Whether tags that fit a notation are of it: ``B_PER`` beside O, or a type with B and I."""
    letters = defaultdict(set)
    for letter, type_ in notation.values():
        letters[type_].add(letter)
    if any("B" in found and len(found) > 1 for found in letters.values()):
        return True
    capital = all(tag[0] in LETTERS and tag[1:2] == "_" for tag in notation)
    return outside and capital and any(found & set("BI") for found in letters.values())


def _refuse_lookalikes(tags: set[str]) -> None:
    glued = {tag for tag in tags if tag[0] in "BI" and {f"B{tag[1:]}", f"I{tag[1:]}"} <= tags}
    like = {
        tag
        for tag in tags
        if tag in glued or _LIKE_PREFIX.fullmatch(tag) or _SUFFIXED.fullmatch(tag)
    }
    if 2 * len(like) > len(tags):
        others = f", but {quoted(min(tags - like))} does not" if tags - like else ""
        raise InputError(
            f"tags such as {quoted(min(like))} look like B-TYPE and I-TYPE written otherwise"
            f"{others}; write B-TYPE, I-TYPE and O, or say what they are with --scheme: iob2 or "
            "bioes (entities), bare (a type a word) or plain (no spans)"
        )
