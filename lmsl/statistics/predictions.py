"""A run's predictions beside gold, read back from ``predictions.*.conll``.

The general reader of columns guesses what a file means, and rightly so. These files are written by
``lmsl.data.write`` and need no guessing: three columns, an empty line after each sentence, a word
as it is even where it looks like a comment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmsl.data.formats.source import read_text
from lmsl.data.tags.schemes import IGNORED
from lmsl.data.tags.sentence import Sentence
from lmsl.data.tags.vocabulary import LabelSet
from lmsl.data.write import UNLABELLED
from lmsl.errors import InputError

DOCUMENT = "-DOCSTART-\tO\tO"
"""A block of this one line begins a document."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The sentences of a split with gold and predicted tags, IOB2 or plain."""

    sentences: tuple[Sentence, ...]
    predicted: tuple[tuple[str, ...], ...]


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
