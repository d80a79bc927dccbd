"""A peer of another library, trained and scored on the files that lmsl's trainings get.

    python -m benchmarks.study.peer crf --train FILE --dev FILE --test FILE --output FOLDER

Words, tags and the score are those of lmsl, so that the peers differ in what they predict and in
nothing else. ``FOLDER`` then holds ``metrics.json`` and predictions like that of a run. Torch is
not imported: what a peer takes of memory is its own.
"""

import importlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.study.systems import Peer
from lmsl.data.read import read
from lmsl.data.tags.metrics import score
from lmsl.data.tags.sentence import Dataset
from lmsl.data.write import write_columns
from lmsl.errors import InputError
from lmsl.run_directory.files import write_json

Tags = list[tuple[str, ...]]
Predict = Callable[[Dataset], Tags]
Fitted = tuple[Predict, str]
"""A trained peer, and what is to be said of its training."""

PACKAGES = {"crf": ("sklearn_crfsuite", "sklearn-crfsuite"), "spacy": ("spacy", "spacy")}
"""What each peer imports, and what is installed for it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is trained on what."""

    peer: tyro.conf.Positional[Peer]
    """Who."""
    train: Path
    dev: Path
    test: Path
    output: Path
    """Folder of metrics and predictions."""
    seed: int = 1


def require(peer: Peer) -> None:
    """Raise ``InputError`` where its package is missing."""
    module, package = PACKAGES[peer]
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{peer}: expected the package {package}, found none; pip install {package}, or leave "
            "it out with --systems"
        ) from error


def run(settings: Settings) -> None:
    """Train, score and write."""
    require(settings.peer)
    train, dev, test = (read(path) for path in (settings.train, settings.dev, settings.test))
    began = time.perf_counter()
    predict, said = _fit(settings, train, dev)
    spent = time.perf_counter() - began
    settings.output.mkdir(parents=True, exist_ok=True)
    metrics: dict[str, Any] = {}
    for split, data in (("dev", dev), ("test", test)):
        began = time.perf_counter()
        tags = predict(data)
        seconds = time.perf_counter() - began
        metrics[split] = score(data.sentences, tags)
        gold: Sequence[Sequence[str]] = [sentence.tags or () for sentence in data]
        write_columns(settings.output / f"predictions.{split}.conll", data.sentences, gold, tags)
    words = sum(len(sentence.words) for sentence in test)
    extra = {
        "train_seconds": round(spent, 2),
        "seconds_per_1000_words": 1e3 * seconds / max(words, 1),
        "said": said,
    }
    write_json(settings.output / "metrics.json", {**metrics, **extra})
    print(f"{settings.peer}: {said}; test F1 {100 * metrics['test']['f1']:.2f}")


def _fit(settings: Settings, train: Dataset, dev: Dataset) -> Fitted:
    if settings.peer == "crf":
        from benchmarks.study.crf import fit_crf

        return fit_crf(train, dev)
    from benchmarks.study.spacy_ner import fit_spacy

    return fit_spacy(train, dev, seed=settings.seed)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status; 2 for what a user is to know."""
    try:
        run(tyro.cli(Settings, args=argv, prog="python -m benchmarks.study.peer"))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
