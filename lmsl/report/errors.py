"""What a model got right and wrong in one sentence, and the sentence cut up to show it.

An error is of one of four kinds: ``missed`` (gold overlaps nothing that was found), ``spurious``
(found overlaps no gold), ``type`` (the same words or overlapping ones under another type) and
``boundary`` (the same type over other words). Every entity is in one finding at most, the
best match first. Where tags are plain, every word with another tag than gold is a ``type`` error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from lmsl.data.tags.schemes import IGNORED, OUTSIDE, tag_spans
from lmsl.data.tags.sentence import Span

Kind = Literal["right", "missed", "spurious", "type", "boundary"]

ERRORS: dict[Kind, str] = {
    "missed": "missed",
    "spurious": "spurious",
    "type": "wrong type",
    "boundary": "wrong boundary",
}


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
        if self.kind == "type" and self.gold and self.predicted:
            return self.predicted.type, ", should be ", self.gold.type
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
    open_gold, open_found = tag_spans(gold), tag_spans(shown)
    findings: list[Finding] = []
    for kind in ("right", "type", "boundary", "overlap"):
        for found in list(open_found):
            truth = next((g for g in open_gold if _match(g, found) == kind), None)
            if truth is not None:
                open_gold.remove(truth)
                open_found.remove(found)
                name: Kind = "type" if kind == "overlap" else kind  # type: ignore[assignment]
                findings.append(Finding(kind=name, gold=truth, predicted=found))
    findings += [Finding(kind="missed", gold=span, predicted=None) for span in open_gold]
    findings += [Finding(kind="spurious", gold=None, predicted=span) for span in open_found]
    return sorted(findings, key=lambda finding: (finding.start, finding.end))


def _match(gold: Span, found: Span) -> str:
    if (gold.start, gold.end) == (found.start, found.end):
        return "right" if gold.type == found.type else "type"
    if gold.end <= found.start or found.end <= gold.start:
        return "apart"
    return "boundary" if gold.type == found.type else "overlap"


def pieces(words: Sequence[str], findings: Sequence[Finding]) -> list[Piece]:
    """Cut a sentence wherever an entity begins or ends."""
    gold: list[int | None] = [None] * len(words)
    found: list[int | None] = [None] * len(words)
    for index, finding in enumerate(findings):
        for covered, span in ((gold, finding.gold), (found, finding.predicted)):
            if span:
                covered[span.start : span.end] = [index] * (span.end - span.start)
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
                labels=tuple(f for f in findings if f.end == places[-1] + 1),
            )
        )
    return cut
