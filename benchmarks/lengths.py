"""Sentences of real lengths without their words, for benchmarks that only care how long they are.

``lengths.json`` counts the sentences of the training parts of CoNLL-2003 (English) and CoNLL-2000
by length: sub-words of the Llama 2 tokenizer, one token at the beginning included. Nothing else of
the data is in it. A task is made of them by drawing lengths in these proportions; ids and labels
are random, and the sub-words of a sentence are shared out evenly among as many words as sentences
of this length have on average.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmsl.errors import InputError
from lmsl.examples import Example
from lmsl.loop import Task

PREFIX = "lengths:"
_FILE = Path(__file__).parent / "lengths.json"


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long the sentences of a data set are."""

    classes: int
    """Tags of the data in IOB2, O among them."""
    words: int
    sentences: dict[int, int]
    """Number of sentences by number of sub-words."""

    @property
    def mean(self) -> float:
        return sum(n * count for n, count in self.sentences.items()) / self.count

    @property
    def count(self) -> int:
        return sum(self.sentences.values())

    @property
    def words_per_token(self) -> float:
        """The token at the beginning is of no word."""
        return self.words / (self.count * (self.mean - 1))


def known_lengths() -> dict[str, Lengths]:
    """All that ship, by name."""
    found = json.loads(_FILE.read_text(encoding="utf-8"))
    return {
        name: Lengths(
            classes=one["classes"],
            words=one["words"],
            sentences=dict(one["sentences_by_length"]),
        )
        for name, one in found.items()
    }


def lengths_of(data: str) -> Lengths:
    """Those of ``lengths:NAME``.

    Raises:
        InputError: there is no such name.
    """
    known, name = known_lengths(), data.removeprefix(PREFIX)
    if name not in known:
        raise InputError(f"--data {data}: expected one of {', '.join(known)}")
    return known[name]


def length_task(lengths: Lengths, *, sentences: int, vocabulary: int, seed: int) -> Task:
    """Sentences with random ids and labels whose lengths are drawn from ``lengths``.

    Args:
        sentences: how many.
        vocabulary: ids are below it; 0 begins every sentence.
        seed: of lengths, ids and labels.
    """
    generator = np.random.default_rng(seed)
    sizes = np.array(list(lengths.sentences))
    shares = np.array(list(lengths.sentences.values())) / lengths.count
    drawn = generator.choice(sizes, sentences, p=shares).tolist()
    examples, labels = [], []
    for sentence, size in enumerate(drawn):
        words = max(1, round((size - 1) * lengths.words_per_token))
        edges = np.linspace(1, size, words + 1).round().astype(np.int32)
        ids = generator.integers(1, vocabulary, size, dtype=np.int32)
        ids[0] = 0
        own = Example(ids=ids, sentence=sentence, first_word=0, starts=edges[:-1], ends=edges[1:])
        examples.append([own])
        labels.append(generator.integers(0, lengths.classes, words).tolist())
    names = [f"random sentence {number + 1}" for number in range(sentences)]
    return Task(examples=examples, labels=labels, names=names)
