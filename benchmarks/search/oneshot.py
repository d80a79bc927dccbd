"""Can the best string be predicted? A one-shot and two cheap predictors against a trained grid.

    lmsl sweep --unmask grid --seed 1 2 3 --data synthetic:0.8 --output runs/grid
    python -m benchmarks.search.oneshot runs/grid

Where the grid's folder holds no one-shot yet, it is trained there by the settings of the grid,
with its short grid beside it; an interrupted one goes on. Compared are, with test and with dev
scores of the grid (the mean over its seeds):

- one-shot: dev score of every string under the weights of one run (``lmsl.search.oneshot``);
- short grid: dev score of every string after a tenth of the updates (``lmsl.search.short_grid``);
- right context: what hiding each layer group costs it (``benchmarks.search.right_context``).

Said are rank correlation, regret (score of the best string minus that of the predicted best, and
of the best of the first three) and cost as a share of a grid of one seed: updates; seconds, which
mean something only where the machine was as busy then; and, by their own clock, seconds with the
one-shot's training as the price of a run. Beside them stands how the grid's dev scores predict
test, how far its seeds agree, and what a string picked blindly loses. Scores in percent.
"""

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.search.right_context import right_context
from benchmarks.shared.flags import command
from benchmarks.shared.labelled import CPU_PLACE
from benchmarks.shared.machine import machine, machine_lines
from benchmarks.shared.record import RESULTS, table, write_json
from lmsl.config.config import Config, read_config
from lmsl.errors import InputError
from lmsl.run import train_runs
from lmsl.run_directory.oneshot import FOLDER, read_result
from lmsl.search.asked import OneShot
from lmsl.statistics.bootstrap import run_scores
from lmsl.statistics.foretold import TOP, judge, predicted_scores, split_half
from lmsl.statistics.read import FinishedSweep, Floats, read_sweep

OWN = "grid on dev"
HIDDEN = "right context"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is compared."""

    grid: tyro.conf.Positional[Path]
    """Folder of a finished sweep."""
    oneshot: Path | None = None
    """Folder with its `oneshot.json`; by default `oneshot` in that of the sweep."""
    output: Path = RESULTS / "oneshot.json"
    """Where the record is written."""


def run(settings: Settings) -> None:
    """Read the grid, predict where that was not done, and compare."""
    grid = read_grid(settings.grid)
    folder = settings.oneshot or settings.grid / FOLDER
    document = read_result(folder)
    if settings.oneshot is None and (document is None or "short_grid" not in document):
        train_predictors(grid)
        document = read_result(folder)
    if document is None:
        raise InputError(f"--oneshot {folder}: expected a folder with oneshot.json, found none")
    record = compare(grid, document)
    found = machine(CPU_PLACE.device)
    print(*machine_lines(found), sep="\n")
    print(*lines(grid, record), sep="\n")
    write_json(
        settings.output,
        {
            "benchmark": "oneshot",
            "machine": found,
            "strings": grid.names,
            "seeds": grid.seeds,
            "grid": {split: own.mean(1).tolist() for split, own in _scores(grid).items()},
            "predicted": document,
            **record,
        },
    )


def read_grid(folder: Path) -> FinishedSweep:
    """A sweep that lacks no run: the truth that predictions of strings are held against.

    Raises:
        InputError: fewer than two strings, runs that are left out, or what ``read_sweep`` refuses.
    """
    grid = read_sweep(folder)
    if len(grid.names) < 2 or grid.notes:
        why = "; ".join(grid.notes) or f"one string, {grid.names[0]}"
        raise InputError(
            f"{folder}: expected finished runs of two or more strings with the same seeds: {why}"
        )
    return grid


def train_predictors(grid: FinishedSweep) -> None:
    """Train one-shot and short grid with the settings of the grid, or what is left of it."""
    config = replace(
        Config(**read_config(grid.runs[0][0].folder / "config.yaml")),
        unmask=grid.names,
        seed=grid.seeds,
        output=grid.folder,
        resume=True,
    )
    for _ in train_runs(config, oneshot=OneShot(top=0, short_grid=True)):
        raise AssertionError("nothing is to be trained for real")


def compare(grid: FinishedSweep, document: dict[str, Any]) -> dict[str, Any]:
    """What is recorded: a judgement for each split and predictor, costs, the grid's agreement."""
    if odd := sorted(set(document["ranking"]) ^ set(grid.names)):
        raise InputError(
            f"oneshot.json: expected the strings of the grid, differs in {', '.join(odd)}"
        )
    predicted, grid_scores = predicted_scores(document, grid.names), _scores(grid)
    if hidden := right_context({row["unmask"]: row["dev"] for row in document["candidates"]}):
        predicted[HIDDEN] = np.array([hidden.predicted(string) for string in grid.names])
    costs = _costs(grid, document, len(grid.names) if hidden is None else hidden.scored)
    record: dict[str, Any] = {"costs": costs, "splits": {}}
    for split, scores in grid_scores.items():
        truth, own = scores.mean(1), split_half(scores)
        if split != "dev":
            predicted[OWN] = grid_scores["dev"].mean(1)
        record["splits"][split] = {
            "predictors": {
                name: asdict(judge(values, truth, np.random.default_rng(0)))
                for name, values in predicted.items()
            },
            "blind_regret": float(truth.max() - truth.mean()),
            "reliability": None if own is None else asdict(own),
        }
    return record


def _scores(grid: FinishedSweep) -> dict[str, Floats]:
    """For each split [strings, seeds], in 0-1."""
    return {name: run_scores(split) for name, split in grid.splits.items()}


def _costs(
    grid: FinishedSweep, document: dict[str, Any], scored: int
) -> dict[str, dict[str, float]]:
    """Shares of the cost of a grid of one seed; the right context takes ``scored`` dev scores."""
    part = scored / len(grid.names) * document["score_seconds"]
    costs = {
        "one-shot": (document["updates"], document["seconds"]),
        HIDDEN: (document["updates"], document["train_seconds"] + part),
    }
    if "short_grid" in document:
        short = document["short_grid"]
        costs["short grid"] = (short["updates"], short["seconds"])
    runs = [run for own in grid.runs for run in own]
    all_updates = sum(_updates(run.folder) for run in runs) / len(grid.seeds)
    all_seconds = sum(run.metrics["train_seconds"] for run in runs) / len(grid.seeds)
    clock = len(grid.names) * document["train_seconds"]
    shares = {
        name: {
            "updates": updates / all_updates,
            "seconds": seconds / max(all_seconds, 1e-9),
            "own_seconds": seconds / max(clock, 1e-9),
        }
        for name, (updates, seconds) in costs.items()
    }
    return shares | {OWN: {"updates": 1.0, "seconds": 1.0, "own_seconds": 1.0}}


def _updates(run: Path) -> int:
    """Updates that a run made, by its log."""
    last = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    return int(json.loads(last)["step"])


def lines(grid: FinishedSweep, record: dict[str, Any]) -> list[str]:
    """The record for people."""
    shown = [f"{len(grid.names)} strings, {len(grid.seeds)} seeds"]
    head = ["", "Spearman", "interval", "Kendall", "regret", f"of top {TOP}", "updates", "seconds"]
    head.append("own clock")
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
                    *(f"{100 * share:.1f} %" for share in cost.values()),
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


main = command(Settings, run, "benchmarks.search.oneshot")

if __name__ == "__main__":
    sys.exit(main())
