"""What a step costs besides its time: the peak of memory, and the operations it consists of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

_SHOWN = 12


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


def peak_bytes(step: Callable[[], int], held: Held, device: torch.device) -> int | None:
    """The most a contender has in use during a step, whatever others hold; None off CUDA."""
    if device.type != "cuda":
        return None
    step()
    before = _allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    return held.bytes + torch.cuda.max_memory_allocated(device) - before


def operations(step: Callable[[], int], device: torch.device) -> dict[str, Any]:
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
        if on_device == cuda:
            own = event.self_device_time_total if cuda else event.self_cpu_time_total
            spent[event.key] = spent.get(event.key, 0.0) + own
    total = sum(spent.values())
    largest = sorted(spent, key=spent.__getitem__, reverse=True)[:_SHOWN]
    return {
        "total_ms": total / 1e3,
        "shares": {name: spent[name] / max(total, 1e-9) for name in largest},
    }


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
