"""The labelled data of the small-scale study: parts of train, dev and test, each drawn once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.study.material import DRAWN_BY, FILES, Material, count_words, drawn, gold_entities
from lmsl.data.read import read
from lmsl.data.splits import hold_out
from lmsl.data.write import write_json
from lmsl.errors import InputError

_FILES = {
    "snips": FILES["snips"],
    # Without a dev file: a tenth of train is held out.
    "conll2000": ("train.txt", "test.txt"),
    "wnut17": FILES["wnut17"],
}
DATASETS = tuple(_FILES)


def parts(name: str, data: Path, scratch: Path, sizes: Sequence[int]) -> Material:
    """Read a data set by the package's readers and write parts of it below ``scratch``.

    Args:
        sizes: sentences of train, dev and test, at most.

    Raises:
        InputError: its files are missing or cannot be read.
    """
    paths = [data / name / file for file in _FILES[name]]
    if missing := [path for path in paths if not path.exists()]:
        raise InputError(
            f"--data {data}: expected {name} with {', '.join(_FILES[name])}, "
            f"found no {missing[0].name}"
        )
    whole = [read(path) for path in paths]
    if len(whole) == 2:
        whole[:1] = hold_out(whole[0], DRAWN_BY)[:2]
    own = [
        replace(one, sentences=tuple(drawn(one.sentences, size)))
        for one, size in zip(whole, sizes, strict=True)
    ]
    written = [
        scratch / "data" / f"{name}.{split}.{len(part)}.jsonl"
        for split, part in zip(("train", "dev", "test"), own, strict=True)
    ]
    for path, part in zip(written, own, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, part.sentences)
    words = [count_words(part.sentences) for part in own]
    return Material(
        name=name,
        part=written[0],
        whole=paths[0],
        dev=written[1],
        test=written[2],
        sentences=len(own[0]),
        whole_sentences=len(whole[0]),
        words=words[0] + 2 * words[1] + words[2],
        gold={"dev": gold_entities(own[1]), "test": gold_entities(own[2])},
    )
