"""One run to be looked at: its scores, and its predictions where it still has them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmsl.data.tags.counts import Entities, sentence_counts
from lmsl.errors import InputError
from lmsl.statistics.metrics_file import SPLITS
from lmsl.statistics.predictions import Predictions, read_predictions
from lmsl.statistics.read import FinishedRun, beyond_tags, finished_run


@dataclass(frozen=True, kw_only=True)
class OneRun:
    """A run and the split that it is looked at on."""

    run: FinishedRun
    split: str
    """Test, or dev where there is no test."""
    predictions: Predictions | None
    """None where the run has no file of them."""
    beyond: Counter[str]
    """Gold entities by type that count in the scores, and that no tag shows."""

    @property
    def metrics(self) -> dict[str, Any]:
        """Of the split."""
        found: dict[str, Any] = self.run.metrics[self.split]
        return found

    @property
    def plain(self) -> bool:
        return self.run.info.labels.plain


def read_one(folder: Path) -> OneRun:
    """Read a run directory.

    Raises:
        InputError: it is none, or its files are damaged or contradict each other.
    """
    run = finished_run(folder, folder)
    scored = [split for split in SPLITS if split in run.metrics]
    if not scored:
        raise InputError(
            f"{folder / 'metrics.json'}: expected scores on {' or '.join(SPLITS)}, found none"
        )
    split = scored[-1]
    path = folder / f"predictions.{split}.conll"
    if not path.is_file():
        return OneRun(run=run, split=split, predictions=None, beyond=Counter())
    predictions = read_predictions(path, run.info.labels)
    return OneRun(
        run=run,
        split=split,
        predictions=predictions,
        beyond=_beyond(path, predictions, run),
    )


def _beyond(path: Path, predictions: Predictions, run: FinishedRun) -> Counter[str]:
    metrics = run.metrics[path.name.split(".")[1]]
    entities = Entities(plain=run.info.labels.plain)
    counts = sentence_counts(predictions.sentences, predictions.predicted, entities)
    number = beyond_tags(path, counts.sum(axis=0), metrics)
    known = Counter({kind: rates["gold"] for kind, rates in metrics["per_type"].items()})
    for sentence in predictions.sentences:
        truth = tuple(sentence.tags or ())
        known.subtract(span.type for span in entities(truth, truth))
    if min(known.values(), default=0) < 0 or known.total() != number:
        raise InputError(
            f"{path}: expected the gold entities of each type that metrics.json counts, found "
            "others; the two files are not of one run"
        )
    return +known
