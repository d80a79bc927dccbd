"""A folder of runs as tables of counts: strings by seeds by sentences.

Comparisons are paired. Equal seeds saw equal batches under every string, and all runs were scored
on the same sentences, so the table is complete: strings that lack a seed are left out of it, or
the seed is, whichever keeps more runs, and that is said. Units of resampling are documents where
the files tell them apart, else sentences.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmsl.config.strings import all_causal
from lmsl.data.tags.counts import Entities, sentence_counts
from lmsl.errors import InputError
from lmsl.run_directory.digests import check_run_files
from lmsl.run_directory.folder import CHECKPOINT, PRUNED
from lmsl.run_directory.info import INFO, RunInfo, read_info
from lmsl.statistics.metrics_file import SPLITS, check_seconds, read_metrics
from lmsl.statistics.predictions import Predictions, read_predictions
from lmsl.wording import counted

Floats = NDArray[np.float64]

_SEED = re.compile(r"seed\d+")


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A finished run."""

    folder: Path
    name: str
    """Its string, with what else the folders say of it (``lr=0.001/0011``)."""
    info: RunInfo
    metrics: dict[str, Any]

    @property
    def causal(self) -> bool:
        """A labeler of which no layer sees to the right."""
        return all_causal(self.info.unmask) and self.info.task == "label"

    @property
    def full(self) -> bool:
        """Every layer does."""
        return self.info.unmask == "full" or set(self.info.unmask) == {"1"}


@dataclass(frozen=True, kw_only=True)
class Split:
    """The counts of one split under the compared runs: F1 = sum of hits / sum of sizes."""

    hits: Floats
    """[strings, seeds, units]: twice the correct entities."""
    sizes: Floats
    """[strings, seeds, units]: gold and predicted entities."""
    beyond: float
    """Gold entities that no tag shows: they count in every score and cannot be resampled."""
    unit: str
    """What is resampled: documents or sentences."""
    sentences: int

    @classmethod
    def of(
        cls, table: NDArray[np.int64], *, unit: str, sentences: int, beyond: int = 0
    ) -> "Split":
        """From gold, predicted and correct entities, [strings, seeds, units, 3]."""
        counts = table.astype(np.float64)
        return cls(
            hits=2 * counts[..., 2],
            sizes=counts[..., 0] + counts[..., 1],
            beyond=float(beyond),
            unit=unit,
            sentences=sentences,
        )


@dataclass(frozen=True, kw_only=True)
class FinishedSweep:
    """The compared runs and their counts."""

    folder: Path
    names: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: tuple[tuple[FinishedRun, ...], ...]
    """For each string, its runs by seed."""
    splits: dict[str, Split]
    plain: bool
    notes: tuple[str, ...]
    """Lines for people: what was left out of the comparison, and why."""

    @property
    def metric(self) -> str:
        return "accuracy" if self.plain else "F1"


def read_sweep(folder: Path) -> FinishedSweep:
    """Read every finished run below ``folder`` (or the run that it is).

    Raises:
        InputError: no runs, runs on different sentences, or files that contradict each other.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: expected a run or the folder of a sweep, found no such folder"
        )
    found = [finished_run(folder, path.parent) for path in sorted(folder.rglob(INFO))]
    if not found:
        if any(folder.rglob(CHECKPOINT)):
            raise InputError(f"{folder}: interrupted, no run is finished; go on with --resume")
        raise InputError(
            f"{folder}: expected finished runs below it, found no {INFO}; train with --output"
        )
    if len({run.info.labels.plain for run in found}) > 1:
        raise InputError(f"{folder}: expected runs of one task, found entities and plain tags")
    table, seeds, notes = _complete(found)
    if older := sum(run.info.digests is None for run in found):
        notes.append(f"{counted(older, 'run')} older than digests of runs: files unchecked")
    unfinished = sum(not (p.parent / INFO).exists() for p in folder.rglob(CHECKPOINT))
    if unfinished:
        notes.append(f"{counted(unfinished, 'unfinished run')} left out")
    if pruned := sum(1 for _ in folder.rglob(PRUNED)):
        notes.append(f"{counted(pruned, 'pruned run')} left out, of strings that had lost on dev")
    runs = tuple(tuple(each[seed] for seed in seeds) for each in table.values())
    splits = {}
    for split in SPLITS:
        lacking = [r for row in runs for r in row if split not in r.metrics]
        if not lacking:
            splits[split] = _split(runs, split)
        elif split == "dev" or len(lacking) < len(runs) * len(seeds):
            raise InputError(f"{lacking[0].folder}: expected scores on {split}, found none")
    for run in (run for row in runs for run in row):
        check_seconds(run.folder / "metrics.json", run.metrics)
    return FinishedSweep(
        folder=folder,
        names=tuple(table),
        seeds=tuple(seeds),
        runs=runs,
        splits=splits,
        plain=found[0].info.labels.plain,
        notes=tuple(notes),
    )


def finished_run(root: Path, folder: Path) -> FinishedRun:
    """A run, named by where it is below ``root``.

    Raises:
        InputError: it is none, or its files are no longer those that the training wrote.
    """
    info = read_info(folder)
    if info.digests is not None:
        check_run_files(folder, info.digests, lambda name: True)
    parts = list(folder.relative_to(root).parts)
    if parts and _SEED.fullmatch(parts[-1]):
        parts.pop()
    if info.task == "generate":
        parts = [*(part for part in parts if part not in (info.unmask, info.task)), info.task]
    elif info.unmask not in parts:
        parts.append(info.unmask)
    metrics = read_metrics(folder / "metrics.json")
    return FinishedRun(folder=folder, name="/".join(parts), info=info, metrics=metrics)


def _complete(
    found: Sequence[FinishedRun],
) -> tuple[dict[str, dict[int, FinishedRun]], list[int], list[str]]:
    """The strings and seeds that form the largest table without holes, and what is not in it."""
    table: dict[str, dict[int, FinishedRun]] = {}
    for run in found:
        row = table.setdefault(run.name, {})
        if run.info.seed in row:
            raise InputError(
                f"{run.folder}: string {run.name} has seed {run.info.seed} already, in "
                f"{row[run.info.seed].folder}; report one sweep at a time"
            )
        row[run.info.seed] = run
    candidates = [frozenset(row) for row in table.values()]
    candidates.append(frozenset.intersection(*candidates))
    holders = {c: [name for name in table if c <= table[name].keys()] for c in candidates if c}
    seeds = max(holders, key=lambda c: (len(c) * len(holders[c]), len(holders[c]), sorted(c)))
    kept = {name: table[name] for name in sorted(holders[seeds], key=_order)}
    notes = [
        f"{name} left out of the comparison: it lacks seed "
        + " ".join(map(str, sorted(seeds - row.keys())))
        for name, row in table.items()
        if name not in kept
    ]
    if others := sorted(set().union(*(row.keys() for row in kept.values())) - seeds):
        listed = " ".join(map(str, others))
        notes.append(f"seed {listed} left out of the comparison: not every string has it")
    return kept, sorted(seeds), notes


def _order(name: str) -> tuple[int, int, str]:
    """Strings of bits as numbers, shorter ones first; other names behind."""
    bits = set(name) <= {"0", "1"}
    return (0, len(name), name) if bits else (1, 0, name)


def _split(runs: Sequence[Sequence[FinishedRun]], split: str) -> Split:
    """The counts of all runs on one split, summed over its units."""
    first: Predictions | None = None
    counts = []
    beyond: set[int] = set()
    entities = Entities(plain=runs[0][0].info.labels.plain)
    for run in (run for row in runs for run in row):
        path = run.folder / f"predictions.{split}.conll"
        predictions = read_predictions(path, run.info.labels)
        first = first or predictions
        if not _same_sentences(first, predictions):
            raise InputError(
                f"{path}: expected the sentences and gold tags of "
                f"{runs[0][0].folder / path.name}, found others; report one task at a time"
            )
        found = sentence_counts(predictions.sentences, predictions.predicted, entities)
        beyond.add(beyond_tags(path, found.sum(axis=0), run.metrics[split]))
        counts.append(found)
    assert first is not None
    if len(beyond) > 1:
        raise InputError(
            f"{runs[0][0].folder.parent}: expected equal numbers of gold entities on {split} in "
            "every metrics.json, found different ones; report one task at a time"
        )
    starts, unit = _units(first)
    table = np.stack(counts)
    if len(starts):
        table = np.add.reduceat(table, starts, axis=1)
    table = table.reshape(len(runs), len(runs[0]), -1, 3)
    return Split.of(table, unit=unit, sentences=len(first.sentences), beyond=beyond.pop())


def _same_sentences(first: Predictions, other: Predictions) -> bool:
    return len(first.sentences) == len(other.sentences) and all(
        a.words == b.words and a.tags == b.tags
        for a, b in zip(first.sentences, other.sentences, strict=True)
    )


def beyond_tags(path: Path, found: NDArray[np.int64], metrics: dict[str, Any]) -> int:
    """Gold entities that metrics.json counts and the tags do not show.

    Raises:
        InputError: other counts differ too.
    """
    gold, predicted, correct = map(int, found)
    known = metrics["correct"], metrics["predicted"], metrics["gold"]
    if (correct, predicted) != known[:2] or gold > known[2]:
        raise InputError(
            f"{path}: expected {known[0]} correct, {known[1]} predicted and {known[2]} gold, as "
            f"metrics.json says, counted {correct}, {predicted} and {gold}; the two files are not "
            "of one run"
        )
    return int(known[2]) - gold


def _units(predictions: Predictions) -> tuple[list[int], str]:
    """Where each unit of resampling begins, and what it is."""
    documents = [sentence.document for sentence in predictions.sentences]
    if len(set(documents)) > 1:
        # Sentences of one document need not follow each other only where there are no documents.
        changes = [i for i in range(len(documents)) if i == 0 or documents[i] != documents[i - 1]]
        return changes, "documents"
    return list(range(len(documents))), "sentences"
