"""What is gold, found and right in each sentence: counts whose sums give the metrics.

They are those of ``lmsl.data.tags.metrics``, sentence by sentence, so that a resample of sentences
is a sum. Pruning draws sentences while runs train, reports draw them afterwards; both count here.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lmsl.data.tags.schemes import IGNORED, tag_spans
from lmsl.data.tags.sentence import Sentence, Span


class Entities:
    """The entities of tag sequences, each sequence read once: runs agree on most sentences."""

    def __init__(self, *, plain: bool) -> None:
        self.plain = plain
        self._known: dict[tuple[str, ...], frozenset[Span]] = {}

    def __call__(self, tags: tuple[str, ...], gold: tuple[str, ...]) -> frozenset[Span]:
        """Entities of ``tags``, none of them on words that have no label in ``gold``; of plain
        tags, every word with a label."""
        if IGNORED in gold:
            tags = tuple(
                IGNORED if truth == IGNORED else tag for tag, truth in zip(tags, gold, strict=True)
            )
        found = self._known.get(tags)
        if found is None:
            found = frozenset(_words(tags) if self.plain else tag_spans(tags))
            self._known[tags] = found
        return found


def sentence_counts(
    sentences: Sequence[Sentence], predicted: Sequence[Sequence[str]], entities: Entities
) -> NDArray[np.int64]:
    """Gold, predicted and correct entities (words, where tags are plain), [sentences, 3]."""
    counts = np.zeros((len(sentences), 3), dtype=np.int64)
    for row, sentence, tags in zip(counts, sentences, predicted, strict=True):
        truth = tuple(sentence.tags or ())
        gold, found = entities(truth, truth), entities(tuple(tags), truth)
        missed = 0 if entities.plain else len(sentence.missed)
        row[:] = len(gold) + missed, len(found), len(gold & found)
    return counts


def rate(hits: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hits over sizes; 0 where there is nothing to find and nothing was found.

    Where hits are twice the correct entities, and sizes the gold and predicted ones together, it
    is F1.
    """
    return np.divide(hits, sizes, out=np.zeros_like(hits), where=sizes > 0)


def _words(tags: tuple[str, ...]) -> list[Span]:
    return [Span(start=i, end=i + 1, type=tag) for i, tag in enumerate(tags) if tag != IGNORED]
