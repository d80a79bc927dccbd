"""What a training took of the device's memory: the quantity that ``memory`` estimates."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from lmsl.device import mib
from lmsl.training.memory import Memory


class Peak:
    """The most memory that a training has in use, from when this object is made.

    Args:
        held: bytes of the training that are on the device already.
    """

    def __init__(self, device: torch.device, held: int) -> None:
        self._device = device
        self._training: int | None = None
        self._begin()
        resident = None if device.type == "cuda" else _resident("VmRSS")
        self._others = None if resident is None else resident - held

    def _begin(self) -> None:
        """Forget the peak so far."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        with suppress(OSError, AttributeError):
            # What was freed before and not given back would hide as much growth, and an earlier
            # peak all of it. psutil and getrusage know no peak that can be begun anew.
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Inside, something else is done than training, an evaluation with packs of its own."""
        used = self.used()
        if used is not None:
            self._training = max(used, self._training or 0)
        yield
        self._begin()

    def used(self) -> int | None:
        """Bytes, since it was begun: on a GPU what tensors held, on the host by how much the
        process grew and what was held before; None where the system does not tell."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        highest = _resident("VmHWM")
        return None if self._others is None or highest is None else highest - self._others

    def line(self, expected: Memory) -> str:
        """For people."""
        used = self.used() if self._training is None else self._training
        if used is None:
            return "memory: this system does not tell how much was in use"
        return f"memory: {mib(used)} at most in training, {mib(expected.total)} were expected"


def _resident(name: str) -> int | None:
    """A size of this process from Linux; None elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        (size,) = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
        return int(size) * 1024
    except (OSError, ValueError, IndexError):
        return None
