"""Sentences of real lengths without their words, for benchmarks that only care how long they are.

``lengths.json`` counts the sentences of the training parts of CoNLL-2003 (English) and CoNLL-2000
by length: sub-words of the Llama 2 tokenizer, one token at the beginning included. Nothing else of
the data is in it. A task is made of them by drawing lengths in these proportions; ids and labels
are random, and the sub-words of a sentence are shared out evenly among as many words as sentences
of this length have on average. The file is written, or entries of it anew, by

    python -m benchmarks.shared.lengths conll2000=train.txt --tokenizer FOLDER

where FOLDER holds the tokenizer of Llama 2, or one with the same sub-words, such as Phi-3-mini's.
"""

import argparse
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.shared import shapes
from benchmarks.shared.flags import status_of
from lmsl.data.read import read
from lmsl.data.tags.vocabulary import label_vocabulary
from lmsl.errors import InputError
from lmsl.packs.alignment import Aligner
from lmsl.packs.examples import Example
from lmsl.tagger.base import load_tokenizer
from lmsl.training.loop import Task

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


def known_lengths(file: Path = _FILE) -> dict[str, Lengths]:
    """All that ship, or of another file of their kind, by name."""
    found = json.loads(file.read_text(encoding="utf-8"))
    return {
        name: Lengths(
            classes=one["classes"],
            words=one["words"],
            sentences=dict(one["sentences_by_length"]),
        )
        for name, one in found.items()
    }


def lengths_of(data: str, model: str) -> Lengths | None:
    """Those of ``lengths:NAME``; None where ``--data`` is of words.

    Raises:
        InputError: there is no such name, or the model has no tokenizer for words.
    """
    if data.startswith(PREFIX):
        known, name = known_lengths(), data.removeprefix(PREFIX)
        if name not in known:
            raise InputError(f"--data {data}: expected one of {', '.join(known)}")
        return known[name]
    if model.startswith(shapes.PREFIX):
        raise InputError(
            f"--model {model}: has no tokenizer; expected --data lengths:NAME beside it"
        )
    return None


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


def main(argv: Sequence[str] | None = None) -> int:
    """Count files and write their entries; 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shared.lengths")
    parser.add_argument("files", nargs="+", metavar="NAME=FILE", help="labelled files")
    parser.add_argument("--tokenizer", required=True, help="hub id or folder of a model")
    parser.add_argument("--output", type=Path, default=_FILE, help="where other entries stay")
    given = parser.parse_args(argv)
    return status_of(lambda: _count(given.files, given.tokenizer, given.output))


def _count(files: Sequence[str], tokenizer: str, output: Path) -> None:
    known = known_lengths(output) if output.exists() else {}
    aligner = Aligner(load_tokenizer(tokenizer))
    for pair in files:
        name, equals, file = pair.partition("=")
        if not (name and equals and file):
            raise InputError(f"expected NAME=FILE, got {pair!r}")
        one = known[name] = counted(Path(file), aligner)
        print(f"{name}: {one.count:,} sentences, {one.words:,} words, mean {one.mean:.2f}")
    output.write_text(as_json(known), encoding="utf-8")


def counted(file: Path, aligner: Aligner) -> Lengths:
    """The lengths of a labelled file, one token at the beginning counted in any case.

    Raises:
        InputError: it cannot be read.
    """
    data = read(file)
    words = [sentence.words for sentence in data.sentences if sentence.words]
    # Some tokenizers leave the beginning out; the models are made for it all the same.
    begin = 1 - len(aligner.bos)
    sizes = Counter(len(encoding.ids) + begin for encoding in aligner.encode(words))
    return Lengths(
        classes=len(label_vocabulary([data])),
        words=sum(map(len, words)),
        sentences=dict(sorted(sizes.items())),
    )


def as_json(known: Mapping[str, Lengths]) -> str:
    """The text of ``lengths.json``."""
    entries = []
    for name, one in known.items():
        # Spaces inside a pair are put back after the lines are broken.
        pairs = ", ".join(f"[{size},\0{count}]" for size, count in one.sentences.items())
        lines = textwrap.fill(pairs, 98, initial_indent="    ", subsequent_indent="    ")
        begin = f'  {json.dumps(name)}: {{"classes": {one.classes}, "words": {one.words}, '
        entries.append(begin + '"sentences_by_length": [\n' + lines.replace("\0", " ") + "\n  ]}")
    return "{\n" + ",\n".join(entries) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
