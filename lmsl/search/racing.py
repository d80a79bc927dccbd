"""Dropping runs that cannot win any more: successive halving that never trusts noise.

After each epoch the unmask strings are ordered by dev score, the mean over their seeds. Those in
the lower half may be dropped, and are dropped only where the leader is better beyond chance: a
paired bootstrap draws sentences (and seeds, where there are several) again and again, for both
strings alike, and the whole confidence interval of the difference has to be above 0. The leader is
the best of many by luck too: intervals are widened for as many comparisons as there are rivals
(Bonferroni; without it a third of the lower half of sixteen equal strings is dropped).

Legend: S sentences, K seeds; counts are gold, predicted and correct entities of a sentence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmsl.data.tags.counts import rate

CONFIDENCE = 0.95
DRAWS = 500
KEPT_SHARE = 0.5
_SENTENCES_A_TIME = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """Why a string is dropped."""

    score: float
    leader: str
    leader_score: float
    interval: tuple[float, float]
    """Of the leader's score minus this one."""


def mean_score(counts: Sequence[Tensor]) -> float:
    """F1 over all sentences, the mean over seeds."""
    return float(_f1(np.stack([one.sum(0).numpy() for one in counts])).mean())


def losers(counts: Mapping[str, Sequence[Tensor]], *, seed: int) -> dict[str, Dropped]:
    """The strings to drop now, worst first.

    Args:
        counts: for each string the counts [S, 3] of its seeds, the same seeds for all.
        seed: of the draws.
    """
    scores = {string: mean_score(own) for string, own in counts.items()}
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    leader, kept = ranked[0], max(1, round(KEPT_SHARE * len(ranked)))
    dropped = {}
    for string in ranked[: kept - 1 : -1]:
        interval = difference_interval(
            counts[leader], counts[string], seed=seed, comparisons=len(ranked) - 1
        )
        if interval[0] > 0:
            dropped[string] = Dropped(
                score=scores[string],
                leader=leader,
                leader_score=scores[leader],
                interval=interval,
            )
    return dropped


def surely_below_best(counts: Mapping[str, Sequence[Tensor]], *, seed: int) -> list[str]:
    """The strings that the best one is above beyond chance; none of them, where ranks are noise.

    The best is the best by luck too, so the intervals hold for all pairs of strings together.

    Args:
        counts: as for ``losers``.
        seed: of the draws.
    """
    scores = {string: mean_score(own) for string, own in counts.items()}
    best = max(scores, key=scores.__getitem__)
    pairs = len(counts) * (len(counts) - 1) // 2

    def above(string: str) -> bool:
        own, other = counts[best], counts[string]
        return difference_interval(own, other, seed=seed, comparisons=pairs)[0] > 0

    return [string for string in counts if string != best and above(string)]


def difference_interval(
    one: Sequence[Tensor], other: Sequence[Tensor], *, seed: int, comparisons: int = 1
) -> tuple[float, float]:
    """The confidence interval of the mean F1 of ``one`` minus that of ``other``.

    The difference plus and minus its bootstrap deviation times a normal quantile, which, unlike a
    quantile of the draws, can be had for any number of ``comparisons`` that must hold together.
    """
    first, second = (torch.stack(list(counts)).numpy() for counts in (one, other))
    generator = np.random.default_rng(seed)
    seeds, sentences = first.shape[:2]
    found: list[NDArray[np.float64]] = []
    left = DRAWS
    while left:
        # As many draws at once as fit a modest piece of memory.
        size = min(left, max(1, _SENTENCES_A_TIME // max(1, sentences)))
        weights = generator.multinomial(sentences, [1 / sentences] * sentences, size)
        picked = generator.integers(0, seeds, (size, seeds))
        means = [
            np.take_along_axis(_f1(_drawn(weights, counts)), picked, 1).mean(1)
            for counts in (first, second)
        ]
        found.append(means[0] - means[1])
        left -= size
    spread = float(np.concatenate(found).std())
    reach = spread * NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2 / comparisons)
    difference = mean_score(one) - mean_score(other)
    return difference - reach, difference + reach


def _drawn(weights: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """[draws, S] and [K, S, 3] to sums [draws, K, 3]."""
    by_seed = counts.transpose(1, 0, 2).reshape(counts.shape[1], -1).astype(np.float64)
    sums: NDArray[np.float64] = weights.astype(np.float64) @ by_seed
    return sums.reshape(len(weights), len(counts), 3)


def _f1(sums: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
    """[..., 3] to [...]."""
    totals = sums.astype(np.float64)
    return rate(2 * totals[..., 2], totals[..., 0] + totals[..., 1])
