"""Choosing labels from a model's scores, and the probability of the spans chosen.

``viterbi`` finds the best sequence that is valid IOB2: an I-X follows only B-X or I-X. The scores
are the model's own log-probabilities; nothing is learned here. ``argmax`` takes every word alone,
as the papers do. A span's score is the probability of exactly that span under the distribution the
decoder uses: over valid sequences for ``viterbi`` (forward-backward), over independent words for
``argmax`` (``lmsl.data.tags.distribution``). With thresholds the spans are not those of the best
sequence but all that are probable enough (``lmsl.data.tags.thresholds``).

A temperature changes scores and never the best sequence: dividing log-probabilities keeps the
order of a word's labels and that of sums over words, and normalising a word again takes the same
from all sequences. So labels are chosen from the numbers as they come, where no rounding can
decide a tie otherwise, and scores alone see the temperature.

Sentences are decoded many at a time: sorted by length, padded with words that can only be O, which
changes neither the best path nor any probability. Legend: S sentences, T words, C labels. Labels
come in the order O, B-X, I-X, B-Y, I-Y, ... of ``lmsl.data.tags.vocabulary``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from lmsl.data.tags.distribution import Alone, Chain, Floats, Ints, Places, inside, tempered
from lmsl.data.tags.sentence import Span
from lmsl.data.tags.thresholds import probable_spans
from lmsl.data.tags.vocabulary import LabelSet

Decoder = Literal["viterbi", "argmax"]

_CELLS_PER_GROUP = 1 << 21


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One sentence's labels; spans with their probabilities (none where labels are plain, None
    where a model writes spans and gives them no probability)."""

    tags: tuple[str, ...]
    spans: tuple[Span, ...]
    scores: tuple[float | None, ...]


def decode(
    emissions: Sequence[Floats],
    labels: LabelSet,
    decoder: Decoder,
    *,
    temperature: float = 1.0,
    thresholds: Floats | None = None,
) -> list[Decoded]:
    """Decode sentences given as log-probabilities [words, C] each, in order.

    Args:
        temperature: of the probabilities of spans.
        thresholds: [types]; instead of the best labels take the spans that are as probable.
    """
    decoded: list[Decoded | None] = [None] * len(emissions)
    names = np.array(labels.names, dtype=object)
    for indices in _groups([len(each) for each in emissions], len(labels)):
        group = _padded([emissions[index] for index in indices], len(labels))
        best, found = _spans(group, labels, decoder, temperature, thresholds)
        tags = names[best].tolist()
        for index, own, (spans, scores) in zip(indices, tags, found, strict=True):
            words = len(emissions[index])
            decoded[index] = Decoded(tags=tuple(own[:words]), spans=spans, scores=scores)
    return [each for each in decoded if each is not None]


def rescored(
    decoded: Sequence[Decoded],
    emissions: Sequence[Floats],
    labels: LabelSet,
    decoder: Decoder,
    *,
    temperature: float,
) -> list[Decoded]:
    """The same tags and spans with their probabilities at another temperature."""
    found = list(decoded)
    begins = {kind: 2 * number + 1 for number, kind in enumerate(labels.types)}
    for indices in _groups([len(each) for each in emissions], len(labels)):
        group = _padded([emissions[index] for index in indices], len(labels))
        spans = [(row, span) for row, i in enumerate(indices) for span in decoded[i].spans]
        places = Places(
            rows=np.array([row for row, _ in spans], dtype=np.int64),
            starts=np.array([span.start for _, span in spans], dtype=np.int64),
            ends=np.array([span.end for _, span in spans], dtype=np.int64),
            begins=np.array([begins[span.type] for _, span in spans], dtype=np.int64),
        )
        edges = np.searchsorted(places.rows, np.arange(len(indices) + 1)).tolist()
        scores = _scores(group, decoder, temperature, places)
        for index, (first, last) in zip(indices, pairwise(edges), strict=True):
            found[index] = replace(found[index], scores=tuple(scores[first:last]))
    return found


_Found = list[tuple[tuple[Span, ...], tuple[float, ...]]]


def _spans(
    group: Floats,
    labels: LabelSet,
    decoder: Decoder,
    temperature: float,
    thresholds: Floats | None,
) -> tuple[Ints, _Found]:
    """The labels [S, T] of a group, and the spans of each sentence with their probabilities."""
    if labels.plain:
        return group.argmax(-1), [((), ())] * len(group)
    if thresholds is None:
        best = _distribution(group, decoder).best()
        places = _begun_and_continued(best)
        scores = _scores(group, decoder, temperature, places)
    else:
        softened = _distribution(tempered(group, temperature), decoder)
        places, found = probable_spans(softened, thresholds)
        best, scores = _labels(places, group.shape[:2]), found.tolist()
    kinds = [name[2:] for name in labels.names]
    spans = [
        Span(type=kinds[begin], start=start, end=end)
        for begin, start, end in zip(
            places.begins.tolist(), places.starts.tolist(), places.ends.tolist(), strict=True
        )
    ]
    edges = np.searchsorted(places.rows, np.arange(len(group) + 1)).tolist()
    own = [(tuple(spans[a:b]), tuple(scores[a:b])) for a, b in pairwise(edges)]
    return best, own


def _distribution(emissions: Floats, decoder: Decoder) -> Chain | Alone:
    return Chain(emissions) if decoder == "viterbi" else Alone(emissions)


def _scores(group: Floats, decoder: Decoder, temperature: float, places: Places) -> list[float]:
    softened = tempered(group, temperature)
    found = _distribution(softened, decoder).scores(places, inside(softened, places))
    scores: list[float] = found.tolist()
    return scores


def _begun_and_continued(best: Ints) -> Places:
    """The spans of labels [S, T], all found at once, sentence by sentence and from the left.

    A span begins at a B-X and takes every I-X right behind: entities of IOB2, strictly.
    """
    rows, starts = np.nonzero(best % 2 == 1)
    begins, ends = best[rows, starts], starts + 1
    going = np.arange(len(rows))
    while len(going):
        going = going[ends[going] < best.shape[1]]
        going = going[best[rows[going], ends[going]] == begins[going] + 1]
        ends[going] += 1
    return Places(rows=rows, starts=starts, ends=ends, begins=begins)


def _labels(places: Places, shape: tuple[int, ...]) -> Ints:
    """The labels [S, T] that have these spans, which do not overlap."""
    best = np.zeros(shape, dtype=np.int64)
    for row, start, end, begin in zip(
        places.rows, places.starts, places.ends, places.begins, strict=True
    ):
        best[row, start:end] = begin + 1
        best[row, start] = begin
    return best


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
