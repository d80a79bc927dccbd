"""Beside the proofs, for part i: compiling what it times, and fifty updates of ``train.py``."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.attention.runs import warm_up
from benchmarks.gpu_check.programs import run_program
from benchmarks.gpu_check.scope import Scope

pytestmark = pytest.mark.gpu
SHARES = 3


def test_train_with_nf4(scope: Scope, figures: dict[str, Any], tmp_path: Path) -> None:
    scope.need_packages("bitsandbytes", "tyro")
    scope.need_cuda()
    command = [sys.executable, "train.py", "--unmask", "0011", "--max-steps", "50"]
    command += ["--device", str(scope.device), "--output", str(tmp_path / "run")]
    finished = run_program(command, seconds=min(scope.left, 120))
    assert finished.status == 0, f"status {finished.status}: {finished.output[-800:]}"
    figures["metrics"] = json.loads((tmp_path / "run" / "metrics.json").read_text())


@pytest.mark.parametrize("share", range(SHARES))
def test_compile(share: int, scope: Scope) -> None:
    scope.need_cuda()
    warm_up(scope.device, share, SHARES)
