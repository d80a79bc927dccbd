"""How the parts of the proof on a GPU run: each file here is a part, or a share of one, in pytest.

    python -m pytest benchmarks/gpu_check/part_b_determinism.py          # on a GPU
    python -m pytest benchmarks/gpu_check/part_b_determinism.py --toy    # in the interpreter

``python -m benchmarks.gpu_check`` runs them all, each in a process of its own. A test puts what it
measures into ``figures``; after every test all there is so far goes into ``--record``, so that a
process which dies loses one test.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

if not torch.cuda.is_available():
    # Before anything imports Triton.
    os.environ["TRITON_INTERPRET"] = "1"

from benchmarks.gpu_check.scope import NO_TIME, Scope
from benchmarks.shared.flags import choose_device
from benchmarks.shared.record import RESULTS, write_json

SCOPE = pytest.StashKey[Scope]()


def pytest_addoption(parser: pytest.Parser) -> None:
    add = parser.getgroup("proof on a GPU").addoption
    add("--device", default="auto", help="cuda, cpu, or auto: the GPU where there is one")
    add("--toy", action="store_true", help="toy sizes, for which the interpreter will do")
    add("--seconds", type=float, default=float("inf"), help="begin no test after so long")
    add("--share", default="0/1", help="which share of the tests, K/N from 0")
    add("--record", type=Path, help="JSON of what was found")
    add("--out", type=Path, default=RESULTS, help="folder of the records of other programs")


def pytest_configure(config: pytest.Config) -> None:
    given = config.option
    config.stash[SCOPE] = Scope(
        device=choose_device(given.device),
        ends=time.monotonic() + given.seconds,
        toy=given.toy,
        out=given.out,
    )
    if given.record is not None:
        config.pluginmanager.register(Recorder(given.record))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of a ``case`` is made for each of its module's, which are fewer in toy sizes."""
    if "case" in metafunc.fixturenames:
        found = metafunc.module.cases(metafunc.config.stash[SCOPE])
        metafunc.parametrize("case", found, ids=lambda case: getattr(case, "name", None))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    number, total = map(int, config.option.share.split("/"))
    items[:] = items[number::total]


@pytest.fixture(scope="session")
def scope(request: pytest.FixtureRequest) -> Scope:
    found = request.config.stash[SCOPE]
    if not (found.toy or found.cuda):
        pytest.skip("it needs a CUDA device; --toy does without")
    return found


@pytest.fixture(autouse=True)
def in_time(scope: Scope) -> Iterator[None]:
    """What a kernel broke may only show at the next wait: it is waited for after every test."""
    if scope.left <= 0:
        pytest.skip(NO_TIME)
    yield
    if scope.cuda:
        torch.cuda.synchronize()


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a test measures, for the record."""
    found: dict[str, Any] = {}
    request.node.user_properties.append(("figures", found))
    return found


class Recorder:
    """Writes down every test as it begins and as it ends."""

    def __init__(self, path: Path) -> None:
        self._path, self._tests = path, dict[str, Any]()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._note(nodeid, outcome="running")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            skipped = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            self._note(
                report.nodeid,
                outcome=report.outcome,
                reason=skipped.removeprefix("Skipped: ") or report.longreprtext[-3000:] or None,
                seconds=round(report.duration, 2),
                **dict(report.user_properties),
            )

    def _note(self, nodeid: str, **test: Any) -> None:
        self._tests[nodeid.partition("::")[2]] = test
        write_json(self._path, {"tests": self._tests})
