"""The train, dev and test data of a run, from files, a folder, a generator or a hub dataset.

Where no dev data is given, a part of train is held out. Which part depends on the split seed
alone, never on the training seed, so that runs with different seeds are compared on the same
sentences; and it takes whole documents, because sentences of one document share their names.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lmsl.data.formats.options import ReadOptions
from lmsl.data.read import data_files, read_with
from lmsl.data.synthetic import load
from lmsl.data.tags.schemes import IGNORED, OUTSIDE, Scheme
from lmsl.data.tags.sentence import Dataset
from lmsl.data.tags.vocabulary import LabelSet, check_labels, label_vocabulary
from lmsl.errors import InputError
from lmsl.wording import counted, quoted, shortened

HELD_OUT = 0.1
_NAMES = {
    "train": ("train", "training"),
    "dev": ("dev", "valid", "val", "validation", "devel", "development"),
    "test": ("test",),
}


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The data of a run."""

    train: Dataset
    dev: Dataset
    test: Dataset | None
    labels: LabelSet
    """All labels of the training data as given, held-out sentences included."""
    notes: tuple[str, ...]
    """The notes of all splits, with their sources, and how dev was held out."""

    @property
    def dev_tells_nothing(self) -> bool:
        """Whether dev holds no entity: every model scores 0 on it."""
        tags = {tag for sentence in self.dev for tag in sentence.tags or ()}
        missed = any(sentence.missed for sentence in self.dev)
        return not (self.labels.plain or missed or tags - {OUTSIDE, IGNORED})


def load_splits(
    *,
    data: str | None = None,
    train: str | Path | None = None,
    dev: str | Path | None = None,
    test: str | Path | None = None,
    options: ReadOptions | None = None,
    split_seed: int = 0,
) -> Splits:
    """Load the splits of a run and check their labels.

    `data` is a folder (`train.*`, `dev|valid|val.*`, `test.*`, or sub-folders of these names),
    ``synthetic:DIAL`` or the name of a Hugging Face dataset; files named explicitly win over it.
    Raises InputError where nothing can be trained on or dev and test have labels unknown to train.
    """
    options = options or ReadOptions()
    found = _from_data(data, options) if data is not None else {}
    for name, path in (("train", train), ("dev", dev), ("test", test)):
        if path is not None:
            found[name] = path
    if "train" not in found:
        raise InputError("no training data: name it with --train FILE or --data DIR|NAME")
    whole = _loaded(found["train"], options)
    if options.scheme == "auto" and whole.scheme in ("plain", "bare"):
        # A short dev file without a single prefix must not be read differently from train.
        options = replace(options, scheme=_as_scheme(whole.scheme))
    others = {name: _loaded(found[name], options) for name in ("dev", "test") if name in found}
    if "dev" in others and split_seed:
        raise InputError(
            f"--split-seed {split_seed}: expected data without dev, of which it holds a part out, "
            f"got {others['dev'].source}; leave it out"
        )
    labels = label_vocabulary([whole])
    if len(labels) < 2:
        raise InputError(
            f"{whole.source}: expected two labels or more to tell apart, found "
            f"{quoted(labels.names[0])} on every word that has one; is it the right column?"
        )
    for dataset in others.values():
        check_labels(dataset, labels)
    notes = [f"{d.source}: {note}" for d in (whole, *others.values()) for note in d.notes]
    training = whole
    if "dev" not in others:
        training, others["dev"], note = hold_out(whole, split_seed)
        notes.append(note)
    return Splits(
        train=training,
        dev=others["dev"],
        test=others.get("test"),
        labels=labels,
        notes=tuple(notes),
    )


def hold_out(dataset: Dataset, split_seed: int) -> tuple[Dataset, Dataset, str]:
    """Split a tenth of the sentences off; returns the rest, the held-out part and a note.

    Documents stay whole where there are at least two. They are taken in a shuffled order as long
    as they do not exceed the tenth by half; where every one is larger, the smallest is taken.
    """
    groups: dict[str, list[int]] = {}
    for index, sentence in enumerate(dataset.sentences):
        key = f"#{index}" if sentence.document is None else f"d{sentence.document}"
        groups.setdefault(key, []).append(index)
    documents = len(groups) > 1 and any(s.document is not None for s in dataset)
    if not documents:
        groups = {str(index): [index] for index in range(len(dataset))}
    if len(dataset) < 2:
        raise InputError(
            f"{dataset.source}: too short to hold dev data out of; name it with --dev"
        )
    wanted = max(1, round(HELD_OUT * len(dataset)))
    order = sorted(groups)
    random.Random(split_seed).shuffle(order)
    held: set[int] = set()
    for key in order:
        if len(held) < wanted and len(held) + len(groups[key]) <= max(1, 1.5 * wanted):
            held.update(groups[key])
    if not held:
        held.update(groups[min(order, key=lambda key: len(groups[key]))])
    parts = [
        replace(dataset, sentences=tuple(s for i, s in enumerate(dataset) if (i in held) == side))
        for side in (False, True)
    ]
    share = f"{len(held)} of {counted(len(dataset), 'sentence')} ({len(held) / len(dataset):.1%})"
    kind = "whole documents" if documents else "single sentences"
    note = (
        f"{dataset.source}: no dev data, held {share} out as dev, {kind}, split seed {split_seed}"
    )
    source = f"{dataset.source} (held out)"
    return parts[0], replace(parts[1], source=source, notes=()), note


def _loaded(source: Dataset | str | Path, options: ReadOptions) -> Dataset:
    return source if isinstance(source, Dataset) else read_with(source, options)


def _as_scheme(name: str) -> Scheme:
    return "plain" if name == "plain" else "bare"


def _from_data(data: str, options: ReadOptions) -> dict[str, Dataset | str | Path]:
    name, _, dial = data.partition(":")
    if name == "synthetic":
        return dict(load(_dial(dial)) if dial else load())
    if Path(data).is_dir():
        return dict(find_splits(Path(data)))
    if Path(data).exists():
        raise InputError(f"--data {data}: expected a folder or a name; name files with --train")
    from lmsl.data.from_hub import read_hub

    return dict(read_hub(data, options))


def _dial(text: str) -> float:
    try:
        dial = float(text)
    except ValueError:
        dial = -1.0
    if not 0 <= dial <= 1:
        raise InputError(
            f"--data synthetic:DIAL: expected a number from 0 to 1, got {quoted(text)}"
        )
    return dial


def find_splits(folder: Path) -> dict[str, Path]:
    """Find the splits in a folder by name: `train.txt`, `val.xml`, `da-ud-test.iob2`, `valid/`.

    A file or sub-folder named exactly after a split is preferred to one with the split's name as
    a part of its own. InputError where a split has several candidates or train has none.
    """
    entries = [*data_files(folder), *sorted(path for path in folder.iterdir() if path.is_dir())]
    found = {}
    for split, names in _NAMES.items():
        exact = [path for path in entries if path.name.lower().split(".")[0] in names]
        parts = [path for path in entries if set(names) & set(_parts(path))]
        candidates = exact or parts
        if len(candidates) > 1:
            listed = shortened(", ".join(path.name for path in candidates))
            raise InputError(
                f"{folder}: expected one {split} file, found {listed}; name it with --{split}"
            )
        if candidates:
            found[split] = candidates[0]
    if "train" not in found:
        listed = shortened(", ".join(path.name for path in entries[:8])) or "nothing"
        raise InputError(f"{folder}: expected train.*, dev.* and test.*, found {listed}")
    return found


def _parts(path: Path) -> Sequence[str]:
    return re.split(r"[^a-z0-9]+", path.name.lower())
