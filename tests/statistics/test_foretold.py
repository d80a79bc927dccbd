"""Verdicts on predictors of strings, and the benchmark that reads a finished grid."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.search.oneshot import main as compare
from lmsl.cli import main
from lmsl.statistics.foretold import split_half, verdict
from tests.small_runs import SHORT, write_data


def judged(predicted: list[float], truth: list[float]):
    return verdict(np.array(predicted), np.array(truth), np.random.default_rng(0))


class TestVerdict:
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
        means = generator.normal(size=4000)
        scores = means[:, None] + generator.normal(scale=2, size=(4000, 4))
        found = split_half(scores)
        assert found is not None
        assert found.whole == pytest.approx(0.5, abs=0.05)
        perfect = judged(means.tolist()[:500], scores.mean(1).tolist()[:500])
        assert perfect.spearman.value == pytest.approx(found.ceiling, abs=0.06)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("grid")
    data, output = write_data(folder / "data"), folder / "sweep"
    flags = ("--unmask", "0000", "0011", "--seed", "1", "2", "--data", str(data))
    assert main(["sweep", *flags, "--output", str(output), *SHORT, "--max-steps", "2"]) == 0
    return output


def test_benchmark_predicts_where_that_was_not_done(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in grid.rglob("*") if path.is_file()}
    record = tmp_path / "record.json"
    assert compare([str(grid), "--output", str(record)]) == 0
    captured = capsys.readouterr()
    assert "epoch 1" in captured.err and "a perfect predictor would reach" in captured.out
    found = json.loads(record.read_text())
    assert found["seeds"] == [1, 2] and found["strings"] == ["0000", "0011"]
    assert set(found["splits"]) == {"dev", "test"}
    ours = {"one-shot", "short grid", "right context"}
    for name, split in found["splits"].items():
        assert set(split["predictors"]) == ours | ({"grid on dev"} if name == "test" else set())
        assert all(one["regret"] >= 0 for one in split["predictors"].values())
    assert found["costs"]["one-shot"]["updates"] == pytest.approx(0.5)
    assert {path: path.stat().st_mtime_ns for path in before} == before, "the grid stays as it is"
    assert compare([str(grid), "--output", str(record)]) == 0
    assert "epoch" not in capsys.readouterr().err, "the second time all is there"


def test_benchmark_refuses_what_is_no_grid(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folders, expected in (
        ([tmp_path], "got none"),
        ([grid / "0000"], "0000: 2"),
        ([grid / "0000", grid / "0011" / "seed1"], "0000: 2, 0011: 1"),
        ([grid, grid / "0011"], "0011 has seed 1 twice"),
        ([grid, "--oneshot", tmp_path], "expected a folder with oneshot.json"),
    ):
        output = tmp_path / "record.json"
        assert compare([*map(str, folders), "--output", str(output)]) == 2
        assert expected in capsys.readouterr().err and not output.exists()
