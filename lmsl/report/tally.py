"""All findings of a split, counted: by kind and type, and type against type."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from lmsl.data.tags.counts import Entities
from lmsl.report.errors import ERRORS, Kind, match
from lmsl.statistics.one_run import OneRun
from lmsl.statistics.predictions import Predictions

Pair = tuple[str | None, str | None]
"""Gold and predicted type; None where there is no such entity."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """The findings of a split; where tags are plain, its words."""

    kinds: Counter[tuple[Kind, str]]
    """By kind and gold type; of spurious ones, predicted type."""
    pairs: Counter[Pair]

    @property
    def by_kind(self) -> Counter[Kind]:
        total: Counter[Kind] = Counter()
        for (kind, _), count in self.kinds.items():
            total[kind] += count
        return total

    @property
    def gold(self) -> Counter[str]:
        """Gold entities by type."""
        return _totals((pair[0], count) for pair, count in self.pairs.items())

    @property
    def predicted(self) -> Counter[str]:
        """Predicted entities by type."""
        return _totals((pair[1], count) for pair, count in self.pairs.items())

    def errors(self, kind_of: str) -> int:
        """How many findings of a type are errors."""
        return sum(self.kinds[kind, kind_of] for kind in ERRORS)

    @property
    def confused(self) -> list[tuple[Pair, int]]:
        """Pairs of two types, the most frequent first."""
        found = [
            (pair, n) for pair, n in self.pairs.items() if None not in pair and pair[0] != pair[1]
        ]
        return sorted(found, key=lambda each: (-each[1], str(each[0])))


def tally_of(one: OneRun) -> Tally | None:
    """Of the predictions of a run; None where it has none."""
    if one.predictions is None:
        return None
    tally = _counted(one.predictions, plain=one.plain)
    for kind, count in one.beyond.items():
        tally.kinds["missed", kind] += count
        tally.pairs[kind, None] += count
    return tally


def _counted(predictions: Predictions, *, plain: bool) -> Tally:
    kinds: Counter[tuple[Kind, str]] = Counter()
    pairs: Counter[Pair] = Counter()
    entities = Entities(plain=plain)
    for sentence, tags in zip(predictions.sentences, predictions.predicted, strict=True):
        truth = tuple(sentence.tags or ())
        gold, found = sorted(entities(truth, truth)), sorted(entities(tags, truth))
        # Plain tags stand word by word: each is a match, or the wrong type on the same word.
        for finding in match(gold, found):
            wanted, given = finding.gold, finding.predicted
            of = wanted or given
            assert of is not None
            kinds[finding.kind, of.type] += 1
            pairs[wanted.type if wanted else None, given.type if given else None] += 1
    return Tally(kinds=kinds, pairs=pairs)


def _totals(counted: Iterable[tuple[str | None, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for kind, count in counted:
        if kind is not None:
            total[kind] += count
    return total
