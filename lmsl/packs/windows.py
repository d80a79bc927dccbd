"""Overlapping windows over a sentence too long for the model, each word read where it sees most.

Windows begin at most half a window apart, so a word in the middle of a sentence is read with
about a quarter of a window or more on either side. They begin and end between words.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from lmsl.packs.alignment import Encoding, Ints


@dataclass(frozen=True, kw_only=True)
class Window:
    """Words ``[first, last)`` are seen; of these, words ``[read_first, read_last)`` are read."""

    first: int
    last: int
    read_first: int
    read_last: int


def windows(starts: Ints, ends: Ints, limit: int) -> list[Window]:
    """Cover all words by windows of at most ``limit`` sub-words, in order.

    Each word is read in exactly one of them: the one whose nearer edge is farthest from the word,
    the earlier one in a tie. Windows in which nothing would be read are left out.

    Args:
        starts, ends: [words] ranges of sub-words, contiguous, none longer than ``limit``.
    """
    seen = _seen(starts, ends, limit)
    best = np.full(len(starts), -1)
    choice = np.zeros(len(starts), dtype=np.int64)
    for number, (first, last) in enumerate(seen):
        own = slice(first, last)
        nearer_edge = np.minimum(starts[own] - starts[first], ends[last - 1] - ends[own])
        better = nearer_edge > best[own]
        best[own][better] = nearer_edge[better]
        choice[own][better] = number
    assert (best >= 0).all(), "a word lies in no window"

    cuts = [0, *(np.flatnonzero(np.diff(choice)) + 1).tolist(), len(starts)]
    chosen = []
    for read_first, read_last in pairwise(cuts):
        first, last = seen[choice[read_first]]
        chosen.append(Window(first=first, last=last, read_first=read_first, read_last=read_last))
    return chosen


def _seen(starts: Ints, ends: Ints, limit: int) -> list[tuple[int, int]]:
    """The word ranges of the windows; both bounds never decrease, and one of them grows."""
    seen: list[tuple[int, int]] = []
    first = 0
    while True:
        last = int(np.searchsorted(ends, starts[first] + limit, side="right"))
        if last == len(starts):
            # The last window reaches back as far as it can: more context at the same price.
            first = int(np.searchsorted(starts, ends[-1] - limit, side="left"))
            return [*seen, (first, last)]
        seen.append((first, last))
        half_on = int(np.searchsorted(starts, starts[first] + limit // 2, side="left"))
        first = max(first + 1, min(half_on, last))


def cut_long_words(encoding: Encoding, limit: int) -> tuple[Encoding, int]:
    """Shorten words of more than ``limit`` sub-words; returns how many there were.

    Such a word keeps half a window's worth, from its beginning and its end alike, so that it can
    be read at its first and at its last sub-word and still has neighbours in its window.
    """
    sizes = encoding.ends - encoding.starts
    too_long = np.flatnonzero(sizes > limit)
    if not len(too_long):
        return encoding, 0
    size = max(1, limit // 2)
    kept = np.ones(len(encoding.ids), dtype=bool)
    for word in too_long:
        kept[encoding.starts[word] + (size + 1) // 2 : encoding.ends[word] - size // 2] = False
    sizes = sizes.copy()
    sizes[too_long] = size
    ends = (encoding.starts[0] + np.cumsum(sizes)).astype(np.int32)
    cut = replace(encoding, ids=encoding.ids[kept], starts=ends - sizes, ends=ends)
    return cut, len(too_long)
