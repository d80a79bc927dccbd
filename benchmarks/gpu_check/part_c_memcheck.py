"""Part c: a few cases under compute-sanitizer; no access outside of what was allocated."""

import os
import re
import shutil
import sys
from typing import Any

import pytest

from benchmarks.gpu_check import part_a_numerics
from benchmarks.gpu_check.programs import Finished, run_program
from benchmarks.gpu_check.scope import Scope

pytestmark = pytest.mark.gpu
_USUAL = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer", "/opt/cuda/bin")
_SUMMARY = re.compile(r"ERROR SUMMARY: (\d+) error")


def test_no_bad_access(scope: Scope, figures: dict[str, Any]) -> None:
    scope.need_cuda()
    tool = find_sanitizer()
    if tool is None:
        pytest.skip("compute-sanitizer is not on the PATH, nor where CUDA usually is")
    options = ["--tool", "memcheck", "--report-api-errors", "no", "--error-exitcode", "9"]
    checked = [sys.executable, "-m", "pytest", "-q", str(part_a_numerics.__file__)]
    seconds = min(scope.left, 600)
    finished = run_program(
        [tool, *options, *checked, "--toy", "--device", str(scope.device)],
        seconds=seconds,
        # Every tensor an allocation of its own, so that one step outside is noticed.
        environment={"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
    )
    figures["errors"] = read_memcheck(finished)


def find_sanitizer() -> str | None:
    """NVIDIA's compute-sanitizer: on the PATH, or where CUDA is usually installed."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *_USUAL))
    return shutil.which("compute-sanitizer", path=path)


def read_memcheck(finished: Finished) -> int:
    """How many errors the sanitizer found, 0 if this returns; skips where it could not look."""
    said = finished.output
    if finished.status is None:
        pytest.skip(f"compute-sanitizer did not finish in time; it said: {said[-300:]!r}")
    if "Device not supported" in said or "Unable to find injection" in said:
        pytest.skip(f"compute-sanitizer cannot check this device; it said: {said[-300:]!r}")
    summary = _SUMMARY.search(said)
    if summary is None:
        pytest.skip(f"compute-sanitizer gave no summary; it said: {said[-300:]!r}")
    errors = int(summary[1])
    assert not errors, f"{errors} bad memory accesses: {said[:3000]}"
    assert finished.status == 0, f"the cases failed under it: {said[-1500:]}"
    return errors
