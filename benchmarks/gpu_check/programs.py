"""Programs that are told how long they may take, and killed with all that they started."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.shared.machine import REPOSITORY


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
