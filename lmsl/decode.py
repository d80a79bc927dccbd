"""Choosing labels from a model's scores, and the probability of the spans chosen.

``viterbi`` finds the best sequence that is valid IOB2: an I-X follows only B-X or I-X. The scores
are the model's own log-probabilities; nothing is learned here. ``argmax`` takes every word alone,
as the papers do. A span's score is the probability of exactly that span under the distribution the
decoder uses: over valid sequences for ``viterbi`` (forward-backward), over independent words for
``argmax``.

Sentences are decoded many at a time: sorted by length, padded with words that can only be O, which
changes neither the best path nor any probability. Legend: S sentences, T words, C labels. Labels
come in the order O, B-X, I-X, B-Y, I-Y, ... of ``lmsl.vocabulary``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lmsl.labels import tag_spans
from lmsl.sentence import Span
from lmsl.vocabulary import LabelSet

Decoder = Literal["viterbi", "argmax"]
Floats = NDArray[np.float64]

_CELLS_PER_GROUP = 1 << 21


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One sentence's labels; spans with their probabilities (none where labels are plain)."""

    tags: tuple[str, ...]
    spans: tuple[Span, ...]
    scores: tuple[float, ...]


def decode(emissions: Sequence[Floats], labels: LabelSet, decoder: Decoder) -> list[Decoded]:
    """Decode sentences given as log-probabilities [words, C] each, in order."""
    decoded: list[Decoded | None] = [None] * len(emissions)
    for indices in _groups([len(each) for each in emissions], len(labels)):
        group = _padded([emissions[index] for index in indices], len(labels))
        chain = None if labels.plain or decoder == "argmax" else _Chain(group)
        best = group.argmax(-1) if chain is None else chain.best_path()
        for row, index in enumerate(indices):
            words = len(emissions[index])
            tags = tuple(labels.names[label] for label in best[row, :words])
            spans = [] if labels.plain else tag_spans(tags)
            scores = [_span_score(group[row], chain, row, span, labels, words) for span in spans]
            decoded[index] = Decoded(tags=tags, spans=tuple(spans), scores=tuple(scores))
    return [each for each in decoded if each is not None]


def _groups(lengths: list[int], classes: int) -> Iterator[list[int]]:
    """Indices of sentences of similar length whose padded group stays within bounds."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (len(group) + 1) * lengths[index] * classes > _CELLS_PER_GROUP:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def _padded(emissions: list[Floats], classes: int) -> Floats:
    longest = max(len(each) for each in emissions)
    group = np.full((len(emissions), longest, classes), -np.inf)
    group[:, :, 0] = 0.0
    for row, each in enumerate(emissions):
        group[row, : len(each)] = each
    return group


class _Chain:
    """The valid IOB2 sequences of a group, as a chain over labels.

    From any label one may go to O and to every B-X; to I-X only from B-X and I-X. So a step costs
    O(C), not O(C^2).
    """

    def __init__(self, emissions: Floats) -> None:
        self.emissions = emissions
        self._free = np.r_[0, 1 : emissions.shape[-1] : 2]
        self._begin, self._inside = np.s_[..., 1::2], np.s_[..., 2::2]
        self._marginals: tuple[Floats, Floats, Floats] | None = None

    def best_path(self) -> NDArray[np.int64]:
        """The most probable valid labels [S, T]."""
        sentences, words, classes = self.emissions.shape
        path = np.zeros((sentences, words), dtype=np.int64)
        if words == 0:
            return path
        rows = np.arange(sentences)
        came_from = np.zeros((sentences, words, classes), dtype=np.int64)
        best = self.emissions[:, 0].copy()
        best[self._inside] = -np.inf
        begins = np.arange(1, classes, 2)
        for word in range(1, words):
            top = best.argmax(-1)
            came_from[:, word] = top[:, None]
            inside_wins = best[self._inside] > best[self._begin]
            came_from[:, word, 2::2] = begins + inside_wins
            entering = np.repeat(best[rows, top][:, None], classes, axis=1)
            entering[self._inside] = np.maximum(best[self._begin], best[self._inside])
            best = entering + self.emissions[:, word]
        path[:, -1] = best.argmax(-1)
        for word in range(words - 1, 0, -1):
            path[:, word - 1] = came_from[rows, word, path[:, word]]
        return path

    def marginals(self) -> tuple[Floats, Floats, Floats]:
        """``before`` [S, T, C]: log-sum over prefixes that end in a label at a word; ``leaving``
        [S, T]: log-sum over what follows a word without continuing an entity; the log-sum over all
        [S]."""
        if self._marginals is None:
            self._marginals = self._sums()
        return self._marginals

    def _sums(self) -> tuple[Floats, Floats, Floats]:
        sentences, words, classes = self.emissions.shape
        before = np.empty_like(self.emissions)
        before[:, 0] = self.emissions[:, 0]
        before[:, 0, 2::2] = -np.inf
        for word in range(1, words):
            last = before[:, word - 1]
            entering = np.repeat(_log_sum(last)[:, None], classes, axis=1)
            entering[self._inside] = np.logaddexp(last[self._begin], last[self._inside])
            before[:, word] = entering + self.emissions[:, word]
        leaving = np.zeros((sentences, words))
        after = np.zeros((sentences, classes))
        for word in range(words - 2, -1, -1):
            following = self.emissions[:, word + 1] + after
            leaving[:, word] = _log_sum(following[:, self._free])
            after = np.repeat(leaving[:, word][:, None], classes, axis=1)
            continuing = np.logaddexp(after[self._inside], following[self._inside])
            after[self._begin] = continuing
            after[self._inside] = continuing
        return before, leaving, _log_sum(before[:, -1])


def _log_sum(values: Floats) -> Floats:
    total: Floats = np.logaddexp.reduce(values, axis=-1)
    return total


def _span_score(
    emissions: Floats, chain: _Chain | None, row: int, span: Span, labels: LabelSet, words: int
) -> float:
    """The probability of exactly this span: begun here, continued, and not continued after."""
    begin = labels.ids([f"B-{span.type}"])[0]
    inside = emissions[span.start + 1 : span.end, begin + 1].sum()
    if chain is not None:
        before, leaving, total = chain.marginals()
        log = before[row, span.start, begin] + inside + leaving[row, span.end - 1] - total[row]
        return float(min(1.0, np.exp(log)))
    stop = 1.0 if span.end == words else -np.expm1(min(0.0, emissions[span.end, begin + 1]))
    return float(np.exp(emissions[span.start, begin] + inside) * stop)
