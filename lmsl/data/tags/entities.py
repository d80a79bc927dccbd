"""What was decoded of a sentence as entities, with places in its text."""

from dataclasses import dataclass
from itertools import accumulate

from lmsl.data.tags.decode import Decoded
from lmsl.data.tags.sentence import Sentence


@dataclass(frozen=True, kw_only=True)
class Entity:
    """One entity found in a text."""

    start: int
    end: int
    """Characters [start, end) of the text as given; of ``" ".join(words)`` for a word list."""
    label: str
    score: float | None
    """Probability of exactly this span under the run's decoder; None of spans that a model
    wrote."""
    text: str
    start_word: int
    end_word: int


def entities(sentence: Sentence, decoded: Decoded) -> list[Entity]:
    """The spans of a decoded sentence with characters of its text."""
    text = " ".join(sentence.words) if sentence.text is None else sentence.text
    offsets = word_offsets(sentence)
    found = []
    for span, probability in zip(decoded.spans, decoded.scores, strict=True):
        start, end = offsets[span.start][0], offsets[span.end - 1][1]
        found.append(
            Entity(
                start=start,
                end=end,
                label=span.type,
                score=probability,
                text=text[start:end],
                start_word=span.start,
                end_word=span.end,
            )
        )
    return found


def word_offsets(sentence: Sentence) -> tuple[tuple[int, int], ...]:
    """Characters of each word: in the text as given, or in the words joined by single spaces."""
    if sentence.offsets is not None:
        return sentence.offsets
    ends = list(accumulate(len(word) + 1 for word in sentence.words))
    return tuple(
        (end - 1 - len(word), end - 1) for word, end in zip(sentence.words, ends, strict=True)
    )
