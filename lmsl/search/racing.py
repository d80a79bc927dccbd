"""Dropping runs that cannot win any more: successive halving that never trusts noise.

After each epoch the unmask strings are ordered by dev score, the mean over their seeds. Those in
the lower half may be dropped, and are dropped only where the leader is better beyond chance: a
paired bootstrap draws sentences (and seeds, where there are several) again and again, for all
strings alike, and the whole confidence interval of the difference has to be above 0. The leader is
the best of many by luck too: intervals are widened for as many comparisons as there are rivals
(Bonferroni; without it a third of the lower half of sixteen equal strings is dropped).

Scores of resamples are those of ``lmsl.statistics.bootstrap``, but not its crossed variance: that
needs Student's t with few seeds, whose far quantiles take more draws than there is time for after
an epoch. So intervals of one to three seeds hide some of the luck of a seed: sixteen equal strings
whose seeds deviate by 2 points lost one in 16 of 60 simulated sweeps with two, in 7 with three.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from lmsl.statistics.bootstrap import LEVEL, run_scores, weighted_scores
from lmsl.statistics.read import Floats, Split

DRAWS = 500
KEPT_SHARE = 0.5
_SENTENCES_A_TIME = 1 << 22

Counts = Mapping[str, Sequence[NDArray[np.int64]]]
"""For each string those of its seeds, the same seeds for all: gold, predicted and correct entities
of every sentence, [sentences, 3]."""


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """Why a string is dropped."""

    score: float
    leader: str
    leader_score: float
    interval: tuple[float, float]
    """Of the leader's score minus this one."""


def mean_scores(counts: Counts) -> dict[str, float]:
    """F1 over all sentences, the mean over seeds."""
    return dict(zip(counts, run_scores(_split(counts)).mean(axis=1).tolist(), strict=True))


def losers(counts: Counts, *, seed: int) -> dict[str, Dropped]:
    """The strings to drop now, worst first; ``seed`` is that of the draws."""
    scores = mean_scores(counts)
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    leader, kept = ranked[0], max(1, round(KEPT_SHARE * len(ranked)))
    intervals = below(counts, leader, seed=seed, comparisons=len(ranked) - 1)
    return {
        string: Dropped(
            score=scores[string],
            leader=leader,
            leader_score=scores[leader],
            interval=intervals[string],
        )
        for string in ranked[: kept - 1 : -1]
        if intervals[string][0] > 0
    }


def surely_below_best(counts: Counts, *, seed: int) -> list[str]:
    """The strings that the best one is above beyond chance; none of them, where ranks are noise.

    The best is the best by luck too, so the intervals hold for all pairs of strings together.
    """
    scores = mean_scores(counts)
    best, pairs = max(scores, key=scores.__getitem__), len(counts) * (len(counts) - 1) // 2
    intervals = below(counts, best, seed=seed, comparisons=pairs)
    return [string for string, (low, _) in intervals.items() if low > 0]


def below(
    counts: Counts, leader: str, *, seed: int, comparisons: int
) -> dict[str, tuple[float, float]]:
    """How far every other string is below ``leader``: confidence intervals of the difference.

    They are the difference plus and minus its bootstrap deviation times a normal quantile, which,
    unlike a quantile of the draws, can be had for any number of ``comparisons`` that must hold
    together.
    """
    place, split = list(counts).index(leader), _split(counts)
    drawn, scores = _resampled(split, seed), run_scores(split).mean(axis=1)
    spread = (drawn[:, place, None] - drawn).std(axis=0)
    reach = spread * NormalDist().inv_cdf(1 - (1 - LEVEL) / 2 / max(comparisons, 1))
    ahead = scores[place] - scores
    found = zip(counts, (ahead - reach).tolist(), (ahead + reach).tolist(), strict=True)
    return {string: (low, high) for string, low, high in found if string != leader}


def _resampled(split: Split, seed: int) -> Floats:
    """Mean scores over resampled sentences and seeds, [draws, strings]."""
    generator = np.random.default_rng(seed)
    _, seeds, sentences = split.hits.shape
    found, left = [], DRAWS
    while left:
        # As many draws at once as fit a modest piece of memory.
        size = min(left, max(1, _SENTENCES_A_TIME // max(1, sentences)))
        weights = generator.multinomial(sentences, [1 / sentences] * sentences, size)
        picked = generator.integers(0, seeds, (size, seeds))
        scores = weighted_scores(split, weights)
        found.append(np.take_along_axis(scores, picked[:, None], 2).mean(axis=2))
        left -= size
    return np.concatenate(found)


def _split(counts: Counts) -> Split:
    table = np.stack([np.stack(list(own)) for own in counts.values()])
    return Split.of(table, unit="sentences", sentences=table.shape[2])
