"""What every threshold would give: precision, recall and F1, and the points people ask for.

Spans are taken by falling probability where they do not overlap one taken before, so those of a
threshold are those of a lower one that are at least it (``lmsl.data.tags.thresholds``): decoding
once at the lowest gives the counts at all of them, as running sums down the list.

A type's figures are those of this common threshold too. They stay as they are where other types
have lower ones, since all spans that could block its own are there as before. Where others have
higher ones, a span of this type may come to light that one of theirs had blocked; not where this
type's threshold is above a half, as nothing overlaps there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmsl.data.tags.decode import Decoded
from lmsl.data.tags.metrics import rates, scorable
from lmsl.data.tags.schemes import tag_spans
from lmsl.data.tags.sentence import Sentence
from lmsl.data.tags.thresholds import LEAST
from lmsl.data.tags.vocabulary import LabelSet

LEVELS = ("0.80", "0.90", "0.95", "0.99")
ALL = "all"
NOTE = "fitted on these data: choose thresholds on dev and report what they give on test"

# Scores that differ by less may be equal but for rounding: no threshold goes between them.
_APART = 1e-9

Point = dict[str, Any]
"""A threshold with what it gives: ``threshold`` and the entries of ``metrics.rates``."""


@dataclass(kw_only=True)
class _Findings:
    """Spans by probability and whether they are right, and how many there are in the gold."""

    scored: list[tuple[float, bool]]
    gold: int = 0


def operating_points(
    sentences: Sequence[Sentence], decoded: Sequence[Decoded], labels: LabelSet
) -> dict[str, Any]:
    """The points of all types together, in ``all``, and of each, in ``per_type``.

    Args:
        sentences: with tags.
        decoded: with ``LEAST`` as the threshold of every type.

    Returns:
        For each: ``best_f1``, the point with the best F1; ``precision_at_recall``, for every level
        the point with the best precision where recall is at least that; ``recall_at_precision``
        likewise. A point that cannot be reached is None. And a ``note`` on their use.
    """
    whole = _Findings(scored=[])
    own = {kind: _Findings(scored=[]) for kind in labels.types}
    for sentence, found in zip(sentences, decoded, strict=True):
        truth = sentence.tags or ()
        gold = set(tag_spans(truth))
        for kind in (*(span.type for span in gold), *sentence.missed):
            whole.gold += 1
            if kind in own:
                own[kind].gold += 1
        for span, score in zip(found.spans, found.scores, strict=True):
            counted = scorable(span, truth)
            if counted is not None:
                assert score is not None
                whole.scored.append((score, counted in gold))
                own[span.type].scored.append((score, counted in gold))
    return {
        "note": NOTE,
        ALL: _points(whole),
        "per_type": {kind: _points(each) for kind, each in own.items()},
    }


def _points(findings: _Findings) -> dict[str, Any]:
    curve = _curve(findings)

    def best(asked: str, given: str, least: float) -> Point | None:
        reached = [point for point in curve if point[given] >= least]
        return max(reached, key=lambda point: (point[asked], point[given]), default=None)

    return {
        "best_f1": max(curve, key=lambda point: float(point["f1"]), default=None),
        "precision_at_recall": {
            level: best("precision", "recall", float(level)) for level in LEVELS
        },
        "recall_at_precision": {
            level: best("recall", "precision", float(level)) for level in LEVELS
        },
    }


def _curve(findings: _Findings) -> list[Point]:
    """A point for each set of spans that some threshold gives, the fewest first.

    Empty without gold entities, where there is no recall.
    """
    points: list[Point] = []
    ranked = sorted(findings.scored, reverse=True)
    correct = 0
    for number, (score, right) in enumerate(ranked, start=1):
        correct += right
        below = ranked[number][0] if number < len(ranked) else LEAST
        if findings.gold and (number == len(ranked) or below < score * (1 - _APART)):
            threshold = _shortest(below, score)
            points.append({"threshold": threshold, **rates(findings.gold, number, correct)})
    return points


def _shortest(below: float, score: float) -> float:
    """The number of fewest digits above ``below`` and at most ``score``; ``score`` itself where
    they are as good as equal."""
    for digits in range(1, 16):
        rounded = math.floor(score * 10**digits) / 10**digits
        if below < rounded <= score:
            return rounded
    return score
