"""Hierarchical paired bootstrap over seeds and units (documents or sentences).

A string's score is the mean of its seeds' F1, each from counts summed over the split. It would
come out otherwise with other seeds and with other documents. The two are crossed: every seed meets
every document, and every string meets the same of both. So a resample draws seeds and draws
documents, once for all strings (the pigeonhole bootstrap: Owen 2007, Annals of Applied Statistics
1(2)), and every difference between strings is paired by itself. F1 is a ratio of sums over units,
so that resampling is one product of weights and counts.

Three things would make the plain percentile interval wrong with few seeds, and are put right:

- Drawing S of S seeds shrinks the variance by (S-1)/S; S-1 are drawn instead (Rao & Wu 1988,
  JASA 83).
- The noise of single seeds on single documents enters the bootstrap variance three times (Owen
  2007). The parts are told apart by resampling seeds alone, units alone and both (Beiden, Wagner &
  Campbell 2000, Academic Radiology 7), and the variance is seeds + units - interaction, as in a
  crossed analysis of variance with both factors random.
- A variance known from four degrees of freedom is itself uncertain. The degrees are those of
  Satterthwaite (1946, Biometrics Bulletin 2), and each studentised resample is divided by the root
  of a chi-square draw over its degrees, which turns a normal law into Student's t with as many.

- Among many strings some have seeds that lie close together by chance, and a test that takes them
  at their word finds differences where there are none. A seed variance below the typical one is
  moved a third of the way to it (as Smyth 2004, Statistical Applications in Genetics and Molecular
  Biology 3, moderates, with the median for a prior); larger ones are left alone.

With one seed only the units are resampled: intervals then speak of these runs, not of the string.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lmsl.data.tags.counts import rate
from lmsl.statistics.read import Floats, Split

DRAWS = 4000
LEVEL = 0.95
_GROUP = 250
_FEW = 3
"""Below this many strings there is no typical one."""
_NOTHING = 1e-24
"""Variances below this are rounding."""


@dataclass(frozen=True, kw_only=True)
class Replicates:
    """Scores of the strings, and how far resampling moved them, each [draws, strings]."""

    scores: Floats
    """[strings]"""
    by_seed: Floats
    """Seeds alone resampled."""
    by_unit: Floats
    """Units alone resampled."""
    interaction: Floats
    """What resampling both adds to the sum of the two."""
    seeds: int
    units: int


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """Values (scores or differences) with their uncertainty, one a string."""

    values: Floats
    """[strings]"""
    errors: Floats
    """[strings]: standard errors."""
    deviates: Floats
    """[draws, strings]: what (estimate - truth) / error would be, by resampling."""
    known: bool
    """False where there is nothing to resample: one seed and at most one unit."""

    def half_widths(self, level: float = LEVEL) -> Floats | None:
        """Half of each confidence interval [strings]; None where nothing is known."""
        if not self.known:
            return None
        widths: Floats = np.quantile(np.abs(self.deviates), level, axis=0) * self.errors
        return widths

    def ratios(self) -> Floats:
        """Values over errors [strings]; 0 over 0 is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.values == 0, 0.0, self.values / self.errors)

    def p_values(self) -> Floats:
        """Of two-sided tests against zero [strings]; never 0 (Davison & Hinkley 1997, 4.2)."""
        if not self.known:
            return np.ones_like(self.values)
        beyond = (np.abs(self.deviates) >= np.abs(self.ratios())).sum(axis=0)
        p: Floats = (1.0 + beyond) / (1.0 + len(self.deviates))
        return np.where(self.values == 0, 1.0, p)


def run_scores(split: Split) -> Floats:
    """F1 (or accuracy) of every run [strings, seeds]; 0 where there is nothing to find."""
    return rate(split.hits.sum(axis=-1), split.sizes.sum(axis=-1) + split.beyond)


def weighted_scores(split: Split, weights: NDArray[np.int64]) -> Floats:
    """Scores of every run where each unit counts as often as ``weights`` [draws, units] say,
    [draws, strings, seeds]."""
    strings, seeds, units = split.hits.shape
    drawn = weights.astype(np.float64)
    hits = drawn @ split.hits.reshape(-1, units).T
    sizes = drawn @ split.sizes.reshape(-1, units).T
    return rate(hits, sizes + split.beyond).reshape(len(drawn), strings, seeds)


def resample(split: Split, generator: Generator, draws: int = DRAWS) -> Replicates:
    """Resample seeds and units of one split."""
    strings, seeds, units = split.hits.shape
    scores = run_scores(split)
    picks = max(seeds - 1, 1)
    seed_weights = generator.multinomial(picks, np.full(seeds, 1 / seeds), size=draws) / picks
    drawn = np.concatenate(
        [
            _resampled_units(split, generator, min(_GROUP, draws - start))
            for start in range(0, draws, _GROUP)
        ]
    )
    means = scores.mean(axis=1)
    by_unit = drawn.mean(axis=2) - means
    by_seed = np.zeros((draws, strings))
    both = means + by_unit
    if seeds > 1:
        by_seed = seed_weights @ scores.T - means
        both = np.einsum("bs,bks->bk", seed_weights, drawn)
    return Replicates(
        scores=means,
        by_seed=by_seed,
        by_unit=by_unit,
        interaction=both - means - by_seed - by_unit,
        seeds=seeds,
        units=units,
    )


def estimate(
    replicates: Replicates, generator: Generator, *, against: int | None = None
) -> Estimates:
    """The scores of all strings, or their differences to the score of string ``against``."""

    def paired(values: NDArray[np.float64]) -> Floats:
        return values if against is None else values - values[..., against, None]

    by_seed, by_unit = paired(replicates.by_seed), paired(replicates.by_unit)
    raw_part = by_seed.var(axis=0)
    seed_part, seed_degrees = _moderated(raw_part, replicates.seeds, against)
    unit_part = by_unit.var(axis=0) * replicates.units / max(replicates.units - 1, 1)
    shared = paired(replicates.interaction).var(axis=0)
    # The interaction is in both parts, so neither alone can exceed the whole.
    whole = np.maximum(seed_part + unit_part - shared, np.maximum(seed_part, unit_part))
    unit_degrees = max(replicates.units - 1, 1)
    uncertainty = (
        seed_part**2 / seed_degrees
        + unit_part**2 / unit_degrees
        + shared**2 / (seed_degrees * unit_degrees)
    )
    moves = (whole > _NOTHING) & (uncertainty > _NOTHING**2)
    degrees = np.where(moves, whole**2 / np.where(moves, uncertainty, 1), unit_degrees)
    spread = raw_part + by_unit.var(axis=0)
    normal = (by_seed + by_unit) / np.sqrt(np.where(spread > _NOTHING, spread, 1))
    inflation = np.sqrt(generator.chisquare(degrees, size=normal.shape) / degrees)
    return Estimates(
        values=paired(replicates.scores),
        errors=np.where(moves, np.sqrt(whole), 0.0),
        deviates=normal / inflation,
        known=replicates.seeds > 1 or replicates.units > 1,
    )


def _moderated(parts: Floats, seeds: int, against: int | None) -> tuple[Floats, Floats]:
    """Seed variances [strings] with the small ones raised towards the typical, and their degrees
    of freedom; the string that all are compared with has none and says nothing."""
    degrees = np.full(parts.shape, float(max(seeds - 1, 1)))
    others = np.arange(len(parts)) != (-1 if against is None else against)
    if seeds == 1 or others.sum() < _FEW:
        return parts, degrees
    # The median of a chi-square law over its degrees (Wilson & Hilferty 1931).
    typical = np.median(parts[others]) / (1 - 2 / (9 * degrees[0])) ** 3
    low = others & (parts < typical)
    return np.where(low, (2 * parts + typical) / 3, parts), np.where(low, 2 * degrees, degrees)


def _resampled_units(split: Split, generator: Generator, draws: int) -> Floats:
    """Scores of every run on ``draws`` resamples of the units [draws, strings, seeds]."""
    units = split.hits.shape[-1]
    if units == 0:
        return np.repeat(run_scores(split)[None], draws, axis=0)
    picked = generator.integers(units, size=(draws, units))
    picked += units * np.arange(draws)[:, None]
    weights = np.bincount(picked.ravel(), minlength=draws * units).reshape(draws, units)
    return weighted_scores(split, weights)
