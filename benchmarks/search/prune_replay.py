"""Would pruning have kept the winner? Recorded learning curves, played again with other noise.

    python -m benchmarks.search.prune_replay runs/grid --repeats 200

A sweep that was trained to its end holds gold, predicted and correct counts of dev for every run
and epoch. In each repeat a new dev set of the same size is drawn from them: every gold entity is
found with the recall of that run and epoch, half of the luck being that of the sentence, which all
runs share, and false alarms are spread over the sentences. Then ``lmsl.search.racing`` drops
strings epoch by epoch, as ``lmsl sweep --prune`` does. Noise of training itself is not in it:
strings keep their curves.

Said are: how often the string that the whole grid would have chosen was still there in the end,
what the choice lost on average, and the share of updates that was trained.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import tyro
from numpy.typing import NDArray

from benchmarks.shared.flags import at_least, command
from lmsl.errors import InputError
from lmsl.search.racing import losers, mean_scores

Curve = list[tuple[int, int, int]]
"""Gold, predicted and correct entities of dev after every epoch."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is played again."""

    sweeps: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of sweeps, one seed each."""
    sentences: int = 300
    """Of dev."""
    repeats: int = 100
    """Dev sets that are drawn."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One repeat."""

    winner_kept: bool
    regret: float
    """Best score of the whole grid minus that of those kept, both at the end."""
    share: float
    """Of the updates of the whole grid."""


def run(settings: Settings) -> None:
    """Every repeat, and what came of them."""
    at_least(settings, sentences=1, repeats=1)
    curves = read_curves(settings.sweeps)
    found = [replay(curves, settings.sentences, repeat) for repeat in range(settings.repeats)]
    print(
        f"{len(curves)} strings, {settings.repeats} repeats: winner kept in "
        f"{100 * fmean(one.winner_kept for one in found):.0f} %, regret "
        f"{100 * fmean(one.regret for one in found):.2f} points, "
        f"{100 * fmean(one.share for one in found):.0f} % of the updates trained"
    )


def read_curves(sweeps: Sequence[Path]) -> dict[str, Curve]:
    """The curve of every string, from the logs of its run."""
    curves: dict[str, Curve] = {}
    for log in (path for sweep in sweeps for path in sorted(sweep.glob("*/seed*/log.jsonl"))):
        entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        curves[log.parts[-3]] = [
            (dev["gold"], dev["predicted"], dev["correct"])
            for dev in (entry["dev"] for entry in entries if "dev" in entry)
        ]
    if len(curves) < 2 or len({len(curve) for curve in curves.values()}) != 1:
        raise InputError("expected sweeps of several strings, all trained to the same epoch")
    return curves


def replay(curves: Mapping[str, Curve], sentences: int, seed: int) -> Outcome:
    """Draw dev anew and drop strings after each epoch but the last."""
    generator = np.random.default_rng(seed)
    gold = next(iter(curves.values()))[0][0]
    place = generator.integers(0, sentences, gold)
    shared = generator.random(gold)
    epochs = len(next(iter(curves.values())))
    left, trained, final = dict(curves), 0, dict[str, float]()
    for epoch in range(epochs):
        trained += len(left)
        counts = {
            string: _counts(curve[epoch], place, shared, sentences, generator)
            for string, curve in curves.items()
        }
        if epoch + 1 == epochs:
            final = mean_scores({string: [one] for string, one in counts.items()})
        else:
            seen = {string: [counts[string]] for string in left}
            for string in losers(seen, seed=epoch):
                del left[string]
    winner = max(final, key=final.__getitem__)
    best = max(final[string] for string in left)
    return Outcome(
        winner_kept=winner in left,
        regret=final[winner] - best,
        share=trained / (epochs * len(curves)),
    )


def _counts(
    totals: tuple[int, int, int],
    place: NDArray[np.int64],
    shared: NDArray[np.float64],
    sentences: int,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """Counts [sentences, 3] of one run and epoch on a drawn dev set."""
    gold, predicted, correct = totals
    own = generator.random(len(place))
    luck = np.where(generator.random(len(place)) < 0.5, shared, own)
    found = luck < correct / max(1, gold)
    alarms = generator.poisson(max(0, predicted - correct))
    rows = np.zeros((sentences, 3), dtype=np.int64)
    np.add.at(rows[:, 0], place, 1)
    np.add.at(rows[:, 2], place[found], 1)
    np.add.at(rows[:, 1], generator.integers(0, sentences, alarms), 1)
    rows[:, 1] += rows[:, 2]
    return rows


main = command(Settings, run, "benchmarks.search.prune_replay")

if __name__ == "__main__":
    sys.exit(main())
