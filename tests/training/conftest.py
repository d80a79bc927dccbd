"""The data and the run that the tests of training compare with, made once for all of them."""

from pathlib import Path

import pytest

from tests.small_runs import train, write_data
from tests.training.training_tools import STRINGS, sweep


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three splits: twelve sentences to train on, six of dev and test."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of six updates on them; who changes it works on a copy."""
    return train(data, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="session")
def swept(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of three strings and two seeds in two stacks."""
    output = tmp_path_factory.mktemp("sweeps") / "sweep"
    return sweep(data, output, "--unmask", *STRINGS, "--seed", "1", "2", "--stack", "4")
