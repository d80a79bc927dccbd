"""Part i: ``benchmarks.attention``, as many cells as the time allows, into a record of its own."""

import sys
from typing import Any

import pytest
import torch

from benchmarks.gpu_check.programs import run_program
from benchmarks.gpu_check.scope import Scope
from benchmarks.shared.plots import has_matplotlib
from benchmarks.shared.record import slug

pytestmark = pytest.mark.gpu


def test_benchmark(scope: Scope, figures: dict[str, Any]) -> None:
    name = torch.cuda.get_device_name(scope.device) if scope.cuda else "cpu"
    record = scope.out.absolute() / f"attention_{slug(name, scope.toy)}.json"
    command = [
        *(sys.executable, "-m", "benchmarks.attention", "--output", str(record)),
        *("--device", str(scope.device)),
        # What it has begun it finishes: a cell can take a while.
        *("--seconds", f"{max(scope.left - 25, 1):.0f}"),
        *(["--plots"] if has_matplotlib() else []),
        *(["--quick"] if scope.toy else []),
    ]
    finished = run_program(command, seconds=scope.left)
    figures |= {"record": record.name, "printed": finished.output}
    if finished.status is None:
        figures["stopped"] = "it was stopped at its time limit; the record holds what was done"
        return
    # It says by its status that ours computed something wrong.
    assert finished.status == 0, f"status {finished.status}: {finished.output[-800:]}"
