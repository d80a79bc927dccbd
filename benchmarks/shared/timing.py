"""Fair timing of contenders that do the same work.

Machines are noisy and often shared, so contenders never run one after another as a whole: in each
round every one does the same few updates, and who begins changes from round to round. Slow phases
then hit all alike, and ratios are taken within a round before their median is.
"""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from lmsl.errors import InputError

Step = Callable[[], int]
"""One unit of work; returns its real tokens, or sentences where a benchmark counts those."""


class CannotRun(InputError):
    """A contender cannot run here, or does not do what the others do; the message says why."""


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
    steps: Mapping[str, Step], *, rounds: int, calls: int = 1, warmup: int
) -> dict[str, Timing]:
    """Time all contenders in turns: ``rounds`` rounds of ``calls`` steps each, after a warm-up.

    All must do the same work: the real tokens of a round have to be equal.
    """
    for step in steps.values():
        for _ in range(warmup):
            step()
    timings = {name: Timing(seconds=[], tokens=[]) for name in steps}
    order = list(steps.items())
    for number in range(rounds):
        first = number % max(1, len(order))
        for name, step in (*order[first:], *order[:first]):
            # What others left behind must not be collected on this one's time.
            gc.collect()
            began = time.perf_counter()
            tokens = sum(step() for _ in range(calls))
            timings[name].seconds.append(time.perf_counter() - began)
            timings[name].tokens.append(tokens)
        seen = {timing.tokens[-1] for timing in timings.values()}
        assert len(seen) <= 1, f"round {number + 1}: contenders saw different tokens: {seen}"
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


def summary(
    timing: Timing, baseline: Timing, calls: int = 1, unit: str = "tokens"
) -> dict[str, Any]:
    """The figures of one contender, and its speed against ``baseline`` round by round."""
    ratios = [a / b for a, b in zip(timing.rates, baseline.rates, strict=True)]
    return {
        f"{unit}_per_second": median(timing.rates),
        "step_ms": 1e3 * median(timing.seconds) / calls,
        "ratio": median(ratios),
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
        f"{unit}_per_second_rounds": timing.rates,
    }
