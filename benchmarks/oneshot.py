"""Can the best string be predicted? A one-shot and two cheap predictors against a trained grid.

    lmsl sweep --unmask grid --seed 1 2 3 --data synthetic:0.8 --output runs/grid
    python -m benchmarks.oneshot runs/grid

Where the grid's folder holds no one-shot yet, it is trained there by the settings of the grid,
with its short grid beside it; an interrupted one goes on. Compared are, with test and with dev
scores of the grid (the mean over its seeds):

- one-shot: dev score of every string under the weights of one run (``lmsl.oneshot``);
- short grid: dev score of every string after a tenth of the updates (``lmsl.oneshot_short``);
- right context: what hiding each layer group costs the one-shot (``lmsl.oneshot_right``).

Said are rank correlation, regret (score of the best string minus that of the predicted best, and
of the best of the first three) and cost as a share of a grid of one seed; beside them what the
grid says of itself, and what a string picked blindly loses. Scores in percent.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

# Only for a clone that is not installed: `kernels` holds nothing but the package lmsl_kernels.
sys.path.append(str(Path(__file__).parents[1] / "kernels"))

import numpy as np
import tyro

from benchmarks.common import RESULTS, machine, machine_lines, table, write_json
from benchmarks.train_contenders import CPU
from lmsl.config import Config, read_config
from lmsl.errors import InputError, TrainingError
from lmsl.oneshot import OneShot
from lmsl.oneshot_compare import TOP, split_half, verdict
from lmsl.oneshot_files import FOLDER, read_result
from lmsl.run import train_runs
from lmsl.run_directory import INFO, read_info
from lmsl.statistics_read import SPLITS, Floats

PREDICTORS = {"one-shot": "dev", "short grid": "short_grid", "right context": "right_context"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is compared."""

    grid: tyro.conf.Positional[tuple[Path, ...]]
    """Folder of a finished sweep; or several, of runs of one task."""
    oneshot: Path | None = None
    """Folder with its `oneshot.json`; by default `oneshot` in the first folder."""
    output: Path = RESULTS / "oneshot.json"
    """Where the record is written."""


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


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, print, record; 1 for a training that failed, 2 for bad input."""
    try:
        run(tyro.cli(Settings, args=argv, prog="python -m benchmarks.oneshot"))
    except (InputError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


def run(settings: Settings) -> None:
    """Read the grid, predict where that was not done, and compare."""
    grid = read_grid(settings.grid)
    folder = settings.oneshot or settings.grid[0] / FOLDER
    document = read_result(folder)
    if settings.oneshot is None and (document is None or "short_grid" not in document):
        predict(grid, settings.grid[0])
        document = read_result(folder)
    if document is None:
        raise InputError(f"--oneshot {folder}: expected a folder with oneshot.json, found none")
    record = compare(grid, document)
    found = machine(CPU)
    print(*machine_lines(found), sep="\n")
    print(*lines(grid, record), sep="\n")
    write_json(
        settings.output,
        {
            "benchmark": "oneshot",
            "machine": found,
            "strings": grid.strings,
            "seeds": grid.seeds,
            "grid": {split: own.mean(1).tolist() for split, own in grid.scores.items()},
            "predicted": document,
            **record,
        },
    )


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
    metric = "accuracy" if read_info(runs[0][0]).labels.plain else "f1"
    splits = [s for s in SPLITS if all(s in one for own in metrics for one in own)]
    return Grid(
        strings=tuple(found),
        seeds=tuple(seeds),
        scores={s: np.array([[m[s][metric] for m in own] for own in metrics]) for s in splits},
        updates=sum(_updates(run) for own in runs for run in own) / len(seeds),
        seconds=sum(m["train_seconds"] for own in metrics for m in own) / len(seeds),
        settings=runs[0][0] / "config.yaml",
    )


def predict(grid: Grid, output: Path) -> None:
    """Train one-shot and short grid with the settings of the grid, or what is left of it."""
    config = replace(
        Config(**read_config(grid.settings)),
        unmask=grid.strings,
        seed=grid.seeds,
        output=output,
        resume=True,
    )
    for _ in train_runs(config, oneshot=OneShot(top=0, short_grid=True)):
        raise AssertionError("nothing is to be trained for real")


def compare(grid: Grid, document: dict[str, Any]) -> dict[str, Any]:
    """What is recorded: a verdict for each split and predictor, costs, the grid's agreement."""
    rows = {row["unmask"]: row for row in document["candidates"]}
    if set(rows) != set(grid.strings):
        odd = ", ".join(sorted(set(rows) ^ set(grid.strings)))
        raise InputError(f"oneshot.json: expected the strings of the grid, differs in {odd}")
    ordered = [rows[string] for string in grid.strings]
    predicted = {
        name: np.array([row[key] for row in ordered])
        for name, key in PREDICTORS.items()
        if all(key in row for row in ordered)
    }
    record: dict[str, Any] = {"costs": _costs(grid, document), "splits": {}}
    for split, scores in grid.scores.items():
        truth, own = scores.mean(1), split_half(scores)
        record["splits"][split] = {
            "predictors": {
                name: asdict(verdict(values, truth, np.random.default_rng(0)))
                for name, values in predicted.items()
            },
            "blind_regret": float(truth.max() - truth.mean()),
            "reliability": None if own is None else asdict(own),
        }
    return record


def _costs(grid: Grid, document: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Shares of the cost of a grid of one seed."""
    scored = len(document["right_context"]["groups"]) + 2
    part = min(1.0, scored / len(grid.strings)) * document["score_seconds"]
    costs = {
        "one-shot": (document["updates"], document["seconds"]),
        "right context": (document["updates"], document["train_seconds"] + part),
    }
    if "short_grid" in document:
        short = document["short_grid"]
        costs["short grid"] = (short["updates"], short["seconds"])
    return {
        name: {"updates": updates / grid.updates, "seconds": seconds / max(grid.seconds, 1e-9)}
        for name, (updates, seconds) in costs.items()
    }


def lines(grid: Grid, record: dict[str, Any]) -> list[str]:
    """The record for people."""
    shown = [f"{len(grid.strings)} strings, {len(grid.seeds)} seeds"]
    head = ["", "Spearman", "interval", "Kendall", "regret", f"of top {TOP}", "updates", "seconds"]
    for split, found in record["splits"].items():
        rows = []
        for name, judged in found["predictors"].items():
            cost, rank = record["costs"][name], judged["spearman"]
            low, high = rank["low"], rank["high"]
            rows.append(
                [
                    name,
                    _number(rank["value"]),
                    "" if low is None else f"{low:.2f} to {high:.2f}",
                    _number(judged["kendall"]),
                    f"{100 * judged['regret']:.2f}",
                    f"{100 * judged['regret_of_top']:.2f}",
                    f"{100 * cost['updates']:.1f} %",
                    f"{100 * cost['seconds']:.1f} %",
                ]
            )
        shown += ["", f"against the grid's {split} scores", table(head, rows)]
        shown.append(f"a string picked blindly loses {100 * found['blind_regret']:.2f}")
        own = found["reliability"]
        shown.append(
            "one seed: what the grid itself is worth cannot be said"
            if own is None
            else f"halves of the seeds agree by {own['half']:.2f}; reliability of their mean "
            f"{own['whole']:.2f}, so a perfect predictor would reach {own['ceiling']:.2f}"
        )
    return shown


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


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


if __name__ == "__main__":
    sys.exit(main())
