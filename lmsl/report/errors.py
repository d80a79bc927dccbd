"""What a model got right and wrong in one sentence, and the sentence cut up to show it.

Here the kinds of errors are defined, ``MEANING`` says each in one sentence. Every entity is in one
finding at most, the best match first: the same words and type, then the same words, then the same
type, then any overlap; within each by place. Where tags are plain, every word with another tag
than gold is a ``type`` error. Scores that give part of the credit: ``lmsl.report.semeval``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from lmsl.data.tags.schemes import IGNORED, OUTSIDE, tag_spans
from lmsl.data.tags.sentence import Span

Kind = Literal["right", "missed", "spurious", "type", "boundary", "both"]

ERRORS: dict[Kind, str] = {
    "missed": "missed",
    "spurious": "spurious",
    "type": "wrong type",
    "boundary": "wrong boundary",
    "both": "wrong type and boundary",
}

MEANING: dict[Kind, str] = {
    "right": "The same words and the same type as in gold.",
    "boundary": "The right type on other words, some of which are shared with gold.",
    "type": "Exactly the words of gold under another type.",
    "both": "Some words shared with gold, under another type and with another boundary.",
    "missed": "A gold entity that is left with no predicted one that overlaps it.",
    "spurious": "A predicted entity that is left with no gold one that overlaps it.",
}
"""What each kind is; gold entities are of one of the first five, predicted ones of one of all but
``missed``."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A gold entity, a predicted one, or both where they belong together."""

    kind: Kind
    gold: Span | None
    predicted: Span | None

    @property
    def start(self) -> int:
        return min(span.start for span in (self.gold, self.predicted) if span)

    @property
    def end(self) -> int:
        return max(span.end for span in (self.gold, self.predicted) if span)

    @property
    def types(self) -> set[str]:
        return {span.type for span in (self.gold, self.predicted) if span}

    @property
    def label(self) -> tuple[str, str, str]:
        """What is written behind it: a type, words, and perhaps another type."""
        if self.kind in ("type", "both") and self.gold and self.predicted:
            said = ", wrong boundary" if self.kind == "both" else ""
            return self.predicted.type, f"{said}, should be ", self.gold.type
        (kind,) = self.types
        return kind, "" if self.kind == "right" else f" {ERRORS[self.kind]}", ""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Words of a sentence that are alike: in a gold entity, in a predicted one, in an error."""

    words: tuple[str, ...]
    gold: bool
    predicted: bool
    wrong: bool
    labels: tuple[Finding, ...]
    """Of the entities that end here."""


def findings_of(gold: Sequence[str], predicted: Sequence[str], *, plain: bool) -> list[Finding]:
    """The findings of one sentence by place; nothing is said of words without a label."""
    if plain:
        return [
            Finding(
                kind="type",
                gold=Span(start=i, end=i + 1, type=truth),
                predicted=Span(start=i, end=i + 1, type=tag),
            )
            for i, (truth, tag) in enumerate(zip(gold, predicted, strict=True))
            if tag != truth != IGNORED
        ]
    # Scored as in lmsl.data.tags.metrics: a prediction on a word without a label counts as O.
    shown = [OUTSIDE if g == IGNORED else p for g, p in zip(gold, predicted, strict=True)]
    return match(tag_spans(gold), tag_spans(shown))


def match(gold: Sequence[Span], found: Sequence[Span]) -> list[Finding]:
    """The findings of gold and predicted entities, by place; each side disjoint and in order."""
    pairs = list(_overlapping(gold, found))
    findings: list[Finding] = []
    used_gold: set[Span] = set()
    used_found: set[Span] = set()
    kinds: tuple[Kind, ...] = ("right", "type", "boundary", "both")
    for kind in kinds:
        for truth, guess in pairs:
            if truth in used_gold or guess in used_found or _kind(truth, guess) != kind:
                continue
            used_gold.add(truth)
            used_found.add(guess)
            findings.append(Finding(kind=kind, gold=truth, predicted=guess))
    missed, spurious = set(gold) - used_gold, set(found) - used_found
    findings += [Finding(kind="missed", gold=span, predicted=None) for span in missed]
    findings += [Finding(kind="spurious", gold=None, predicted=span) for span in spurious]
    return sorted(findings, key=lambda finding: (finding.start, finding.end, finding.kind))


def _overlapping(gold: Sequence[Span], found: Sequence[Span]) -> Iterator[tuple[Span, Span]]:
    """Pairs that share a word; disjoint spans in order have no more pairs than spans."""
    first = 0
    for guess in found:
        while first < len(gold) and gold[first].end <= guess.start:
            first += 1
        place = first
        while place < len(gold) and gold[place].start < guess.end:
            yield gold[place], guess
            place += 1


def _kind(gold: Span, found: Span) -> Kind:
    """Of two that overlap."""
    if (gold.start, gold.end) == (found.start, found.end):
        return "right" if gold.type == found.type else "type"
    return "boundary" if gold.type == found.type else "both"


def pieces(words: Sequence[str], findings: Sequence[Finding]) -> list[Piece]:
    """Cut a sentence wherever an entity begins or ends."""
    gold: list[int | None] = [None] * len(words)
    found: list[int | None] = [None] * len(words)
    for index, finding in enumerate(findings):
        for covered, span in ((gold, finding.gold), (found, finding.predicted)):
            if span:
                covered[span.start : span.end] = [index] * (span.end - span.start)
    ending: dict[int, list[Finding]] = {}
    for finding in findings:
        ending.setdefault(finding.end, []).append(finding)
    cut = []
    for (truth, tag), group in groupby(range(len(words)), key=lambda i: (gold[i], found[i])):
        places = list(group)
        of = {index for index in (truth, tag) if index is not None}
        cut.append(
            Piece(
                words=tuple(words[i] for i in places),
                gold=truth is not None,
                predicted=tag is not None,
                wrong=any(findings[index].kind != "right" for index in of),
                labels=tuple(ending.get(places[-1] + 1, ())),
            )
        )
    return cut
