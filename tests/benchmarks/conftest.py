"""What the tests of several benchmarks share."""

import gc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from transformers.utils import logging as transformers_logging

Refused = Callable[[Callable[[Sequence[str]], int], Sequence[str], str], None]


@pytest.fixture(autouse=True)
def restored_settings() -> Iterator[None]:
    """A benchmark sets what a program of its own may set; other tests must not see it."""
    verbosity, threads = transformers_logging.get_verbosity(), torch.get_num_threads()
    # Benchmarks collect garbage before every turn; what is there already is none of theirs, and
    # looking at it again takes most of their time here.
    gc.freeze()
    yield
    gc.unfreeze()
    transformers_logging.set_verbosity(verbosity)
    transformers_logging.enable_progress_bar()
    torch.set_num_threads(threads)


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Checks that a command refuses its arguments in one line and leaves nothing behind."""

    def check(main: Callable[[Sequence[str]], int], given: Sequence[str], expected: str) -> None:
        assert main(given) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and expected in error and error.count("\n") == 1
        assert not list(tmp_path.iterdir())

    return check
