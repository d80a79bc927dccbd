"""``lmsl data``: look at files before training on them, and convert them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from lmsl.data.dependency import Trees
from lmsl.data.describe import between, check, counts
from lmsl.data.formats.options import ReadOptions
from lmsl.data.read import read_with
from lmsl.data.splits import find_splits
from lmsl.data.tags.sentence import Dataset
from lmsl.data.write import convert
from lmsl.errors import InputError


def check_files(
    names: Sequence[str],
    options: ReadOptions,
    tokenizer: str | None,
    trees: Trees | None = None,
    *,
    as_json: bool = False,
) -> tuple[str, bool]:
    """A report on files (or on the splits of one folder), and whether nothing was amiss in them.

    Args:
        tokenizer: also report lengths in its sub-words.
        trees: also report the right-side dependency under them.
        as_json: report counts, for machines.

    Raises:
        InputError: a file cannot be read, or there is no such tokenizer.
    """
    datasets = _read_all(names, options)
    count = None
    if tokenizer is not None:
        # The only part that needs torch and transformers.
        from lmsl.tagger.base import load_tokenizer

        try:
            count = _counter(load_tokenizer(tokenizer))
        except InputError as error:
            raise InputError(str(error).replace("--model", "--tokenizer", 1)) from error
    beside = between(datasets)
    amiss = beside.amiss or any(
        dataset.repairs or dataset.doubts or any(sentence.missed for sentence in dataset)
        for dataset in datasets.values()
    )
    if as_json:
        found = {"files": counts(datasets), "between": beside.lines, "clean": not amiss}
        return json.dumps(found, indent=2, ensure_ascii=False), not amiss
    return check(datasets, count, trees), not amiss


def convert_file(
    names: Sequence[str],
    output: Path | None,
    kind: Literal["columns", "json"],
    options: ReadOptions,
    say: Callable[[str], None],
) -> None:
    """Rewrite one file or folder in another format.

    Raises:
        InputError: several sources, no output, or an output that is there already.
    """
    if len(names) != 1 or output is None:
        raise InputError("data convert: expected one file and --output FILE")
    if output.exists():
        raise InputError(f"--output {output}: is there already; choose another name")
    for note in convert(names[0], output, kind, options):
        say(note)


def _read_all(names: Sequence[str], options: ReadOptions) -> dict[str, Dataset]:
    if not names:
        raise InputError("data: expected one or more files or folders, got none")
    paths = {name: Path(name) for name in names}
    if len(names) == 1 and Path(names[0]).is_dir() and not (Path(names[0]) / "seq.in").exists():
        try:
            paths = {split: Path(path) for split, path in find_splits(Path(names[0])).items()}
        except InputError as error:
            if "expected one " in str(error):
                reason, _, _ = str(error).partition(";")
                raise InputError(f"{reason}; name the files instead of the folder") from error
            # No folder of splits: then it is one split of many files, or the reader says why not.
            paths = {names[0]: Path(names[0])}
    return {name: read_with(path, options) for name, path in paths.items()}


def _counter(tokenizer: object) -> Callable[[Sequence[str]], list[int]]:
    from lmsl.packs.alignment import Aligner

    aligner = Aligner(tokenizer)

    def count(words: Sequence[str]) -> list[int]:
        (encoding,) = aligner.encode([words])
        return [int(size) for size in encoding.ends - encoding.starts]

    return count
