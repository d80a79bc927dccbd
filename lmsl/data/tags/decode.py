"""Choosing labels from a model's scores, and the probability of the spans chosen.

``viterbi`` finds the best sequence that is valid IOB2: an I-X follows only B-X or I-X. The scores
are the model's own log-probabilities; nothing is learned here. ``argmax`` takes every word alone,
as the papers do. A span's score is the probability of exactly that span under the distribution the
decoder uses: over valid sequences for ``viterbi`` (forward-backward), over independent words for
``argmax``.

Sentences are decoded many at a time: sorted by length, padded with words that can only be O, which
changes neither the best path nor any probability. Legend: S sentences, T words, C labels. Labels
come in the order O, B-X, I-X, B-Y, I-Y, ... of ``lmsl.data.tags.vocabulary``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lmsl.data.tags.sentence import Span
from lmsl.data.tags.vocabulary import LabelSet

Decoder = Literal["viterbi", "argmax"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CELLS_PER_GROUP = 1 << 21


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One sentence's labels; spans with their probabilities (none where labels are plain, None
    where a model writes spans and gives them no probability)."""

    tags: tuple[str, ...]
    spans: tuple[Span, ...]
    scores: tuple[float | None, ...]


def decode(emissions: Sequence[Floats], labels: LabelSet, decoder: Decoder) -> list[Decoded]:
    """Decode sentences given as log-probabilities [words, C] each, in order."""
    decoded: list[Decoded | None] = [None] * len(emissions)
    names = np.array(labels.names, dtype=object)
    for indices in _groups([len(each) for each in emissions], len(labels)):
        group = _padded([emissions[index] for index in indices], len(labels))
        chain = None if labels.plain or decoder == "argmax" else _Chain(group)
        best = group.argmax(-1) if chain is None else chain.best_path()
        tags = names[best].tolist()
        found = _spans(group, chain, best, labels)
        for index, own, (spans, scores) in zip(indices, tags, found, strict=True):
            words = len(emissions[index])
            decoded[index] = Decoded(tags=tuple(own[:words]), spans=spans, scores=scores)
    return [each for each in decoded if each is not None]


def _spans(
    emissions: Floats, chain: "_Chain | None", best: Ints, labels: LabelSet
) -> Iterator[tuple[tuple[Span, ...], tuple[float, ...]]]:
    """The spans of each sentence of a group and their probabilities, all found at once.

    A span begins at a B-X and takes every I-X right behind: entities of IOB2, strictly.
    """
    sentences, words = best.shape
    if labels.plain:
        yield from [((), ())] * sentences
        return
    rows, starts = np.nonzero(best % 2 == 1)
    begins, ends, inside = best[rows, starts], starts + 1, np.zeros(len(rows))
    going = np.arange(len(rows))
    while len(going):
        going = going[ends[going] < words]
        going = going[best[rows[going], ends[going]] == begins[going] + 1]
        inside[going] += emissions[rows[going], ends[going], begins[going] + 1]
        ends[going] += 1
    scores = _span_scores(emissions, chain, rows, starts, ends, begins, inside)
    kinds = [name[2:] for name in labels.names]
    spans = [
        Span(type=kinds[begin], start=start, end=end)
        for begin, start, end in zip(begins.tolist(), starts.tolist(), ends.tolist(), strict=True)
    ]
    edges = np.searchsorted(rows, np.arange(sentences + 1)).tolist()
    for first, last in pairwise(edges):
        yield tuple(spans[first:last]), tuple(scores[first:last])


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

    def best_path(self) -> Ints:
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
    """Over the last axis; several times faster than ``logaddexp.reduce``."""
    top = values.max(-1, keepdims=True)
    # Of nothing but -inf it is -inf, and no difference of infinities.
    top[np.isneginf(top)] = 0.0
    with np.errstate(divide="ignore"):
        total: Floats = np.log(np.exp(values - top).sum(-1)) + top[..., 0]
    return total


def _span_scores(
    emissions: Floats,
    chain: _Chain | None,
    rows: Ints,
    starts: Ints,
    ends: Ints,
    begins: Ints,
    inside: Floats,
) -> list[float]:
    """The probability of exactly each span: begun there, continued, and not continued after."""
    if not len(rows):
        return []
    found: Floats
    if chain is not None:
        before, leaving, total = chain.marginals()
        log = before[rows, starts, begins] + inside + leaving[rows, ends - 1] - total[rows]
        found = np.minimum(1.0, np.exp(log))
    else:
        words = emissions.shape[1]
        more = emissions[rows, np.minimum(ends, words - 1), begins + 1]
        stop = np.where(ends == words, 1.0, -np.expm1(np.minimum(0.0, more)))
        found = np.exp(emissions[rows, starts, begins] + inside) * stop
    scores: list[float] = found.tolist()
    return scores
