"""Rank correlations with bootstrap intervals, and what picking the best of equals gains.

The correlation between dev and test over strings says whether choosing on dev is worth anything on
test. Strings that see nothing to the right may be so far below the others that they alone make it
high; it is therefore shown without them, too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.random import Generator

from lmsl.statistics.bootstrap import LEVEL
from lmsl.statistics.read import Floats

_DRAWS = 2000
_FEW = 5
"""Below this many strings a resample is mostly repetitions, and its interval would say nothing."""


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """A rank correlation; None where a side is constant. The interval resamples strings."""

    value: float | None
    low: float | None = None
    high: float | None = None


def spearman(first: Floats, second: Floats) -> float | None:
    """Pearson's correlation of the ranks, ties ranked by their mean (Spearman 1904)."""
    one, two = ranks(first), ranks(second)
    one, two = one - one.mean(), two - two.mean()
    norm = float(np.sqrt((one @ one) * (two @ two)))
    return float(one @ two) / norm if norm > 0 else None


def kendall(first: Floats, second: Floats) -> float | None:
    """Kendall's tau-b, which allows for ties (Kendall 1945, Biometrika 33)."""
    one = np.sign(first[:, None] - first)
    two = np.sign(second[:, None] - second)
    norm = float(np.sqrt((one * one).sum() * (two * two).sum()))
    return float((one * two).sum()) / norm if norm > 0 else None


def ranks(values: Floats) -> Floats:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    shared: Floats = (last - (sizes - 1) / 2.0)[group]
    return shared


def correlation(
    measure: Callable[[Floats, Floats], float | None],
    first: Floats,
    second: Floats,
    generator: Generator,
    draws: int = _DRAWS,
) -> Correlation:
    """``measure`` of two lists of scores; the interval is the percentile bootstrap over strings
    (Efron & Tibshirani 1993, chapter 13). Resamples that leave a side constant are passed over."""
    count = len(first)
    value = measure(first, second) if count > 1 else None
    if value is None or count < _FEW:
        return Correlation(value=value)
    picks = generator.integers(count, size=(draws, count))
    found = [r for pick in picks if (r := measure(first[pick], second[pick])) is not None]
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Correlation(value=value, low=float(low), high=float(high))


def expected_best(count: int) -> float:
    """Expected maximum of ``count`` standard normal values: the gain, in standard deviations, of
    picking the best of as many equals (David & Nagaraja 2003, Order Statistics, section 3.1).

    The integral of x d(Phi(x)^count), by the quantiles of 20,000 equally probable slices.
    """
    slices = (np.arange(20_000) + 0.5) / 20_000
    normal = NormalDist()
    return float(np.mean([normal.inv_cdf(float(p)) for p in slices ** (1 / count)]))
