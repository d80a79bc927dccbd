"""Which unmask string is best, and whether that is more than noise.

Chosen on dev, reported on test. ``analyse`` turns a folder of runs into means, intervals, paired
tests and correlations; ``words`` says them in a few plain sentences. Resampling begins from a
fixed seed, so the same folder always gives the same figures.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmsl.statistics.bootstrap import DRAWS, Replicates, estimate, resample, run_scores
from lmsl.statistics.compare import Difference, differences, tied_with_best
from lmsl.statistics.ranks import Correlation, correlation, expected_best, kendall, spearman
from lmsl.statistics.read import FinishedSweep, Floats, read_sweep

FEW_SEEDS = 5
"""Below this many seeds a comparison is exploratory."""
RANKS_SEED = 2
"""Of the draws behind intervals of rank correlations."""


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """One split; lists and arrays go over strings."""

    scores: Floats
    """[strings, seeds], of single runs."""
    means: Floats
    deviations: Floats | None
    """Over seeds; None with one seed."""
    half_widths: Floats | None
    """Of the 95 % intervals; None where there is nothing to resample."""
    tied: tuple[bool, ...]
    """Whether the string may be the best (multiple comparisons with the best)."""
    against_best: tuple[Difference | None, ...]
    """Paired differences to the string picked on dev, Holm-corrected; None for itself."""
    against_causal: tuple[Difference | None, ...] | None
    """The same to the causal string, where there is one."""
    unit: str
    units: int
    sentences: int

    def interval(self, index: int) -> tuple[float, float] | None:
        """The 95 % interval of one string, within 0 and 1; None where there is none."""
        if self.half_widths is None:
            return None
        mean, half = float(self.means[index]), float(self.half_widths[index])
        return max(0.0, mean - half), min(1.0, mean + half)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Do dev and test rank these strings alike?"""

    strings: int
    spearman: Correlation
    kendall: Correlation


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What the string picked on dev gains on test over always taking another."""

    over: str
    name: str
    """The string that is always taken."""
    difference: Difference
    """Between the two strings; p is not corrected."""
    fresh_seeds: float | None
    """Mean over seeds of the gain of the string that the other seeds pick: the choice and the
    report share no run. None with one seed."""


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Everything that is said about a sweep."""

    sweep: FinishedSweep
    best: int
    """Index of the string picked on dev."""
    causal: int | None
    full: int | None
    middle: int | None
    results: dict[str, SplitResult]
    agreement: Agreement | None
    """Over all strings; None without test scores."""
    agreement_unmasked: Agreement | None
    """Over those that see to the right; None where that is all of them."""
    gains: tuple[Gain, ...]
    seed_deviation: float | None
    """Pooled over strings, on dev; None with one seed."""

    @property
    def exploratory(self) -> bool:
        return len(self.sweep.seeds) < FEW_SEEDS

    @property
    def reported(self) -> str:
        """The split that figures are reported on: test where there is one."""
        return "test" if "test" in self.results else "dev"

    @property
    def luck(self) -> float | None:
        """What picking the best of as many equal strings would gain on dev."""
        if self.seed_deviation is None:
            return None
        count, seeds = len(self.sweep.names), len(self.sweep.seeds)
        return expected_best(count) * self.seed_deviation / seeds**0.5


def analyse(folder: Path) -> Analysis:
    """Read a sweep and compare its strings.

    Raises:
        InputError: the folder holds no runs, or runs that cannot be compared.
    """
    sweep = read_sweep(folder)
    best = int(run_scores(sweep.splits["dev"]).mean(axis=1).argmax())
    causal = _first(sweep, [row[0].causal for row in sweep.runs])
    full = _first(sweep, [row[0].full for row in sweep.runs])
    middle = _first(sweep, [row[0].info.unmask == "middle" for row in sweep.runs])
    if middle is None:
        middle = _first(sweep, [row[0].info.unmask == "0110" for row in sweep.runs])
    # The more strings, the smaller the p-values that survive Holm: they need draws to show.
    replicates = {
        name: resample(split, np.random.default_rng(0), max(DRAWS, 100 * len(sweep.names)))
        for name, split in sweep.splits.items()
    }
    results = {name: _result(sweep, name, replicates[name], best, causal) for name in sweep.splits}
    seeing = [not row[0].causal for row in sweep.runs]
    with_test = "test" in results
    deviations = results["dev"].deviations
    return Analysis(
        sweep=sweep,
        best=best,
        causal=causal,
        full=full,
        middle=middle,
        results=results,
        agreement=_agreement(results, [True] * len(seeing)) if with_test else None,
        agreement_unmasked=_agreement(results, seeing) if with_test and not all(seeing) else None,
        gains=tuple(
            _gain(sweep, results, replicates["test"], best, over, index)
            for over, index in (("every layer unmasked", full), ("the middle unmasked", middle))
            if with_test and index is not None
        ),
        seed_deviation=None if deviations is None else float(np.sqrt(np.mean(deviations**2))),
    )


def _first(sweep: FinishedSweep, fits: list[bool]) -> int | None:
    """The first string of its kind; one without further axes where there are several."""
    found = [index for index, fit in enumerate(fits) if fit]
    return min(found, key=lambda index: ("/" in sweep.names[index], index), default=None)


def _result(
    sweep: FinishedSweep, name: str, replicates: Replicates, best: int, causal: int | None
) -> SplitResult:
    split, generator = sweep.splits[name], np.random.default_rng(1)
    scores = run_scores(split)
    return SplitResult(
        scores=scores,
        means=replicates.scores,
        deviations=scores.std(axis=1, ddof=1) if len(sweep.seeds) > 1 else None,
        half_widths=estimate(replicates, generator).half_widths(),
        tied=tuple(bool(tie) for tie in tied_with_best(replicates, generator)),
        against_best=tuple(differences(replicates, generator, best)),
        against_causal=(
            None if causal is None else tuple(differences(replicates, generator, causal))
        ),
        unit=split.unit,
        units=split.hits.shape[-1],
        sentences=split.sentences,
    )


def _agreement(results: dict[str, SplitResult], chosen: list[bool]) -> Agreement:
    dev, test = (results[split].means[np.array(chosen)] for split in ("dev", "test"))
    generator = np.random.default_rng(RANKS_SEED)
    return Agreement(
        strings=sum(chosen),
        spearman=correlation(spearman, dev, test, generator),
        kendall=correlation(kendall, dev, test, generator),
    )


def _gain(
    sweep: FinishedSweep,
    results: dict[str, SplitResult],
    replicates: Replicates,
    best: int,
    over: str,
    index: int,
) -> Gain:
    estimates = estimate(replicates, np.random.default_rng(3), against=index)
    widths = estimates.half_widths()
    half = None if widths is None else float(widths[best])
    return Gain(
        over=over,
        name=sweep.names[index],
        difference=Difference.of(
            float(estimates.values[best]), half, float(estimates.p_values()[best])
        ),
        fresh_seeds=_fresh_gain(results["dev"].scores, results["test"].scores, index),
    )


def _fresh_gain(dev: Floats, test: Floats, index: int) -> float | None:
    """Leave one seed out: the others pick on dev, it reports on test."""
    seeds = dev.shape[1]
    if seeds < 2:
        return None
    others = (dev.sum(axis=1, keepdims=True) - dev).argmax(axis=0)
    return float(np.mean(test[others, np.arange(seeds)] - test[index]))
