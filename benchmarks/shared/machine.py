"""What every benchmark shares: the machine it ran on, fair timing, a table and a JSON record.

Machines are noisy and often shared, so contenders never run one after another as a whole: in each
round every one does the same few updates, and who begins changes from round to round. Slow phases
then hit all alike, and ratios are taken within a round before their median is.
"""

import gc
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

from lmsl.errors import InputError

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results"
_PACKAGES = ("torch", "triton", "transformers", "peft", "bitsandbytes", "numpy")


class CannotRun(InputError):
    """A contender cannot run here, or does not do what the others do; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Somebody who is timed; ``step`` does one unit of work and returns the real tokens in it, or
    the sentences where a benchmark counts those."""

    name: str
    step: Callable[[], int]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What one contender did: seconds and real tokens of every round."""

    seconds: list[float]
    tokens: list[int]

    @property
    def rates(self) -> list[float]:
        """Real tokens per second of every round."""
        return [tokens / spent for tokens, spent in zip(self.tokens, self.seconds, strict=True)]


def interleave(
    contenders: Sequence[Contender], *, rounds: int, steps: int, warmup: int
) -> dict[str, Timing]:
    """Time all contenders in turns: ``rounds`` rounds of ``steps`` steps each, after a warm-up.

    All must do the same work: the real tokens of a round have to be equal.
    """
    for contender in contenders:
        for _ in range(warmup):
            contender.step()
    timings = {contender.name: Timing(seconds=[], tokens=[]) for contender in contenders}
    for number in range(rounds):
        first = number % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            # What others left behind must not be collected on this one's time.
            gc.collect()
            began = time.perf_counter()
            tokens = sum(contender.step() for _ in range(steps))
            timings[contender.name].seconds.append(time.perf_counter() - began)
            timings[contender.name].tokens.append(tokens)
        seen = {timing.tokens[-1] for timing in timings.values()}
        assert len(seen) == 1, f"round {number + 1}: contenders saw different tokens: {seen}"
    return timings


def wait(device: torch.device) -> None:
    """Until a device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def tidy(device: torch.device) -> None:
    """Give memory back that nobody uses any more: to the next model, or to another process."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def summary(timing: Timing, baseline: Timing, steps: int, unit: str = "tokens") -> dict[str, Any]:
    """The figures of one contender, and its speed against ``baseline`` round by round."""
    ratios = [a / b for a, b in zip(timing.rates, baseline.rates, strict=True)]
    return {
        f"{unit}_per_second": median(timing.rates),
        "step_ms": 1e3 * median(timing.seconds) / steps,
        "ratio": median(ratios),
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
        f"{unit}_per_second_rounds": timing.rates,
    }


def machine(device: torch.device) -> dict[str, Any]:
    """The device, its load, the versions and the commit: what a figure means nothing without."""
    return {
        "device": str(device),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        **({"gpu": gpu(device)} if device.type == "cuda" else {}),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.executable).name, *_arguments()]),
    }


def gpu(device: torch.device) -> dict[str, Any]:
    """The GPU, its driver and how it runs; what cannot be found out is ``None``."""
    properties = torch.cuda.get_device_properties(device)
    asked = ("driver_version", "clocks.sm", "clocks.mem", "power.limit", "temperature.gpu")
    answer = _run(
        "nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv,noheader", "--id=0"
    )
    told = [value.strip() for value in (answer or "").split(",")]
    states = dict(zip(asked, told, strict=True)) if len(told) == len(asked) else {}
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "processors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "driver": states.pop("driver_version", None),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "states": states,
    }


def machine_lines(found: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    versions = ", ".join(
        f"{name} {version or 'missing'}" for name, version in found["versions"].items()
    )
    card = found.get("gpu")
    changed = " with uncommitted changes" if found["uncommitted_changes"] else ""
    return [
        f"{found['processor']}, {found['cores']} cores, {found['threads']} threads, "
        f"load {found['load_1min']}",
        *([] if card is None else [f"{card['name']}, driver {card['driver'] or 'unknown'}"]),
        f"python {found['python']}, {versions}",
        f"commit {found['commit'] or 'unknown'}{changed}, {found['date']}",
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text: the first to the left, the others, numbers, to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (lines[0], rule, *lines[1:])
    )


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record whole or not at all; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.replace(path)


def _arguments() -> list[str]:
    """The command line as it can be typed again: a module by its name, not by its file."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["-m", spec.name] if spec is not None else [Path(sys.argv[0]).name]
    return [*program, *sys.argv[1:]]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """What git says about this repository; None where there is no git, or no repository."""
    return _run("git", "--no-optional-locks", *arguments)


def _run(*command: str) -> str | None:
    """What a program prints, or None where it is missing or fails."""
    try:
        answer = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
