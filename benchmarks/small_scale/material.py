"""The labelled data of the small-scale study: parts of train, dev and test, each drawn once."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.study.material import (
    DRAWN_BY,
    FILES,
    Material,
    count_words,
    drawn,
    found_files,
    gold_entities,
)
from lmsl.data.read import read
from lmsl.data.splits import hold_out
from lmsl.data.tags.sentence import Dataset
from lmsl.data.write import write_json

_FILES = {
    "snips": FILES["snips"],
    # Without a dev file: a tenth of train is held out.
    "conll2000": ("train.txt", "test.txt"),
    "mams_atsa": FILES["mams_atsa"],
    "wnut17": FILES["wnut17"],
}
DATASETS = tuple(_FILES)
SHORT = ("snips", "conll2000", "mams_atsa")
"""Those that few updates suffice for: after 150 of 16 sentences neither a model of 122,880 tokens
nor `tiny` found a name of wnut17 (`1111`, one seed)."""


def parts(name: str, data: Path, scratch: Path, sizes: Sequence[int]) -> Material:
    """Read a data set by the package's readers and write parts of it below ``scratch``.

    Args:
        sizes: sentences of train, dev and test, at most.

    Raises:
        InputError: its files are missing or cannot be read.
    """
    paths = found_files(name, data, _FILES[name])
    whole = [read(path) for path in paths]
    if len(whole) == 2:
        whole[:1] = hold_out(whole[0], DRAWN_BY)[:2]
    files: list[Path | None] = [*paths] if len(paths) == 3 else [None, None, paths[1]]
    own = [
        _part(one, size, file, scratch / "data" / f"{name}.{split}.{size}.jsonl")
        for one, size, file, split in zip(
            whole, sizes, files, ("train", "dev", "test"), strict=True
        )
    ]
    words = [count_words(part.sentences) for _, part in own]
    return Material(
        name=name,
        part=own[0][0],
        whole=paths[0],
        dev=own[1][0],
        test=own[2][0],
        sentences=len(own[0][1]),
        whole_sentences=len(whole[0]),
        words=words[0] + 2 * words[1] + words[2],
        gold={"dev": gold_entities(own[1][1]), "test": gold_entities(own[2][1])},
    )


def _part(whole: Dataset, size: int, file: Path | None, new: Path) -> tuple[Path, Dataset]:
    """A file with so many sentences of a split, and what it holds.

    Args:
        file: the one that holds the whole split, which is read where it lies if it is no longer;
            None where there is none.
        new: where the part is written.
    """
    if file is not None and len(whole) <= size:
        return file, whole
    new.parent.mkdir(parents=True, exist_ok=True)
    write_json(new, drawn(whole.sentences, size))
    return new, read(new)
