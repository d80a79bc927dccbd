"""Where the proof runs, how large it is and how long it may take; see ``conftest``."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.attention.cells import Cell
from benchmarks.shared.record import RESULTS

NO_TIME = "no time was left"


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Where and how a part runs."""

    device: torch.device
    ends: float = float("inf")
    """By ``time.monotonic``: begin nothing after it."""
    toy: bool = False
    """Sizes that Triton's interpreter does in seconds, to see that a part is in order."""
    out: Path = RESULTS
    """Folder of what programs record."""

    @property
    def left(self) -> float:
        """Seconds in which something new may begin."""
        return self.ends - time.monotonic()

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def need_cuda(self) -> None:
        """Skip on other devices, in toy sizes too."""
        if not self.cuda:
            pytest.skip(f"it needs a CUDA device, got {self.device}")

    def need_packages(self, *names: str) -> None:
        """Skip where one of them is missing, as on a machine without a network."""
        missing = [name for name in names if find_spec(name) is None]
        if missing:
            pytest.skip(f"{' and '.join(missing)} cannot be imported")

    def cell(self, **size: Any) -> Cell:
        """A cell of this size, in toy sizes with heads to match."""
        toy: dict[str, Any] = {"heads": 2, "kv_heads": 1, "head_dim": 16, "dtype": "float32"}
        return Cell(**(toy if self.toy else {}) | size)

    def waits(self, step: Callable[[], object]) -> str | None:
        """What torch says of a step that makes the host wait, or ``None``."""
        if not self.cuda:
            return None
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        except RuntimeError as error:
            return str(error)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return None


def agree(faults: list[str]) -> None:
    """Fail with all that is wrong, the first in the first line."""
    assert not faults, "\n".join(faults)
