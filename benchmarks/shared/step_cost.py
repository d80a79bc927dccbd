"""What a step costs besides its time: the peak of memory, the operations it consists of, and how
long the device waits.

The waiting is read off a profile of steps in a row that notes what the device does and nothing of
the host, which it would slow down: the gaps between the first and the last thing that the device
did. The profiler takes a little of the host's time all the same, so the share is an upper bound.
The profile is a trace in Chrome's format (chrome://tracing, ui.perfetto.dev), to be kept as
evidence.
"""

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

_SHOWN = 12
# What a device does, by the words of the trace; the rest are notes of the host and of ranges.
_WORK = ("kernel", "gpu_memcpy", "gpu_memset")
TRACED = 3
"""Steps in a row whose gaps are counted; one between two is that of a single step."""


@dataclass(kw_only=True)
class Held:
    """Bytes of a GPU that something keeps from when it was built."""

    bytes: int = 0


@contextmanager
def holding(device: torch.device) -> Iterator[Held]:
    """Fills in what is still allocated of what was allocated inside."""
    held, before = Held(), _allocated(device)
    yield held
    held.bytes = _allocated(device) - before


def peak_bytes(step: Callable[[], object], held: Held, device: torch.device) -> int | None:
    """The most a contender has in use during a step, whatever others hold; None off CUDA."""
    if device.type != "cuda":
        return None
    step()
    before = _allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    return held.bytes + torch.cuda.max_memory_allocated(device) - before


def operations(step: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """Time of one step by operation: on CUDA that of kernels by name, else that of operators.

    Returns:
        ``total_ms``, which on CUDA is below the time of a step where the device waits, and
        ``shares`` of the largest.
    """
    cuda = device.type == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=kinds) as found:
        step()
    spent: dict[str, float] = {}
    for event in found.key_averages():
        on_device = event.device_type != torch.autograd.DeviceType.CPU
        # A range that somebody named holds kernels that are there themselves.
        if on_device == cuda and not event.is_user_annotation:
            own = event.self_device_time_total if cuda else event.self_cpu_time_total
            spent[event.key] = spent.get(event.key, 0.0) + own
    total = sum(spent.values())
    largest = sorted(spent, key=spent.__getitem__, reverse=True)[:_SHOWN]
    return {
        "total_ms": total / 1e3,
        "shares": {name: spent[name] / max(total, 1e-9) for name in largest},
    }


def trace(step: Callable[[], object], device: torch.device, path: Path) -> None:
    """Profile ``TRACED`` steps in a row on CUDA, one step by its operators elsewhere.

    Args:
        path: ends in ``.json.gz``; its folder is made.
    """
    cuda = device.type == "cuda"
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = TRACED if cuda else 1
    with profile(
        activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU],
        # What the profiler sets up at first falls into a step that is not kept.
        schedule=schedule(wait=0, warmup=1, active=steps),
        on_trace_ready=lambda found: found.export_chrome_trace(str(path)),
    ) as profiler:
        for _ in range(1 + steps):
            step()
            profiler.step()


def idle_share(path: Path) -> float | None:
    """The share of the time from the first to the last thing a device did in a trace in which it
    did nothing; None where no device is in the trace."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        events: Sequence[dict[str, Any]] = json.load(file)["traceEvents"]
    spans = sorted(
        (float(event["ts"]), float(event["ts"]) + float(event["dur"]))
        for event in events
        if event.get("ph") == "X" and event.get("cat") in _WORK
    )
    if not spans:
        return None
    (began, reached), busy = spans[0], 0.0
    first = began
    for start, end in spans[1:]:
        if start > reached:
            busy += reached - began
            began = start
        reached = max(reached, end)
    busy += reached - began
    return 1.0 - busy / max(reached - first, 1e-9)


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
