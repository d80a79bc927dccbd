"""The data of the study: where each data set lies, and the part of train that everybody gets.

The part is drawn once, from a fixed seed, whatever the seed of a training: seeds then differ in
initial values, order and dropout, and not in what could be learnt from. It is written as JSON
lines, which say all that tags can say.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmsl.data.read import read
from lmsl.data.tags.schemes import tag_spans
from lmsl.data.tags.sentence import Dataset, Sentence
from lmsl.data.write import write_json
from lmsl.errors import InputError

TUNED_ON = "snips"
"""Learning rates are chosen on its dev and kept for the others."""
DRAWN_BY = 0
FILES = {
    "snips": ("train", "valid", "test"),
    "mams_atsa": ("train.xml", "val.xml", "test.xml"),
    "wnut17": ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"),
    "danish": ("da_ddt-ud-train.iob2", "da_ddt-ud-dev.iob2", "da_ddt-ud-test.iob2"),
    "swedish": (
        "sv_talbanken-ud-train.iob2",
        "sv_talbanken-ud-dev.iob2",
        "sv_talbanken-ud-test.iob2",
    ),
}
_FOLDERS = {"danish": "uner/UNER_Danish-DDT", "swedish": "uner/UNER_Swedish-Talbanken"}
"""Of those that do not lie in a folder of their name."""
_TAG_COLUMNS = {"danish": 3, "swedish": 3}
"""Where tags stand in a column that is not the last."""
DATASETS = tuple(FILES)
LANGUAGES = ("danish", "swedish")
"""Neither model has read much of them: a few systems are enough."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """One data set as the systems get it."""

    name: str
    part: Path
    """The part of train that most get."""
    whole: Path
    dev: Path
    test: Path
    sentences: int
    """Of the part."""
    whole_sentences: int
    words: int
    """Of the part, dev twice and test: what a training reads."""
    gold: dict[str, int]
    """Entities of dev and of test, those included that no tags can express."""

    def train(self, whole: bool) -> Path:
        return self.whole if whole else self.part


def material(name: str, data: Path, scratch: Path, sentences: int) -> Material:
    """Read a data set by the package's readers and write the part of train below ``scratch``.

    Raises:
        InputError: its files are missing or cannot be read.
    """
    paths = found_files(name, data, FILES[name])
    column = _TAG_COLUMNS.get(name, -1)
    train, dev, test = (read(path, tag_column=column) for path in paths)
    part = drawn(train.sentences, sentences)
    place = scratch / "data"
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{name}.{len(part)}.jsonl"
    write_json(path, part)
    if name in _TAG_COLUMNS:
        # Nobody else has to be told of the column.
        paths = [place / f"{name}.{split}.jsonl" for split in ("train", "dev", "test")]
        for own, read_from in zip(paths, (train, dev, test), strict=True):
            write_json(own, read_from.sentences)
    return Material(
        name=name,
        part=path,
        whole=paths[0],
        dev=paths[1],
        test=paths[2],
        sentences=len(part),
        whole_sentences=len(train),
        words=count_words(part) + 2 * count_words(dev.sentences) + count_words(test.sentences),
        gold={"dev": gold_entities(dev), "test": gold_entities(test)},
    )


def found_files(name: str, data: Path, files: Sequence[str]) -> list[Path]:
    """Where the files of a data set lie.

    Raises:
        InputError: one is missing.
    """
    paths = [data / _FOLDERS.get(name, name) / file for file in files]
    if missing := [path for path in paths if not path.exists()]:
        raise InputError(
            f"--data {data}: expected {name} with {', '.join(files)}, found no {missing[0].name}"
        )
    return paths


def drawn(sentences: Sequence[Sentence], count: int) -> list[Sentence]:
    """So many sentences, in the order of the file; all where there are no more."""
    picked = random.Random(DRAWN_BY).sample(range(len(sentences)), min(count, len(sentences)))
    return [sentences[index] for index in sorted(picked)]


def gold_entities(data: Dataset) -> int:
    return sum(len(tag_spans(one.tags or ())) + len(one.missed) for one in data)


def count_words(sentences: Sequence[Sentence]) -> int:
    return sum(len(one.words) for one in sentences)
