"""Rank correlations with bootstrap intervals, and what picking the best of equals gains.

The correlation between dev and test over strings says whether choosing on dev is worth anything on
test. Strings that see nothing to the right may be so far below the others that they alone make it
high; it is therefore shown without them, too.

Both correlations are of the signs of pairwise differences, which a resample weighs and does not
change. So two thousand resamples are a few products of matrices, under 0.02 s for sixteen strings,
where as many calls of ``scipy.stats`` take 4 s on the same core, and its import alone longer than
the rest of a report; the tests hold these to it.
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

Measure = Callable[[Floats, Floats, Floats], Floats]
"""Of signs [strings, strings] on both sides and weights [draws, strings]: a correlation a draw."""


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """A rank correlation; None where a side is constant. The interval resamples strings."""

    value: float | None
    low: float | None = None
    high: float | None = None


def spearman(one: Floats, two: Floats, weights: Floats) -> Floats:
    """Pearson's correlation of the ranks, ties ranked by their mean (Spearman 1904): summed over
    the others, signs are twice a rank less its mean."""
    first, second = weights @ one.T, weights @ two.T
    return _ratio(*((weights * a * b).sum(1) for a, b in _pairs(first, second)))


def kendall(one: Floats, two: Floats, weights: Floats) -> Floats:
    """Kendall's tau-b, which allows for ties (Kendall 1945, Biometrika 33)."""
    return _ratio(*((weights @ (a * b) * weights).sum(1) for a, b in _pairs(one, two)))


def _pairs(one: Floats, two: Floats) -> tuple[tuple[Floats, Floats], ...]:
    return (one, two), (one, one), (two, two)


def _ratio(both: Floats, first: Floats, second: Floats) -> Floats:
    """[draws]; not a number where a side is constant."""
    with np.errstate(invalid="ignore"):
        found: Floats = both / np.sqrt(first * second)
    return found


def correlation(
    measure: Measure, first: Floats, second: Floats, generator: Generator, draws: int = _DRAWS
) -> Correlation:
    """``measure`` of two lists of scores; the interval is the percentile bootstrap over strings
    (Efron & Tibshirani 1993, chapter 13). Resamples that leave a side constant are passed over."""
    count, value = len(first), agreement(measure, first, second)
    if value is None or count < _FEW:
        return Correlation(value=value)
    picks = generator.integers(count, size=(draws, count)) + count * np.arange(draws)[:, None]
    weights = np.bincount(picks.ravel(), minlength=draws * count).reshape(draws, count)
    found = measure(_signs(first), _signs(second), weights.astype(np.float64))
    low, high = np.nanquantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Correlation(value=value, low=float(low), high=float(high))


def agreement(measure: Measure, first: Floats, second: Floats) -> float | None:
    """``measure`` of two lists of scores, without an interval; None where a side is constant."""
    value = float(measure(_signs(first), _signs(second), np.ones((1, len(first))))[0])
    return None if np.isnan(value) else value


def _signs(scores: Floats) -> Floats:
    """[strings, strings]: whether the row is above the column."""
    signs: Floats = np.sign(scores[:, None] - scores)
    return signs


def expected_best(count: int) -> float:
    """Expected maximum of ``count`` standard normal values: the gain, in standard deviations, of
    picking the best of as many equals (David & Nagaraja 2003, Order Statistics, section 3.1).

    The integral of x d(Phi(x)^count), by the quantiles of 20,000 equally probable slices.
    """
    slices = (np.arange(20_000) + 0.5) / 20_000
    normal = NormalDist()
    return float(np.mean([normal.inv_cdf(float(p)) for p in slices ** (1 / count)]))
