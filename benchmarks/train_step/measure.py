"""Measuring a training benchmark: who takes part, whose turn it is, and what a step costs."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shared.contenders import get_ready
from benchmarks.shared.record import slug
from benchmarks.shared.step_cost import TRACED, idle_share, operations
from benchmarks.shared.timing import Contender, interleave, summary
from benchmarks.train_step.contenders import BASELINE, OURS, Built, Workshop
from benchmarks.train_step.peer_steps import padding_share


@dataclass(frozen=True, kw_only=True)
class Turns:
    """How long is measured."""

    rounds: int
    updates: int
    """Of a turn."""
    warmup: int

    @property
    def drawn(self) -> int:
        """Updates until the last round ends."""
        return self.warmup + self.rounds * self.updates

    @property
    def needed(self) -> int:
        """Updates of a contender: one when it is built, and the looks at what a step costs."""
        return 1 + self.drawn + 3 + 1 + TRACED


def measure(
    workshop: Workshop, names: Sequence[str], turns: Turns, traces: Path | None
) -> dict[str, Any]:
    """Time all contenders in turns, then look at what their steps cost; the figures by name.

    Args:
        traces: folder for the profiler's traces.
    """
    device = workshop.work.place.device
    built, absent = get_ready(names, workshop.build, BASELINE, device)
    timings = interleave(
        [Contender(name=name, step=one.step) for name, one in built.items()],
        rounds=turns.rounds,
        steps=turns.updates,
        warmup=turns.warmup,
    )
    work, tokens = workshop.work, sum(timings[BASELINE].tokens)
    peaks = {name: one.peak() for name, one in built.items()}
    idle = _idle(built, traces) if traces or work.place.device.type == "cuda" else {}
    ours = next((one for name, one in built.items() if name in OURS), None)
    floor = workshop.floor_seconds(tokens // (turns.rounds * turns.updates))
    return {
        "tokens": tokens,
        "padding": padding_share(work.task, work.config, updates=turns.drawn, micro=work.micro),
        "floor_ms": None if floor is None else 1e3 * floor,
        "operations": None if ours is None else operations(ours.step, work.place.device),
        "contenders": {
            name: summary(timing, timings[BASELINE], turns.updates)
            | {"peak_bytes": peaks[name], "idle_share": idle.get(name)}
            for name, timing in timings.items()
        },
        "did_not_start": absent,
    }


def _idle(built: Mapping[str, Built], traces: Path | None) -> dict[str, float | None]:
    """The share of each contender's steps in which the device does nothing; None on a CPU."""
    found: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory() as passing:
        for name, one in built.items():
            path = (traces or Path(passing)) / f"{slug(name)}.json.gz"
            one.trace(path)
            found[name] = idle_share(path)
    if traces is not None:
        print(f"traces of {len(built)} contenders: {traces}")
    return found
