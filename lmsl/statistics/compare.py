"""Which differences between strings are more than noise, when many are looked at.

Tests against one string are corrected by Holm (1979, Scandinavian Journal of Statistics 6): the
chance of any false finding in the family stays below 5 %. The set of strings tied with the best is
Hsu's multiple comparisons with the best (1981, Annals of Statistics 9; 1996, Multiple Comparisons,
chapter 4): a string leaves the set when some other is better by more than the largest of its
differences to all others would reach by chance, so the set holds the truly best string with 95 %
confidence, however many there are and though the winner was picked by looking. Differences enter
the largest on equal terms, by rank (Beran 1988, JASA 83).
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lmsl.statistics.bootstrap import LEVEL, Replicates, estimate
from lmsl.statistics.read import Floats


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A paired difference of scores, its interval, and p (Holm-corrected within its family)."""

    value: float
    low: float | None
    high: float | None
    p: float

    @classmethod
    def of(cls, value: float, half_width: float | None, p: float) -> "Difference":
        low, high = (
            (None, None) if half_width is None else (value - half_width, value + half_width)
        )
        return cls(value=value, low=low, high=high, p=p)


def differences(
    replicates: Replicates, generator: Generator, reference: int
) -> list[Difference | None]:
    """Every string against string ``reference``, as one family; None for the string itself."""
    estimates = estimate(replicates, generator, against=reference)
    others = [index for index in range(len(estimates.values)) if index != reference]
    corrected = dict(zip(others, holm(estimates.p_values()[others]), strict=True))
    widths = estimates.half_widths()
    found: list[Difference | None] = [None] * len(estimates.values)
    for index in others:
        value = float(estimates.values[index])
        half = None if widths is None else float(widths[index])
        found[index] = Difference.of(value, half, corrected[index])
    return found


def holm(p_values: Floats) -> list[float]:
    """Corrected p-values, in the order given: step down, never decreasing, at most 1."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    stepped = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    corrected = np.empty(len(p_values))
    corrected[order] = stepped
    return [float(p) for p in corrected]


def tied_with_best(
    replicates: Replicates, generator: Generator, level: float = LEVEL
) -> NDArray[np.bool_]:
    """Which strings may be the best [strings]; the one with the highest score is always among
    them."""
    strings = len(replicates.scores)
    tied = np.ones(strings, dtype=np.bool_)
    for index in range(strings if strings > 1 else 0):
        estimates = estimate(replicates, generator, against=index)
        if not estimates.known:
            continue
        others = np.arange(strings) != index
        ratios, deviates = estimates.ratios()[others], estimates.deviates[:, others]
        # Each difference by its rank among its own resamples: those known from few degrees of
        # freedom would outgrow the others, and nothing would ever leave the set.
        by_chance = deviates.argsort(axis=0).argsort(axis=0).max(axis=1)
        worst = (deviates < ratios).sum(axis=0).max()
        p = (1.0 + (by_chance >= worst).sum()) / (1.0 + len(by_chance))
        tied[index] = ratios.max() <= 0 or p > 1 - level
    return tied
