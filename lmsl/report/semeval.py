"""Scores that give part of the credit: those of SemEval-2013 task 9, after MUC-5.

Segura-Bedmar, Martinez & Herrero-Zazo (2013), "SemEval-2013 Task 9", count entities as MUC-5 does
(Chinchor & Sundheim 1993): ``COR`` correct, ``INC`` incorrect, ``PAR`` partial, ``MIS`` missing,
``SPU`` spurious; and ask four questions of a gold and a predicted entity that share a word:

========  =================================  =====  ====  ========  ====
schema    what has to agree                  right  type  boundary  both
========  =================================  =====  ====  ========  ====
strict    words and type                     COR    INC   INC       INC
exact     words, whatever the type           COR    COR   INC       INC
partial   a shared word, whatever the type   COR    COR   PAR       PAR
type      the type, where a word is shared   COR    INC   COR       INC
========  =================================  =====  ====  ========  ====

Possible = COR + INC + PAR + MIS is the gold entities, actual = COR + INC + PAR + SPU the predicted
ones; precision is (COR + PAR / 2) / actual, recall (COR + PAR / 2) / possible, F1 their harmonic
mean, each 0 where its denominator is. ``strict`` is the micro-F1 of ``lmsl.data.tags.metrics``.

Compared with nervaluate 1.2.1, the counts are the same wherever no entity shares words with two of
the other side. Else they can differ:

- Here there is one pairing for all schemata, that of ``lmsl.report.errors``, the best match first.
  nervaluate pairs anew for each schema, prediction after prediction: of those that share words
  with one gold entity the first takes it, also from a later one of the right type, unless it finds
  a better one itself. COR of strict and exact, and with them their precision, recall and F1, are
  the same in any case; PAR, and COR of type, are not.
- An I- that continues nothing is no entity here, as in strict evaluation by seqeval, and one in
  nervaluate, which also needs the types that count, and leaves others out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lmsl.report.errors import Kind

Schema = Literal["strict", "exact", "partial", "type"]

_COUNTED: dict[Schema, dict[Kind, str]] = {
    "strict": {"right": "COR", "type": "INC", "boundary": "INC", "both": "INC"},
    "exact": {"right": "COR", "type": "COR", "boundary": "INC", "both": "INC"},
    "partial": {"right": "COR", "type": "COR", "boundary": "PAR", "both": "PAR"},
    "type": {"right": "COR", "type": "INC", "boundary": "COR", "both": "INC"},
}


@dataclass(frozen=True, kw_only=True)
class SemEval:
    """The counts of one schema; rates are in 0-1."""

    schema: Schema
    correct: int
    incorrect: int
    partial: int
    missing: int
    spurious: int

    @property
    def precision(self) -> float:
        return self._rate(self._actual)

    @property
    def recall(self) -> float:
        return self._rate(self._possible)

    @property
    def f1(self) -> float:
        # The harmonic mean without the rounding of its parts.
        return 2 * self._rate(self._actual + self._possible)

    @property
    def _actual(self) -> int:
        return self.correct + self.incorrect + self.partial + self.spurious

    @property
    def _possible(self) -> int:
        return self.correct + self.incorrect + self.partial + self.missing

    def _rate(self, of: int) -> float:
        return (self.correct + self.partial / 2) / of if of else 0.0


def semeval_scores(kinds: Mapping[Kind, int]) -> tuple[SemEval, ...]:
    """The four schemata, of how many findings there are of each kind."""
    scores = []
    for schema, counted in _COUNTED.items():
        totals = dict.fromkeys(("COR", "INC", "PAR"), 0)
        for kind, category in counted.items():
            totals[category] += kinds.get(kind, 0)
        scores.append(
            SemEval(
                schema=schema,
                correct=totals["COR"],
                incorrect=totals["INC"],
                partial=totals["PAR"],
                missing=kinds.get("missed", 0),
                spurious=kinds.get("spurious", 0),
            )
        )
    return tuple(scores)
