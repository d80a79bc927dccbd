"""Tag schemes: finding out which one a file uses, bringing it to IOB2, and reading spans off it.

Inside the project tags are IOB2 or plain. Files come in more kinds:

- ``iob2``: the first word of an entity is B-, the others I-.
- ``iob1``: I- throughout, B- only where an entity follows one of its own type directly.
- ``bioes``: IOB2 with E- on the last word and S- on single words; L-/U- (BILOU) and M- (BMES)
  are read as their synonyms.
- ``bare``: types without a prefix, most words O; every tagged word is an entity of its own.
- ``plain``: one tag a word and no spans, as parts of speech.

Types may hold hyphens and any Unicode character. A prefix without a type (``B``, ``I``) is given
the type ``_``, as seqeval does.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from lmsl.data.tags.notation import OUTSIDE, refuse_outside_lookalike
from lmsl.data.tags.sentence import Span
from lmsl.errors import InputError
from lmsl.wording import quoted

Scheme = Literal["auto", "iob1", "iob2", "bioes", "bare", "plain"]
SCHEMES: tuple[str, ...] = get_args(Scheme)

IGNORED = "\0ignored"
"""Tag of a word without a label. NUL keeps it apart from every tag a text file can hold."""

_PREFIXES = {"iob1": "BI", "iob2": "BI", "bioes": "BIMESLU"}
_STARTS, _ENDS = "BSU", "ESLU"
_SENTENCE_END = re.compile(r"\w[.!?]$")


class Detected(NamedTuple):
    """A scheme and the reason for it, in words for the user."""

    scheme: str
    reason: str


@lru_cache(maxsize=1 << 15)
def parse_tag(tag: str) -> tuple[str, str] | None:
    """Split ``B-LOC`` into prefix and type; None for a tag without a scheme's prefix."""
    if tag[:1] not in _PREFIXES["bioes"] or tag[1:2] not in ("", "-") or not tag:
        return None
    return tag[0], tag[2:] or "_"


def detect_scheme(sequences: Iterable[Sequence[str]]) -> Detected:
    """Find the scheme of the tag sequences of one file.

    Any prefixed tag means spans; a tag that does not fit is left for `to_iob2` to refuse with its
    place. Where IOB1 and IOB2 are both possible the two read alike, and it is called IOB2.

    Raises:
        InputError: (without a place) tags have no prefix, and what they are is not plain.
    """
    sequences = list(sequences)
    kinds = set[str]().union(*sequences) - {OUTSIDE, IGNORED}
    typed = {tag for tag in kinds if "-" in tag and parse_tag(tag)}
    prefixes = {tag[0] for tag in typed or kinds}
    if not kinds:
        return Detected("iob2", "no word has a tag other than O")
    untyped_scheme = kinds <= set("BIMESLU") and kinds & set("BI")
    if not typed and not untyped_scheme:
        return _without_prefixes(sequences, kinds)
    if prefixes - set("BI"):
        return Detected("bioes", f"{_listed(prefixes - set('BI'))} tags occur")
    if any(prefix != "I" for tags in sequences for prefix in _openers(tags)):
        return Detected("iob2", "entities begin with B-")
    return Detected("iob1", "entities begin with I-")


def _without_prefixes(sequences: Sequence[Sequence[str]], kinds: set[str]) -> Detected:
    counts = {OUTSIDE: 0, **dict.fromkeys(sorted(kinds), 0)}
    for tags in sequences:
        for tag in tags:
            if tag != IGNORED:
                counts[tag] += 1
    total = sum(counts.values())
    if 2 * counts[OUTSIDE] > total:
        return Detected("bare", "tags have no B-/I- prefix and most words are O")
    if counts[OUTSIDE]:
        raise InputError(
            f"tags have no B-/I- prefix ({quoted(min(kinds))}), and O stands on some words but "
            "not on most; say what they are with --scheme: bare (every other tag is a type, O is "
            "none) or plain (no spans, O is a label such as a part of speech)"
        )
    if 2 * sum(_SENTENCE_END.search(tag) is not None for tag in kinds) > len(kinds):
        raise InputError(
            f"expected tags, got {quoted(min(kinds))} and the like, as lines of a text end; use "
            "lmsl predict on running text, or name the --tag-column, or choose --scheme plain"
        )
    most = max(counts, key=lambda tag: counts[tag])
    if 2 * counts[most] > total:
        refuse_outside_lookalike(most, alone=len(kinds) == 1)
    return Detected("plain", "tags have no B-/I- prefix")


def to_iob2(
    tags: Sequence[str],
    scheme: str,
    *,
    strict: bool = False,
    where: Callable[[int], str] = "word {}".format,
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Bring the tags of one sentence to IOB2 (``plain`` ones are returned as they are).

    Returns the tags and the positions of words that broke the scheme: an I-, E- or L- that
    continues nothing begins an entity, and an entity never closed in BIOES ends where it stops.
    With `strict` the first of them raises InputError, as does any tag foreign to the scheme;
    `where` turns a position into the place named in the message.
    """
    assert scheme in SCHEMES and scheme != "auto"
    tags = tuple(tags)
    if scheme == "plain" or tags.count(OUTSIDE) == len(tags):
        return tags, ()
    if scheme == "bare":
        return tuple(t if t in (OUTSIDE, IGNORED) else f"B-{t}" for t in tags), ()
    # Which tags stand side by side decides, and these are few.
    if scheme == "iob2" and all(map(_may_follow, {*zip((OUTSIDE, *tags), tags, strict=False)})):
        return tags, ()
    for position, tag in enumerate(tags):
        _checked(tag, scheme, where, position)
    converted, broken = _converted(tags, scheme)
    if broken and strict:
        first = min(broken)
        raise InputError(
            f"{where(first)}: tag {quoted(tags[first])} breaks the scheme {scheme} "
            "(correct the file, or leave out --strict-tags to have it repaired)"
        )
    return converted, broken


@lru_cache(maxsize=1 << 15)
def _may_follow(pair: tuple[str, str]) -> bool:
    """Whether a tag is as IOB2 writes it, behind the one before it."""
    before, tag = (_parts(tag, "iob2") for tag in pair)
    if tag is None or (len(pair[1]) < 3 and tag[0] != OUTSIDE):
        return False
    return tag[0] != "I" or (before is not None and before[0] in "BI" and before[1] == tag[1])


@lru_cache(maxsize=1 << 13)
def _converted(tags: tuple[str, ...], scheme: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    converted: list[str] = []
    broken: set[int] = set()
    continuable: str | None = None
    for position, tag in enumerate((*tags, OUTSIDE)):
        prefix, type_ = _parts(tag, scheme) or (OUTSIDE, "")
        continues = prefix not in _STARTS + OUTSIDE and type_ == continuable
        if scheme == "bioes" and continuable is not None and not continues:
            broken.add(position - 1)
        orphan = prefix not in _STARTS + OUTSIDE and not continues
        if orphan and not (scheme == "iob1" and prefix == "I"):
            broken.add(position)
        if prefix == OUTSIDE:
            converted.append(tag)
            continuable = None
        else:
            converted.append(_iob2_tag("I" if continues else "B", type_))
            continuable = None if prefix in _ENDS else type_
    converted.pop()
    # Most tags are IOB2 as they stand: then one tuple serves both.
    same = tuple(converted) if tuple(converted) != tags else tags
    return same, tuple(sorted(broken))


def tag_spans(tags: Sequence[str]) -> list[Span]:
    """Read the entities off IOB2 tags, strictly: an I- that continues nothing is no entity.

    Equal to seqeval's ``mode="strict", scheme=IOB2`` for all types that neither begin nor end in
    a hyphen (seqeval strips those). IGNORED counts as O. O(len(tags)).
    """
    spans: list[Span] = []
    begun: int | None = None
    kind = ""
    for position, tag in enumerate((*tags, OUTSIDE)):
        prefix, type_ = _checked(tag, "iob2", "word {}".format, position)
        if begun is not None and not (prefix == "I" and type_ == kind):
            spans.append(Span(type=kind, start=begun, end=position))
            begun = None
        if prefix == "B":
            begun, kind = position, type_
    return spans


def spans_to_tags(spans: Iterable[Span], length: int) -> tuple[str, ...]:
    """Write disjoint spans as IOB2 tags of `length` words."""
    tags = [OUTSIDE] * length
    for span in spans:
        assert 0 <= span.start < span.end <= length, span
        assert all(tag == OUTSIDE for tag in tags[span.start : span.end]), span
        tags[span.start] = f"B-{span.type}"
        tags[span.start + 1 : span.end] = [f"I-{span.type}"] * (span.end - span.start - 1)
    return tuple(tags)


def _checked(tag: str, scheme: str, where: Callable[[int], str], position: int) -> tuple[str, str]:
    parsed = _parts(tag, scheme)
    if parsed is None:
        expected = ", ".join(f"{prefix}-TYPE" for prefix in _PREFIXES[scheme][:5])
        raise InputError(
            f"{where(position)}: expected O, {expected} (scheme {scheme}), got tag {quoted(tag)}; "
            "correct it, or choose another --scheme or --tag-column"
        )
    return parsed


@lru_cache(maxsize=1 << 15)
def _parts(tag: str, scheme: str) -> tuple[str, str] | None:
    """Prefix and type of a tag of the scheme, O without a type; None for a foreign one."""
    if tag in (OUTSIDE, IGNORED):
        return OUTSIDE, ""
    parsed = parse_tag(tag)
    return parsed if parsed and parsed[0] in _PREFIXES[scheme] else None


@lru_cache(maxsize=1 << 15)
def _iob2_tag(prefix: str, type_: str) -> str:
    """One string a tag, however many words have it."""
    return f"{prefix}-{type_}"


def _openers(tags: Sequence[str]) -> Iterable[str]:
    """Prefix of each word that follows O, another type or the start of the sentence."""
    previous: str | None = None
    for tag in tags:
        parsed = parse_tag(tag)
        if parsed is not None and parsed[1] != previous:
            yield parsed[0]
        previous = parsed[1] if parsed else None


def _listed(prefixes: Iterable[str]) -> str:
    return ", ".join(f"{prefix}-" for prefix in sorted(prefixes))
