"""Running text for a language model: windows in which every token is predicted once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmsl.packs.alignment import Ints
from lmsl.packs.examples import Example


@dataclass(frozen=True, kw_only=True)
class TextWindow:
    """Tokens ``[first, last)`` of a text are seen; of these, ``[predicted, last)`` predicted."""

    first: int
    predicted: int
    last: int


def text_windows(tokens: int, *, size: int, stride: int, predicted: int) -> list[TextWindow]:
    """Windows of at most ``size`` tokens, each ``stride`` tokens behind the one before.

    Every token from ``predicted`` on is predicted in exactly one: in the first with what stands
    before it, later with at least ``size - stride`` tokens before it.

    Args:
        predicted: the first token that has anything before it.
    """
    assert 0 < stride < size
    found, last = [], min(size, tokens)
    while predicted < tokens:
        found.append(TextWindow(first=max(0, last - size), predicted=predicted, last=last))
        predicted, last = last, min(last + stride, tokens)
    return found


@dataclass(frozen=True, eq=False, kw_only=True)
class RunningText:
    """A text as a language model reads it; each window begins as a text does, with ``bos``."""

    ids: Ints
    bos: Sequence[int]
    windows: Sequence[TextWindow]

    def whole(self, window: TextWindow) -> Example:
        """The window, read where each of its predicted tokens is foretold: one token before."""
        places = np.arange(window.predicted, window.last) - window.first + len(self.bos) - 1
        return self._example(window.first, window.last - 1, places)

    def prefix(self, first: int, last: int) -> Example:
        """Tokens ``[first, last)`` of the text and nothing behind them, read at the end."""
        return self._example(first, last, np.array([last - first + len(self.bos) - 1]))

    def _example(self, first: int, last: int, places: np.ndarray) -> Example:
        ids = np.concatenate([np.asarray(self.bos, dtype=np.int32), self.ids[first:last]])
        starts = places.astype(np.int32)
        return Example(ids=ids, sentence=0, first_word=0, starts=starts, ends=starts + 1)


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` numbers below ``count``, at equal distances."""
    most = min(count, most)
    return [(2 * part + 1) * count // (2 * most) for part in range(most)]
