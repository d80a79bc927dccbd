"""Data and a trained run that several files of tests read, made once a process.

Who changes a run works on a copy. Files that need other data define a fixture of the same name.

Without a GPU Triton's interpreter runs the kernels in tests that ask for them by name. It has to
be switched on before anything imports Triton, so it is on for all tests.
"""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

import lmsl
from tests.small_runs import DOUBTFUL, train, train_talkative, write_data, write_doubtful

# How long an example takes says something about the machine, not about what is tested.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of few sentences: four to train on, two of dev."""
    return write_data(tmp_path_factory.mktemp("data"), {"train": 4, "dev": 2})


@pytest.fixture(scope="session")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of one update on them."""
    return train(data, tmp_path_factory.mktemp("runs") / "run", "--max-steps", "1")


@pytest.fixture(scope="session")
def talkative_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that finds entities everywhere."""
    return train_talkative(tmp_path_factory.mktemp("talkative"))


@pytest.fixture(scope="session")
def doubtful_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of splits whose dev and test contradict train."""
    return write_doubtful(tmp_path_factory.mktemp("doubtful") / "data")


@pytest.fixture(scope="session")
def doubtful_run(doubtful_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that is surer than right on them, and was given a temperature."""
    return train(doubtful_data, tmp_path_factory.mktemp("doubtful") / "run", *DOUBTFUL)


@pytest.fixture(scope="session")
def labeler(talkative_run: Path) -> lmsl.Labeler:
    """That run, loaded."""
    return lmsl.Labeler.load(talkative_run, device="cpu")
