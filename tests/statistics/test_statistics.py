"""Intervals, tests and tied sets on simulated sweeps of known truth."""

import itertools

import numpy as np
import pytest
from numpy.random import Generator
from scipy import stats

from lmsl.statistics.bootstrap import estimate, resample, run_scores
from lmsl.statistics.compare import differences, holm, tied_with_best
from lmsl.statistics.ranks import agreement, correlation, expected_best, kendall, spearman
from lmsl.statistics.read import Floats, Split

REPEATS, DRAWS, UNITS = 150, 300, 120


def split(hits: Floats, sizes: Floats, beyond: float = 0.0) -> Split:
    return Split(hits=hits, sizes=sizes, beyond=beyond, unit="sentences", sentences=hits.shape[-1])


def accuracies(
    rng: Generator,
    *,
    strings: int = 2,
    seeds: int = 5,
    of_seed: float = 0.02,
    of_unit: float = 0.15,
    noise: float = 0.05,
    means: Floats | None = None,
) -> Split:
    """Scores that are means over seeds and units of a mean and three normal effects."""
    mean = np.full(strings, 0.6) if means is None else means
    hits = (
        mean[:, None, None]
        + rng.normal(0, of_seed, (strings, seeds, 1))
        + rng.normal(0, of_unit, UNITS)
        + rng.normal(0, of_unit / 2, (strings, 1, UNITS))
        + rng.normal(0, noise, (strings, seeds, UNITS))
    )
    return split(hits, np.ones_like(hits))


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_intervals_hold_the_truth_as_often_as_they_say(seeds: int) -> None:
    held = []
    # With one seed only the choice of sentences can be covered.
    of_seed = 0.0 if seeds == 1 else 0.02
    for repeat in range(REPEATS):
        rng = np.random.default_rng([seeds, repeat])
        made = accuracies(rng, seeds=seeds, of_seed=of_seed)
        found = estimate(resample(made, rng, DRAWS), rng)
        widths = found.half_widths()
        assert widths is not None
        held += list(np.abs(found.values - 0.6) <= widths)
    # The two strings share sentences, so 300 intervals count for fewer; 4 standard errors of 150.
    assert 0.95 - 4 * np.sqrt(0.95 * 0.05 / REPEATS) < np.mean(held) < 0.999


@pytest.mark.parametrize("strings", [2, 6])
def test_equal_strings_are_rarely_called_different(strings: int) -> None:
    wrong, lost = [], []
    for repeat in range(REPEATS):
        rng = np.random.default_rng([strings, repeat])
        replicates = resample(accuracies(rng, strings=strings), rng, DRAWS)
        family = differences(replicates, rng, 0)
        wrong.append(any(each.p < 0.05 for each in family if each))
        lost.append(not tied_with_best(replicates, rng)[0])
    limit = 0.05 + 4 * np.sqrt(0.05 * 0.95 / REPEATS)
    assert np.mean(wrong) < limit and np.mean(lost) < limit
    # Nor is the test deaf: pure chance must be found now and then.
    assert sum(wrong) + sum(lost) > 0


def test_noise_of_single_runs_is_not_counted_three_times() -> None:
    """Where seeds and units have no effect of their own, the plain bootstrap is 1.7 times too
    wide."""
    errors, values = [], []
    for repeat in range(REPEATS):
        rng = np.random.default_rng(repeat)
        made = accuracies(rng, strings=2, of_seed=0.0, of_unit=0.0, noise=0.3)
        found = estimate(resample(made, rng, DRAWS), rng, against=0)
        errors.append(found.errors[1])
        values.append(found.values[1])
    assert 0.9 < np.sqrt(np.mean(np.square(errors))) / np.std(values) < 1.4


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_few_seeds_widen_the_interval_as_students_t_does(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    hits = rng.normal(0.6, 0.05, (1, seeds, 1))
    replicates = resample(split(hits, np.ones_like(hits)), rng)
    of_mean = hits.std(ddof=1) / np.sqrt(seeds)
    found = estimate(replicates, rng)
    assert found.errors[0] == pytest.approx(of_mean, rel=0.04)
    widths = found.half_widths()
    assert widths is not None
    expected = stats.t.ppf(0.975, seeds - 1) * of_mean
    assert widths[0] == pytest.approx(expected, rel=0.12)


def test_seeds_that_agree_by_chance_are_not_taken_at_their_word() -> None:
    spread = np.array([0.0001, 0.03, 0.05, 0.04, 0.2])
    hits = (0.6 + spread[:, None] * np.array([-1, 0, 1]))[..., None]
    rng = np.random.default_rng(0)
    errors = estimate(resample(split(hits, np.ones_like(hits)), rng), rng).errors
    own = spread / np.sqrt(3)
    assert errors[0] > 0.4 * own[3] and errors[0] < errors[1] < 1.3 * own[3]
    assert errors[4] == pytest.approx(own[4], rel=0.04)


def test_a_better_string_is_found_and_the_worse_ones_leave_the_set() -> None:
    rng = np.random.default_rng(3)
    means = np.array([0.5, 0.7, 0.69, 0.4])
    replicates = resample(accuracies(rng, strings=4, means=means), rng)
    assert tied_with_best(replicates, rng).tolist() == [False, True, True, False]
    family = differences(replicates, rng, 0)
    assert family[0] is None
    better = family[1]
    assert better is not None and better.p < 0.01
    assert better.low is not None and better.high is not None
    assert 0.1 < better.low < better.value < better.high < 0.3


def test_a_difference_is_paired() -> None:
    """What two strings share moves both scores and not their difference."""
    rng = np.random.default_rng(4)
    shared = accuracies(rng, strings=1, of_unit=0.4).hits
    hits = np.concatenate([shared, shared + 0.01])
    replicates = resample(split(hits, np.ones_like(hits)), rng, DRAWS)
    assert estimate(replicates, rng).errors[1] > 0.02
    assert estimate(replicates, rng, against=0).errors[1] < 1e-12


def test_f1_is_of_sums_and_gold_beyond_the_tags_counts() -> None:
    hits = np.array([[[2.0, 0.0, 4.0]]])
    sizes = np.array([[[2.0, 1.0, 6.0]]])
    assert run_scores(split(hits, sizes))[0, 0] == pytest.approx(6 / 9)
    assert run_scores(split(hits, sizes, beyond=3.0))[0, 0] == pytest.approx(6 / 12)
    rng = np.random.default_rng(0)
    replicates = resample(split(hits, sizes, beyond=3.0), rng, 50)
    possible = {
        round(sum(hits[0, 0, list(p)]) / (sum(sizes[0, 0, list(p)]) + 3) - 0.5, 9)
        for p in itertools.product(range(3), repeat=3)
    }
    assert set(np.round(replicates.by_unit[:, 0], 9)) <= possible


@pytest.mark.parametrize(
    "shape", [(1, 1, 5), (2, 1, 1), (2, 3, 1), (2, 1, 0), (2, 2, 0), (1, 1, 0), (3, 5, 1)]
)
def test_degenerate_sweeps_give_no_nonsense(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    hits = rng.integers(0, 3, shape).astype(float)
    replicates = resample(split(hits, hits + 1), rng, 60)
    found = estimate(replicates, rng)
    assert found.known == (shape[1] > 1 or shape[2] > 1)
    assert np.isfinite(found.deviates).all() and np.isfinite(found.errors).all()
    assert tied_with_best(replicates, rng)[replicates.scores.argmax()]
    for each in differences(replicates, rng, 0):
        assert each is None or 0 < each.p <= 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_scores_and_no_entities_at_all_tie(value: float) -> None:
    rng = np.random.default_rng(0)
    hits = np.full((3, 4, 10), value)
    replicates = resample(split(hits, hits), rng, 60)
    assert replicates.scores.tolist() == [value] * 3
    assert tied_with_best(replicates, rng).all()
    assert [each.p for each in differences(replicates, rng, 1) if each] == [1.0, 1.0]


@pytest.mark.parametrize("seed", range(4))
def test_rank_correlations_are_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 8, 16).astype(float)
    second = first + rng.integers(-4, 5, 16)
    for ours, theirs in ((spearman, stats.spearmanr), (kendall, stats.kendalltau)):
        found = correlation(ours, first, second, np.random.default_rng(0), 50)
        assert found.value == pytest.approx(theirs(first, second).statistic)
        picks = np.random.default_rng(0).integers(16, size=(50, 16))
        drawn = [theirs(first[pick], second[pick]).statistic for pick in picks]
        expected = np.nanquantile(drawn, [0.025, 0.975])
        assert (found.low, found.high) == pytest.approx(tuple(expected))


def test_correlations_of_few_or_constant_scores() -> None:
    rng = np.random.default_rng(0)
    same, rising = np.ones(6), np.arange(6.0)
    assert agreement(spearman, same, rising) is None is agreement(kendall, rising, same)
    assert correlation(spearman, same, rising, rng).value is None
    few = correlation(kendall, rising[:3], rising[:3], rng)
    assert (few.value, few.low, few.high) == (1.0, None, None)
    assert correlation(spearman, rising[:1], rising[:1], rng).value is None


def test_holm_steps_down() -> None:
    corrected = holm(np.array([0.04, 0.01, 0.03, 0.5]))
    assert corrected == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert holm(np.array([])) == []
    assert holm(np.array([0.6, 0.7])) == [1.0, 1.0]
    # Ours against the definition on random values.
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = rng.random(7) ** 3
        order = sorted(p)
        naive = [
            min(1.0, max((7 - i) * order[i] for i in range(order.index(value) + 1))) for value in p
        ]
        assert holm(p) == pytest.approx(naive)


def test_the_best_of_equals_gains_the_expected_maximum() -> None:
    assert expected_best(1) == pytest.approx(0.0, abs=1e-9)
    assert expected_best(2) == pytest.approx(1 / np.sqrt(np.pi), abs=1e-3)
    drawn = np.random.default_rng(0).normal(size=(40_000, 16)).max(axis=1).mean()
    assert expected_best(16) == pytest.approx(drawn, abs=0.02)
    # With three seeds each, the best of sixteen gains about one deviation of a seed.
    assert expected_best(16) / np.sqrt(3) == pytest.approx(1.02, abs=0.01)
