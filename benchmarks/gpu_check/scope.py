"""What the parts of ``benchmarks.gpu_check`` share: where they run, and what they may answer."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.shared.record import write_json


class Skipped(Exception):
    """A part cannot run here; the message says why. Nothing is proven by it, nor disproven."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Where and how a part runs."""

    device: torch.device
    ends: float
    """By ``time.monotonic``: begin nothing after it."""
    toy: bool = False
    """Sizes that Triton's interpreter does in seconds, to see that a part is in order."""
    share: tuple[int, int] = (0, 1)
    """Which share of the work, counted from 0, and of how many."""
    record: Path | None = None
    """Where unfinished answers are noted, so that a kill loses little."""

    @property
    def left(self) -> float:
        """Seconds in which something new may begin."""
        return self.ends - time.monotonic()

    def note(self, answer: Mapping[str, Any]) -> None:
        """Keep an answer that is not complete yet."""
        if self.record is not None:
            write_json(self.record, {"status": "unfinished", "answer": dict(answer)})

    def need_cuda(self) -> None:
        """Raise ``Skipped`` on other devices."""
        if self.device.type != "cuda":
            raise Skipped(f"it needs a CUDA device, got {self.device}")


def merge(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """The answers of all shares as one: lists are joined and counts added.

    ``worst``, a number and the case it belongs to, is the largest.
    """
    merged = dict(answers[0])
    for answer in answers[1:]:
        for name, value in answer.items():
            known = merged.get(name)
            if known is None or value is None:
                merged[name] = value if known is None else known
            elif name == "worst":
                merged[name] = max(known, value)
            elif isinstance(value, (list, int)) and not isinstance(value, bool):
                merged[name] = known + value
    return merged
