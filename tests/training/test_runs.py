"""Which runs a configuration makes, and how they are cut into stacks."""

from dataclasses import replace
from pathlib import Path

import pytest

from lmsl.config.config import Config, dump_config, read_config
from lmsl.console import Console
from lmsl.run_directory.digests import Digests
from lmsl.training.checkpoint import Progress
from lmsl.training.runs import Run, in_stacks, planned_runs, stacks_line

CONFIG = Config(unmask=("0101",))


def runs(count: int, seeds: int = 1, config: Config = CONFIG) -> list[Run]:
    return [
        Run(config=replace(config, seed=(1 + number % seeds,)), folder=Path(f"none/{number}"))
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [(16, 16, [16]), (16, 15, [8, 8]), (17, 6, [6, 5, 6]), (3, 1, [1, 1, 1]), (2, 9, [2])],
)
def test_stacks_are_as_equal_as_possible(count: int, size: int, expected: list[int]) -> None:
    stacks = in_stacks(runs(count), size)
    assert sorted(map(len, stacks)) == sorted(expected)
    assert max(map(len, stacks)) <= size
    assert len({run.folder for own in stacks for run in own}) == count


def test_how_runs_are_cut_is_said() -> None:
    assert stacks_line(runs(16), 8) == "16 runs in 2 stacks of 8"
    assert stacks_line(runs(17), 9) == "17 runs in 2 stacks of up to 9"
    assert stacks_line(runs(3), 4) == "3 runs in 1 stack of 3"


def test_runs_of_one_seed_are_neighbours() -> None:
    stacks = in_stacks(runs(6, seeds=2), 3)
    assert [[run.seed for run in own] for own in stacks] == [[1, 1, 1], [2, 2, 2]]
    in_order = runs(6, seeds=2)
    assert [own[0] for own in in_stacks(in_order, 1)] == in_order


def test_only_runs_that_are_equally_far_share_a_stack() -> None:
    mixed = runs(5)
    for run in mixed[:2]:
        run.progress = Progress(updates=3)
    assert [len(own) for own in in_stacks(mixed, 8)] == [2, 3]


def test_the_settings_of_each_run_of_a_grid_can_be_trained_from(tmp_path: Path) -> None:
    """They name its string alone, with which groups would be refused."""
    grid = Config(unmask=("grid",), groups=2)
    found = planned_runs(grid, tmp_path, 8, Digests(base={}, data={}), Console(quiet=True))
    assert [run.string for run in found] == ["00", "01", "10", "11"]
    for run in found:
        file = tmp_path / f"{run.string}.yaml"
        file.write_text(dump_config(run.config), encoding="utf-8")
        assert Config(**read_config(file)) == run.config
