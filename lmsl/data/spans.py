"""From character spans to tags over words, with nothing lost unseen.

Tags cannot say everything spans can: of overlapping spans one must win, and a span that cuts a
word has no tags. Such spans become `missed` types of the sentence, which the metrics count as gold
entities that no prediction can find.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from lmsl.data.formats.raw import CharSpan, Raw
from lmsl.data.tags.sentence import Span
from lmsl.errors import InputError
from lmsl.wording import quoted


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Disjoint spans over words, and the spans that have no place among them."""

    spans: tuple[Span, ...]
    overlapping: tuple[CharSpan, ...]
    cutting: tuple[CharSpan, ...]
    repeated: int
    """Spans stated more than once, word for word; one of each is kept."""
    mismatched: int
    """Spans whose stated text is not what the characters hold; the characters count."""

    @property
    def missed(self) -> tuple[str, ...]:
        """Types of the gold entities that the tags cannot express."""
        return tuple(span.type for span in (*self.overlapping, *self.cutting))


def align_spans(raw: Raw) -> Alignment:
    """Place the character spans of a sentence on its words.

    Of overlapping spans the longest (in characters) stays, of equally long ones the first in the
    text, then in the file. InputError for a span that is out of range or holds no word.
    """
    assert raw.spans is not None and raw.text is not None and raw.offsets is not None
    placed: list[tuple[CharSpan, Span]] = []
    cutting: list[CharSpan] = []
    unique = dict.fromkeys((span.start, span.end, span.type) for span in raw.spans)
    for start, end, type_ in unique:
        span = CharSpan(start=start, end=end, type=type_)
        _check_range(span, raw)
        words = _covered(span, raw.offsets)
        if words is None:
            cutting.append(span)
        elif words[0] == words[1]:
            raise InputError(f"{raw.where}: {_named(span)} holds no word")
        else:
            placed.append((span, Span(type=span.type, start=words[0], end=words[1])))
    placed.sort(key=lambda pair: (pair[0].start - pair[0].end, pair[0].start))
    taken = [False] * len(raw.words)
    kept: list[Span] = []
    overlapping: list[CharSpan] = []
    for span, over in placed:
        if any(taken[over.start : over.end]):
            overlapping.append(span)
            continue
        taken[over.start : over.end] = [True] * (over.end - over.start)
        kept.append(over)
    return Alignment(
        spans=tuple(sorted(kept)),
        overlapping=tuple(overlapping),
        cutting=tuple(cutting),
        repeated=len(raw.spans) - len(unique),
        mismatched=sum(
            span.surface is not None and span.surface != raw.text[span.start : span.end]
            for span in raw.spans
        ),
    )


def refuse_losses(raw: Raw, alignment: Alignment) -> None:
    """Raise InputError where an alignment lost or doubted anything (``--strict-tags``)."""
    place = raw.where
    for spans, trouble in (
        (alignment.overlapping, "overlaps a longer one"),
        (alignment.cutting, "cuts a word (see --words)"),
    ):
        if spans:
            raise InputError(f"{place}: {_named(spans[0])} {trouble}; --strict-tags refuses it")
    if alignment.repeated or alignment.mismatched:
        what = "stated twice" if alignment.repeated else "beside the text it states"
        raise InputError(f"{place}: a span is {what}; --strict-tags refuses it")


def _covered(span: CharSpan, offsets: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Words [first, last) under a span, equal when there is none; None when it cuts a word."""
    first = bisect_right(offsets, span.start, key=lambda word: word[1])
    last = bisect_left(offsets, span.end, key=lambda word: word[0])
    if first >= last:
        return first, first
    if offsets[first][0] < span.start or offsets[last - 1][1] > span.end:
        return None
    return first, last


def _check_range(span: CharSpan, raw: Raw) -> None:
    assert raw.text is not None
    if not 0 <= span.start < span.end <= len(raw.text):
        raise InputError(
            f"{raw.where}: expected a span within [0, {len(raw.text)}) with start < end, "
            f"got {_named(span)}"
        )


def _named(span: CharSpan) -> str:
    return f"span {quoted(span.type)} [{quoted(span.start)}, {quoted(span.end)})"
