"""The distributions over tags that decoders use, and spans under them.

``Chain`` is that of ``viterbi``: over the sequences that are valid IOB2, where an I-X follows only
B-X or I-X, in proportion to the product of the words' probabilities. ``Alone`` is that of
``argmax``: every word for itself, as the papers have it. Neither has anything to learn.

Spans that share a word cannot both be the case, under either: one of them begins where the other
goes on, or they differ in type or end. So the probabilities of all spans over a word sum to at
most 1, and at most one of them is above a half.

Legend: S sentences of a group, T words, C labels, K types, N spans. Labels come in the order O,
B-X, I-X, B-Y, I-Y, ... of ``lmsl.data.tags.vocabulary``. Everything is a logarithm but scores.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Places:
    """Spans of a group of sentences, each column [N]: words [start, end) of a sentence."""

    rows: Ints
    """The sentence."""
    starts: Ints
    ends: Ints
    begins: Ints
    """The label B-X of the type; the one behind it is I-X."""

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, chosen: NDArray[np.bool_] | Ints) -> "Places":
        """Some of them."""
        return Places(
            rows=self.rows[chosen],
            starts=self.starts[chosen],
            ends=self.ends[chosen],
            begins=self.begins[chosen],
        )


def tempered(emissions: Floats, temperature: float) -> Floats:
    """Log-probabilities [..., C] divided by a temperature and normalised again (Guo et al. 2017,
    arXiv 1706.04599): above 1 they are more even, below 1 less. 1 changes no bit."""
    if temperature == 1.0:
        return emissions
    divided = emissions / temperature
    return divided - _log_sum(divided)[..., None]


def inside(emissions: Floats, spans: Places) -> Floats:
    """The sum over the words of each span but the first [N], all of them labelled I-X."""
    total, at = np.zeros(len(spans)), spans.starts + 1
    going = np.flatnonzero(at < spans.ends)
    while len(going):
        total[going] += emissions[spans.rows[going], at[going], spans.begins[going] + 1]
        at[going] += 1
        going = going[at[going] < spans.ends[going]]
    return total


class Alone:
    """Words whose labels [S, T, C] do not depend on each other."""

    def __init__(self, emissions: Floats) -> None:
        self.emissions = emissions

    def best(self) -> Ints:
        """The most probable label of every word [S, T]."""
        return self.emissions.argmax(-1)

    def begun(self) -> Floats:
        """That a span of each type begins at each word [S, T, K]."""
        return self.emissions[..., 1::2]

    def going(self, spans: Places, inside: Floats) -> Floats:
        """That each span began there and goes on to its end, or further [N]."""
        return self.emissions[spans.rows, spans.starts, spans.begins] + inside

    def scores(self, spans: Places, inside: Floats) -> Floats:
        """The probability of exactly each span [N]: begun, gone on, and not gone on after."""
        words = self.emissions.shape[1]
        if not len(spans):
            return np.zeros(0)
        after = np.minimum(spans.ends, words - 1)
        more = self.emissions[spans.rows, after, spans.begins + 1]
        stop = np.where(spans.ends == words, 1.0, -np.expm1(np.minimum(0.0, more)))
        found: Floats = np.exp(self.going(spans, inside)) * stop
        return found


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """Of forward and backward passes over a chain."""

    before: Floats
    """Over the prefixes that end in a label at a word [S, T, C]."""
    leaving: Floats
    """Over what follows a word without continuing an entity [S, T]."""
    staying: Floats
    """Over what follows a word in an entity of each type, continuing it or not [S, T, K]."""
    total: Floats
    """Over all sequences [S]."""


class Chain:
    """The valid IOB2 sequences of a group, as a chain over labels.

    From any label one may go to O and to every B-X; to I-X only from B-X and I-X. So a step costs
    O(C), not O(C^2).
    """

    def __init__(self, emissions: Floats) -> None:
        self.emissions = emissions
        self._free = np.r_[0, 1 : emissions.shape[-1] : 2]
        self._begin, self._inside = np.s_[..., 1::2], np.s_[..., 2::2]
        self._known: _Sums | None = None

    def best(self) -> Ints:
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

    def begun(self) -> Floats:
        """That a span of each type begins at each word [S, T, K]."""
        sums = self._sums()
        return sums.before[self._begin] + sums.staying - sums.total[:, None, None]

    def going(self, spans: Places, inside: Floats) -> Floats:
        """That each span began there and goes on to its end, or further [N]."""
        sums, types = self._sums(), spans.begins // 2
        after = sums.staying[spans.rows, spans.ends - 1, types]
        begun = sums.before[spans.rows, spans.starts, spans.begins]
        return begun + inside + after - sums.total[spans.rows]

    def scores(self, spans: Places, inside: Floats) -> Floats:
        """The probability of exactly each span [N]: begun, gone on, and not gone on after."""
        if not len(spans):
            return np.zeros(0)
        sums = self._sums()
        begun = sums.before[spans.rows, spans.starts, spans.begins]
        log = begun + inside + sums.leaving[spans.rows, spans.ends - 1] - sums.total[spans.rows]
        return np.minimum(1.0, np.exp(log))

    def _sums(self) -> _Sums:
        if self._known is None:
            self._known = self._forward_backward()
        return self._known

    def _forward_backward(self) -> _Sums:
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
        staying = np.zeros((sentences, words, classes // 2))
        after = np.zeros((sentences, classes))
        for word in range(words - 2, -1, -1):
            following = self.emissions[:, word + 1] + after
            leaving[:, word] = _log_sum(following[:, self._free])
            after = np.repeat(leaving[:, word][:, None], classes, axis=1)
            staying[:, word] = np.logaddexp(after[self._inside], following[self._inside])
            after[self._begin] = staying[:, word]
            after[self._inside] = staying[:, word]
        total = _log_sum(before[:, -1])
        return _Sums(before=before, leaving=leaving, staying=staying, total=total)


def _log_sum(values: Floats) -> Floats:
    """Over the last axis; several times faster than ``logaddexp.reduce``."""
    top = values.max(-1, keepdims=True)
    # Of nothing but -inf it is -inf, and no difference of infinities.
    top[np.isneginf(top)] = 0.0
    with np.errstate(divide="ignore"):
        total: Floats = np.log(np.exp(values - top).sum(-1)) + top[..., 0]
    return total
