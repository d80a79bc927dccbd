"""Parts of ``benchmarks.gpu_check`` that are other programs: memory checker, benchmark, training.

Each is told how long it may take and is killed with everything it started when it does not keep to
that.
"""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.scope import Scope, Skipped
from benchmarks.shared.machine import REPOSITORY

_SANITIZER_FOLDERS = (
    "/usr/local/cuda*/bin",
    "/usr/local/cuda*/compute-sanitizer",
    "/opt/cuda*/bin",
    "/opt/nvidia/*/bin",
    "/opt/nvidia/compute-sanitizer*",
)
_SUMMARY = re.compile(r"ERROR SUMMARY: (\d+) error")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a program did."""

    status: int | None
    """None when it was killed for taking too long."""
    output: str
    """The end of what it printed."""


def run_program(
    command: Sequence[str],
    *,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    keep: int = 20_000,
) -> Finished:
    """Run a program from the repository's root, in a process group of its own."""
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        status: int | None
        try:
            status = process.wait(timeout=max(seconds, 1.0))
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        printed.seek(max(0, printed.seek(0, os.SEEK_END) - keep))
        return Finished(status=status, output=printed.read().decode(errors="replace"))


def find_sanitizer(path: str | None = None) -> str | None:
    """NVIDIA's compute-sanitizer: on the PATH, or where CUDA is usually installed."""
    found = shutil.which("compute-sanitizer", path=path)
    if found is not None or path is not None:
        return found
    for pattern in _SANITIZER_FOLDERS:
        for folder in sorted(Path("/").glob(pattern.lstrip("/")), reverse=True):
            found = shutil.which("compute-sanitizer", path=str(folder))
            if found is not None:
                return found
    return None


def memcheck(scope: Scope) -> dict[str, Any]:
    """A few cases under compute-sanitizer: no access outside of what was allocated."""
    scope.need_cuda()
    tool = find_sanitizer()
    if tool is None:
        raise Skipped("compute-sanitizer is not on the PATH, nor where CUDA usually is")
    checked = [
        *(sys.executable, "-m", "benchmarks.gpu_check.part", "a", "--toy"),
        *("--device", str(scope.device), "--seconds", f"{scope.left:.0f}"),
    ]
    options = ["--tool", "memcheck", "--report-api-errors", "no", "--error-exitcode", "9"]
    finished = run_program(
        [tool, *options, *checked],
        seconds=scope.left,
        # Every tensor an allocation of its own, so that one step outside is noticed.
        environment={"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
    )
    return read_memcheck(finished)


def read_memcheck(finished: Finished) -> dict[str, Any]:
    """What the sanitizer found; raises ``Skipped`` where it could not look."""
    said = finished.output
    if finished.status is None:
        raise Skipped(f"compute-sanitizer did not finish in time; it said: {said[-300:]!r}")
    if "Device not supported" in said or "Unable to find injection" in said:
        raise Skipped(f"compute-sanitizer cannot check this device; it said: {said[-300:]!r}")
    summary = _SUMMARY.search(said)
    if summary is None:
        raise Skipped(f"compute-sanitizer gave no summary; it said: {said[-300:]!r}")
    answer: dict[str, Any] = {"faults": [], "errors": int(summary[1])}
    if answer["errors"]:
        answer["faults"].append(f"{summary[1]} bad memory accesses: {said[:3000]}")
    elif finished.status != 0:
        answer["faults"].append(f"the cases failed under it: {said[-1500:]}")
    return answer


def benchmark(scope: Scope, record: Path, commit: str | None) -> dict[str, Any]:
    """``benchmarks.attention``, as many cells as the time allows, into ``record``."""
    command = [
        *(sys.executable, "-m", "benchmarks.attention", "--output", str(record)),
        *("--device", str(scope.device)),
        # What it has begun it finishes: a cell can take a while.
        *("--seconds", f"{max(scope.left - 25, 1):.0f}"),
        *(["--commit", commit] if commit else []),
        *(["--plots"] if importlib.util.find_spec("matplotlib") is not None else []),
        *(["--quick"] if scope.toy else []),
    ]
    finished = run_program(command, seconds=scope.left)
    answer: dict[str, Any] = {"faults": [], "record": record.name, "printed": finished.output}
    if finished.status is None:
        answer["stopped"] = "it was stopped at its time limit; the record holds what was done"
    elif finished.status != 0:
        answer["faults"].append(f"status {finished.status}: {finished.output[-800:]}")
    return answer


def train(scope: Scope) -> dict[str, Any]:
    """Fifty updates of ``train.py`` with NF4 weights on the generated data."""
    missing = [name for name in ("bitsandbytes", "tyro") if importlib.util.find_spec(name) is None]
    if missing:
        raise Skipped(f"{' and '.join(missing)} cannot be imported")
    scope.need_cuda()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        command = [sys.executable, "train.py", "--unmask", "0011", "--max-steps", "50"]
        command += ["--device", str(scope.device), "--output", str(output)]
        finished = run_program(command, seconds=scope.left)
        if finished.status != 0:
            reason = f"status {finished.status}: {finished.output[-800:]}"
            return {"faults": [f"train.py --unmask 0011: {reason}"]}
        return {"faults": [], "metrics": json.loads((output / "metrics.json").read_text())}
