"""A finished grid, read as the truth that predictions of strings are held against."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmsl.data.tags.metrics import metric_name
from lmsl.errors import InputError
from lmsl.run_directory.info import INFO, read_info
from lmsl.statistics.read import SPLITS, Floats


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The truth: finished runs of every string with the same seeds."""

    strings: tuple[str, ...]
    seeds: tuple[int, ...]
    scores: dict[str, Floats]
    """For each split [strings, seeds], in 0-1."""
    updates: float
    """Of all strings, for one seed."""
    seconds: float
    """Of their training, for one seed."""
    settings: Path
    """``config.yaml`` of one of the runs."""


def read_grid(folders: Sequence[Path]) -> Grid:
    """Every finished run below the folders.

    Raises:
        InputError: fewer than two strings, or strings that lack a seed of the others.
    """
    found: dict[str, dict[int, Path]] = {}
    for path in (path for folder in folders for path in sorted(folder.rglob(INFO))):
        info = read_info(path.parent)
        if info.seed in found.setdefault(info.unmask, {}):
            raise InputError(f"{path.parent}: string {info.unmask} has seed {info.seed} twice")
        found[info.unmask][info.seed] = path.parent
    if len(found) < 2 or len({frozenset(own) for own in found.values()}) > 1:
        have = ", ".join(f"{string}: {len(own)}" for string, own in found.items())
        raise InputError(
            "expected finished runs of two or more strings with the same seeds, got "
            f"{have or 'none'}"
        )
    seeds = sorted(next(iter(found.values())))
    runs = [[found[string][seed] for seed in seeds] for string in found]
    metrics = [[_json(run / "metrics.json") for run in own] for own in runs]
    metric = metric_name(read_info(runs[0][0]).labels.plain)
    splits = [s for s in SPLITS if all(s in one for own in metrics for one in own)]
    return Grid(
        strings=tuple(found),
        seeds=tuple(seeds),
        scores={s: np.array([[m[s][metric] for m in own] for own in metrics]) for s in splits},
        updates=sum(_updates(run) for own in runs for run in own) / len(seeds),
        seconds=sum(m["train_seconds"] for own in metrics for m in own) / len(seeds),
        settings=runs[0][0] / "config.yaml",
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected the scores of a run: {error!r:.150}") from error
    return document


def _updates(run: Path) -> int:
    """Updates that a run made, by its log."""
    last = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    return int(json.loads(last)["step"])
