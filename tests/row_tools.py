"""The device of the tests of a layer's small operations, and their error rule as an assertion.

And kernels that are not compiled, on GPUs that are not there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from benchmarks.gpu_check.layer_ops import Compute, Named, Rows, wrong
from lmsl.layers.fused.ops import LayerOps

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def rows_of(dtype: torch.dtype = torch.float32, strides: str = "fused") -> Rows:
    """On the device of the tests."""
    return Rows(device=torch.device(DEVICE), dtype=dtype, strides=strides)


def check(compute: Compute, ops: LayerOps, tensors: Named) -> None:
    """What ``ops`` compute is as near to float64 as the error rule asks."""
    found = wrong(compute, ops, tensors)
    assert not found, found


class FakeDevices:
    """The current device of a machine with several GPUs, and those that were entered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current, self.entered = 0, list[int]()
        monkeypatch.setattr(torch.cuda, "current_device", lambda: self.current)
        monkeypatch.setattr(torch.cuda, "device", self._enter)

    @contextmanager
    def _enter(self, other: torch.device) -> Iterator[None]:
        self.entered.append(other.index)
        before, self.current = self.current, other.index
        try:
            yield
        finally:
            self.current = before


class FakeKernel:
    """Keeps where and with what it was started, in place of a compiled kernel."""

    def __init__(self, devices: FakeDevices) -> None:
        self.devices = devices
        self.started: list[tuple[int, tuple[int, ...], dict[str, object]]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return lambda **named: self.started.append((self.devices.current, grid, named))
