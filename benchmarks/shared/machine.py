"""Who a benchmark ran on: the machine, its load, the versions and the commit."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).parents[2]
SHARED = Path(os.environ.get("LMSL_SHARED", REPOSITORY.parent / "shared"))
"""Where data lies that is not in the repository."""
_CHANGES = ("git", "--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
_PACKAGES = ("torch", "triton", "transformers", "peft", "bitsandbytes", "numpy")


def machine(device: torch.device) -> dict[str, Any]:
    """The device, its load, the versions and the commit: what a figure means nothing without.

    Where there is no git repository to ask, the commit is what ``LMSL_COMMIT`` says.
    """
    installed = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    return {
        "device": str(device),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: installed.get(name) for name in _PACKAGES},
        **({"gpu": gpu(device)} if device.type == "cuda" else {}),
        "commit": _run("git", "rev-parse", "HEAD") or os.environ.get("LMSL_COMMIT"),
        "uncommitted_changes": bool(_run(*_CHANGES)),
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


def _arguments() -> list[str]:
    """The command line as it can be typed again: a module by its name, not by its file."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["-m", spec.name] if spec is not None else [Path(sys.argv[0]).name]
    return [*program, *sys.argv[1:]]


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _run(*command: str) -> str | None:
    """What a program prints, or None where it is missing or fails."""
    try:
        answer = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
