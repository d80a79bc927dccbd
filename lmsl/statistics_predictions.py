"""A run's predictions beside gold, read back from ``predictions.*.conll`` and counted.

The general reader of columns guesses what a file means, and rightly so. These files are written by
``lmsl.write`` and need no guessing: three columns, an empty line after each sentence, a word as it
is even where it looks like a comment. Counts are those of ``lmsl.metrics``, sentence by sentence,
so that a resample of sentences is a sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmsl.errors import InputError
from lmsl.labels import IGNORED, tag_spans
from lmsl.sentence import Sentence, Span
from lmsl.source import read_text
from lmsl.vocabulary import LabelSet
from lmsl.write import UNLABELLED

DOCUMENT = "-DOCSTART-\tO\tO"
"""A block of this one line begins a document."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The sentences of a split with gold and predicted tags, IOB2 or plain."""

    sentences: tuple[Sentence, ...]
    predicted: tuple[tuple[str, ...], ...]

    @property
    def documents_known(self) -> bool:
        return any(sentence.document is not None for sentence in self.sentences)


def read_predictions(path: Path, labels: LabelSet) -> Predictions:
    """Read one file; words without a label get the tag `IGNORED` back.

    Raises:
        InputError: with file and line, for a line that is not word, gold and predicted tag.
    """
    text = read_text(path) if path.is_file() and path.stat().st_size else ""
    if not path.is_file():
        raise InputError(f"{path}: no such file; every finished run has it")
    ignored = UNLABELLED if not labels.plain or UNLABELLED not in labels else None
    sentences: list[Sentence] = []
    predicted: list[tuple[str, ...]] = []
    document: int | None = None
    line = 1
    for block in text.split("\n\n"):
        rows = [row.split("\t") for row in block.split("\n") if row]
        if block == DOCUMENT:
            document = 0 if document is None else document + 1
        elif rows:
            for offset, row in enumerate(rows):
                if len(row) != 3:
                    _refuse(path, line + offset, row)
            words, gold, tags = zip(*rows, strict=True)
            if ignored in gold:
                gold = tuple(IGNORED if tag == ignored else tag for tag in gold)
            where = f"{path}:{line}"
            sentences.append(Sentence(words=words, tags=gold, document=document, where=where))
            predicted.append(tags)
        line += block.count("\n") + 2
    return Predictions(sentences=tuple(sentences), predicted=tuple(predicted))


def _refuse(path: Path, line: int, row: Sequence[str]) -> None:
    raise InputError(
        f"{path}:{line}: expected word, gold tag and predicted tag, got {len(row)} columns; "
        "score the run anew with lmsl evaluate --predictions"
    )


class Entities:
    """The entities of tag sequences, each sequence read once: runs agree on most sentences."""

    def __init__(self, *, plain: bool) -> None:
        self._plain = plain
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
            found = frozenset(_words(tags) if self._plain else tag_spans(tags))
            self._known[tags] = found
        return found


def count(predictions: Predictions, entities: Entities) -> NDArray[np.int64]:
    """Correct, predicted and gold entities (words, where tags are plain), [sentences, 3]."""
    counts = np.zeros((len(predictions.sentences), 3), dtype=np.int64)
    pairs = zip(predictions.sentences, predictions.predicted, strict=True)
    for index, (sentence, tags) in enumerate(pairs):
        truth = sentence.tags or ()
        gold, found = entities(truth, truth), entities(tags, truth)
        counts[index] = len(gold & found), len(found), len(gold)
    return counts


def _words(tags: tuple[str, ...]) -> list[Span]:
    return [Span(start=i, end=i + 1, type=tag) for i, tag in enumerate(tags) if tag != IGNORED]
