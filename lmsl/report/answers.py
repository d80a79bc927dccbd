"""``lmsl predict --html``: a page of what a run found, from a stream of any length.

A page has room for some hundreds of sentences. Of more a uniform sample is kept while they pass
(reservoir sampling: Vitter 1985, algorithm R; ACM Transactions on Mathematical Software 11), from
a fixed seed, so that the same input gives the same page. Counts are of the whole input.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmsl.data.tags.decode import Decoded
from lmsl.data.tags.schemes import OUTSIDE
from lmsl.data.tags.sentence import Sentence, Span
from lmsl.report.html import rendered, write_page
from lmsl.report.sentences import MOST_SENTENCES, MOST_WORDS
from lmsl.run_directory.info import RunInfo
from lmsl.visible import visible

HUES = 8
"""Colours; the most frequent types have one each, the others share a grey."""
MOST_LISTED = 40
"""Types in the legend."""
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Part:
    """A stretch of a sentence: an entity, or what stands between two."""

    text: str
    type: str | None = None
    score: float | None = None
    gap: str = ""
    """What stands behind it: a space as a rule."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A sentence as it is shown."""

    number: int
    """In the input, from 1."""
    parts: tuple[Part, ...]
    cut: int
    """Words that are not shown."""

    @property
    def found(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.type is not None)


class AnswerSample:
    """What passed by: some of it to show, counts of all."""

    def __init__(self, *, plain: bool, most: int = MOST_SENTENCES) -> None:
        self.counts: Counter[str] = Counter()
        """Entities by type; words by tag, where tags are plain."""
        self.sentences = 0
        self.empty = 0
        """Sentences in which nothing was found."""
        self._plain, self._most = plain, most
        self._kept: list[Answer] = []
        self._random = random.Random(_SEED)

    def add(self, sentences: Sequence[Sentence], decoded: Sequence[Decoded]) -> None:
        """Sentences with their answers, in the order of the input."""
        for sentence, answer in zip(sentences, decoded, strict=True):
            found = self._entities(answer)
            self.counts.update(span.type for span, _ in found)
            self.sentences += 1
            self.empty += not found
            if len(self._kept) < self._most:
                self._kept.append(_shown(self.sentences, sentence, found))
            elif (place := self._random.randrange(self.sentences)) < self._most:
                self._kept[place] = _shown(self.sentences, sentence, found)

    @property
    def kept(self) -> list[Answer]:
        """In the order of the input."""
        return sorted(self._kept, key=lambda answer: answer.number)

    def _entities(self, answer: Decoded) -> list[tuple[Span, float | None]]:
        if self._plain:
            words = enumerate(answer.tags)
            return [(Span(start=i, end=i + 1, type=tag), None) for i, tag in words]
        return sorted(zip(answer.spans, answer.scores, strict=True), key=lambda pair: pair[0])


def write_answers_page(
    target: Path, sample: AnswerSample, info: RunInfo, *, source: str, whole: bool
) -> str:
    """Write the page; a line on it.

    Args:
        source: what was read.
        whole: whether it was read to its end.

    Raises:
        InputError: it cannot be written there.
    """
    return write_page(target, answers_page(sample, info, source=source, whole=whole), "--html")


def answers_page(sample: AnswerSample, info: RunInfo, *, source: str, whole: bool) -> str:
    """The HTML of the page."""
    order = sorted(sample.counts, key=lambda kind: (-sample.counts[kind], kind))
    hues = {kind: str(place) for place, kind in enumerate(order[:HUES])}
    if OUTSIDE in hues and info.labels.plain:
        hues[OUTSIDE] = "none"
    shown = sample.kept
    types = sorted({part.type for answer in shown for part in answer.found if part.type})
    place = {kind: index for index, kind in enumerate(types)}
    # "type.score" of each entity, by index and in ten-thousandths, for the filters.
    keys = {
        answer.number: " ".join(
            f"{place[part.type]}.{'' if part.score is None else round(10_000 * part.score)}"
            for part in answer.found
            if part.type is not None
        )
        for answer in shown
    }
    return rendered(
        "answers.html",
        title=Path(source).name or source,
        info=info,
        sample=sample,
        whole=whole,
        legend=[(kind, hues.get(kind, "none"), sample.counts[kind]) for kind in order],
        most_listed=MOST_LISTED,
        hues=hues,
        shown=shown,
        types=types,
        keys=keys,
        scored=any(part.score is not None for answer in shown for part in answer.found),
        most_words=MOST_WORDS,
    )


def _shown(number: int, sentence: Sentence, found: Sequence[tuple[Span, float | None]]) -> Answer:
    """Cut to `MOST_WORDS`, so that what is kept is small however long the input is."""
    words = min(len(sentence.words), MOST_WORDS)
    parts: list[Part] = []
    place = 0
    for span, score in found:
        if span.start >= words:
            break
        if place < span.start:
            parts.append(_part(sentence, place, span.start))
        place = min(span.end, words)
        parts.append(_part(sentence, span.start, place, span.type, score))
    if place < words:
        parts.append(_part(sentence, place, words))
    return Answer(number=number, parts=tuple(parts), cut=len(sentence.words) - words)


def _part(
    sentence: Sentence, start: int, end: int, type_: str | None = None, score: float | None = None
) -> Part:
    """Words [start, end) as they stood."""
    words = [visible(word) for word in sentence.words[start:end]]
    gaps = [_gap(sentence, place) for place in range(start, end)]
    pairs = zip(words, (*gaps[:-1], ""), strict=True)
    text = "".join(word + gap for word, gap in pairs)
    return Part(text=text, type=type_, score=score, gap=gaps[-1])


def _gap(sentence: Sentence, word: int) -> str:
    """What stands behind a word."""
    text, offsets = sentence.text, sentence.offsets
    if text is None or offsets is None or word + 1 == len(offsets):
        return " "
    gap = text[offsets[word][1] : offsets[word + 1][0]]
    return visible(gap) if gap.strip() else gap and " "
