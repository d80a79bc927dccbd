"""Judgements of predictors of strings, and how far a grid agrees with itself."""

import numpy as np
import pytest

from lmsl.statistics.foretold import judge, split_half


def judged(predicted: list[float], truth: list[float]):
    return judge(np.array(predicted), np.array(truth), np.random.default_rng(0))


class TestJudgement:
    def test_the_right_order_on_any_scale(self) -> None:
        found = judged([-3.0, 10.0, 11.0, 900.0, 901.0], [0.1, 0.2, 0.5, 0.6, 0.9])
        assert found.spearman.value == pytest.approx(1.0) == found.kendall
        assert found.regret == found.regret_of_top == 0.0
        assert found.spearman.low is not None and found.spearman.low <= 1.0

    def test_the_wrong_one(self) -> None:
        found = judged([5, 4, 3, 2, 1], [0.1, 0.2, 0.3, 0.4, 0.9])
        assert found.spearman.value == pytest.approx(-1.0)
        assert found.regret == pytest.approx(0.8)
        assert found.regret_of_top == pytest.approx(0.6)

    def test_ties_are_averaged_and_no_information_is_no_correlation(self) -> None:
        found = judged([1, 1, 0], [0.2, 0.6, 0.8])
        assert found.regret == pytest.approx(0.4)
        blind = judged([1, 1, 1], [0.2, 0.6, 0.7])
        assert blind.spearman.value is None and blind.kendall is None
        assert blind.regret == pytest.approx(0.2)


class TestReliability:
    def test_one_seed_says_nothing(self) -> None:
        assert split_half(np.ones((4, 1))) is None
        assert split_half(np.full((4, 3), 0.5)) is None, "nor do strings that are all alike"

    def test_seeds_that_agree_are_reliable(self) -> None:
        scores = np.linspace(0, 1, 8)[:, None] + np.zeros(4)
        found = split_half(scores)
        assert found is not None
        assert found.half == pytest.approx(1) == found.whole == found.ceiling

    def test_noise_is_not(self) -> None:
        found = split_half(np.random.default_rng(1).random((200, 5)))
        assert found is not None
        assert abs(found.half) < 0.15 and found.whole < 0.35

    def test_the_ceiling_is_what_a_perfect_predictor_gets(self) -> None:
        """Variance 1 of the strings, 4 of the seeds: the mean of 4 seeds is half noise."""
        generator = np.random.default_rng(3)
        means = generator.normal(size=1500)
        scores = means[:, None] + generator.normal(scale=2, size=(1500, 4))
        found = split_half(scores)
        assert found is not None
        assert found.whole == pytest.approx(0.5, abs=0.05)
        perfect = judged(means.tolist()[:500], scores.mean(1).tolist()[:500])
        assert perfect.spearman.value == pytest.approx(found.ceiling, abs=0.06)
