"""How good a prediction of strings was, once they have all been trained.

The truth is a grid: the score of every string, the mean over seeds. It is noisy itself, so no
predictor agrees with it fully, and how far the grid agrees with itself is part of every judgement:
the rank correlation between means over two halves of the seeds, and from it, by Spearman and Brown
(1910), the reliability r of the mean over all of them. A predictor that knew the strings' true
means would be expected to correlate with the grid by sqrt(r).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any

import numpy as np
from numpy.random import Generator

from lmsl.statistics.ranks import Correlation, agreement, correlation, kendall, spearman
from lmsl.statistics.read import Floats

TOP = 3
PREDICTORS = {"one-shot": "dev", "short grid": "short_grid"}
"""What ``oneshot.json`` may say of each string: dev score under the shared weights; dev score
after a tenth of the updates."""
_SPLITS = 500


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A predictor against a grid; regrets are differences of scores."""

    spearman: Correlation
    kendall: float | None
    regret: float
    """True score of the best string minus that of the predicted best; ties are averaged."""
    regret_of_top: float
    """The same for the best of the first ``TOP`` predicted strings."""


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How far a grid agrees with itself over its seeds."""

    half: float
    """Mean Spearman correlation between two halves of the seeds."""
    whole: float
    """Of the mean over all seeds, by Spearman and Brown."""
    ceiling: float
    """Correlation with the grid that a perfect predictor can expect."""


def predicted_scores(document: Mapping[str, Any], strings: Sequence[str]) -> dict[str, Floats]:
    """What each predictor in an ``oneshot.json`` says of these strings, [strings]; those that it
    does not have are left out.

    Raises:
        KeyError: a string that is no candidate.
    """
    rows = {row["unmask"]: row for row in document["candidates"]}
    ordered = [rows[string] for string in strings]
    return {
        name: np.array([row[key] for row in ordered], dtype=np.float64)
        for name, key in PREDICTORS.items()
        if all(key in row for row in ordered)
    }


def judge(predicted: Floats, truth: Floats, generator: Generator) -> Judgement:
    """Args:
    predicted: [strings], larger is better, on any scale.
    truth: [strings], the true scores.
    """
    first = np.flatnonzero(predicted == predicted.max())
    top = np.argsort(-predicted, kind="stable")[:TOP]
    return Judgement(
        spearman=correlation(spearman, predicted, truth, generator),
        kendall=agreement(kendall, predicted, truth),
        regret=float(truth.max() - truth[first].mean()),
        regret_of_top=float(truth.max() - truth[top].max()),
    )


def split_half(scores: Floats) -> Reliability | None:
    """Over all ways, at most some hundreds, to draw two equal halves of the seeds.

    Args:
        scores: [strings, seeds].

    Returns:
        None for a single seed, or where all strings score alike.
    """
    seeds = scores.shape[1]
    size = seeds // 2
    if not size:
        return None
    pairs = _halves(seeds, size)
    found = [agreement(spearman, scores[:, a].mean(1), scores[:, b].mean(1)) for a, b in pairs]
    known = [value for value in found if value is not None]
    if not known:
        return None
    half, longer = float(np.mean(known)), seeds / size
    # Below 0 the halves agree less than strangers do, and there is nothing to step up.
    whole = longer * half / (1 + (longer - 1) * half) if half > 0 else 0.0
    return Reliability(half=half, whole=whole, ceiling=whole**0.5)


def _halves(seeds: int, size: int) -> list[tuple[list[int], list[int]]]:
    """Disjoint sets of ``size`` seeds; with an odd number of seeds one is left out."""

    def others(one: Sequence[int]) -> list[int]:
        return [seed for seed in range(seeds) if seed not in one]

    every = (
        (list(one), list(other))
        for one in combinations(range(seeds), size)
        for other in combinations(others(one), size)
        if one < other
    )
    return list(islice(every, _SPLITS))
