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
from typing import Literal, NamedTuple, get_args

from lmsl.data.tags.sentence import Span
from lmsl.errors import InputError

Scheme = Literal["auto", "iob1", "iob2", "bioes", "bare", "plain"]
SCHEMES: tuple[str, ...] = get_args(Scheme)

OUTSIDE = "O"

IGNORED = "\0ignored"
"""Tag of a word without a label. NUL keeps it apart from every tag a text file can hold."""

_PREFIXES = {"iob1": "BI", "iob2": "BI", "bioes": "BIMESLU"}
_STARTS, _ENDS = "BSU", "ESLU"
_TAG = re.compile(r"([BIMESLU])(?:-(.*))?", re.DOTALL)


class Detected(NamedTuple):
    """A scheme and the reason for it, in words for the user."""

    scheme: str
    reason: str


def parse_tag(tag: str) -> tuple[str, str] | None:
    """Split ``B-LOC`` into prefix and type; None for a tag without a scheme's prefix."""
    match = _TAG.fullmatch(tag)
    return (match[1], match[2] or "_") if match else None


def detect_scheme(sequences: Iterable[Sequence[str]]) -> Detected:
    """Find the scheme of the tag sequences of one file.

    Any prefixed tag means spans; a tag that does not fit is left for `to_iob2` to refuse with its
    place. Where IOB1 and IOB2 are both possible the two read alike, and it is called IOB2.
    """
    sequences = [[tag for tag in tags if tag != IGNORED] for tags in sequences]
    words = sum(map(len, sequences))
    outside = sum(tags.count(OUTSIDE) for tags in sequences)
    kinds = {tag for tags in sequences for tag in tags} - {OUTSIDE}
    typed = {tag for tag in kinds if "-" in tag and parse_tag(tag)}
    prefixes = {tag[0] for tag in typed or kinds}
    if not kinds:
        return Detected("iob2", "no word has a tag other than O")
    untyped_scheme = kinds <= set("BIMESLU") and kinds & set("BI")
    if not typed and not untyped_scheme:
        if 2 * outside > words:
            return Detected("bare", "tags have no B-/I- prefix and most words are O")
        return Detected("plain", "tags have no B-/I- prefix")
    if prefixes - set("BI"):
        return Detected("bioes", f"{_listed(prefixes - set('BI'))} tags occur")
    opened_by = {parsed[0] for tags in sequences for parsed in _openers(tags)}
    if opened_by == {"I"}:
        return Detected("iob1", "entities begin with I-")
    return Detected("iob2", "entities begin with B-")


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
    if scheme == "plain":
        return tuple(tags), ()
    if scheme == "bare":
        return tuple(t if t in (OUTSIDE, IGNORED) else f"B-{t}" for t in tags), ()
    converted: list[str] = []
    broken: set[int] = set()
    continuable: str | None = None
    for position, tag in enumerate((*tags, OUTSIDE)):
        prefix, type_ = _checked(tag, scheme, where, position)
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
            converted.append(f"{'I' if continues else 'B'}-{type_}")
            continuable = None if prefix in _ENDS else type_
    if broken and strict:
        first = min(broken)
        raise InputError(
            f"{where(first)}: tag {tags[first]!r} breaks the scheme {scheme} "
            "(correct the file, or leave out --strict-tags to have it repaired)"
        )
    return tuple(converted[:-1]), tuple(sorted(broken))


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
    if tag in (OUTSIDE, IGNORED):
        return OUTSIDE, ""
    parsed = parse_tag(tag)
    if parsed is None or parsed[0] not in _PREFIXES[scheme]:
        expected = ", ".join(f"{prefix}-TYPE" for prefix in _PREFIXES[scheme][:5])
        raise InputError(
            f"{where(position)}: expected O, {expected} (scheme {scheme}), got tag {tag!r}; "
            "correct it, or choose another --scheme or --tag-column"
        )
    return parsed


def _openers(tags: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Prefix and type of each word that follows O, another type or the start of the sentence."""
    previous: str | None = None
    for tag in tags:
        parsed = parse_tag(tag)
        if parsed is not None and parsed[1] != previous:
            yield parsed
        previous = parsed[1] if parsed else None


def _listed(prefixes: Iterable[str]) -> str:
    return ", ".join(f"{prefix}-" for prefix in sorted(prefixes))
