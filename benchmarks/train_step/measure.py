"""Measuring a training benchmark: who takes part, whose turn it is, and what a step costs."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shared.record import slug
from benchmarks.shared.step_cost import TRACED, idle_share, operations
from benchmarks.shared.timing import CannotRun, Contender, interleave, summary, tidy
from benchmarks.train_step.contenders import BASELINE, OURS, Built, Workshop
from benchmarks.train_step.peer_steps import padding_share
from lmsl.errors import InputError


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


def wanted(workshop: Workshop, chosen: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Who is to take part, and why others that were not left out cannot.

    Args:
        chosen: names; none chooses all.

    Raises:
        InputError: there is nobody of that name.
    """
    known = workshop.offered()
    if odd := [name for name in chosen if name not in known]:
        expected = "; ".join(known)
        raise InputError(f"--contenders: expected some of {expected}, got {'; '.join(odd)}")
    asked = {n: why for n, why in known.items() if n in (*chosen, BASELINE) or not chosen}
    absent = {name: reason for name, reason in asked.items() if reason is not None}
    return [name for name in asked if name not in absent], absent


def measure(
    workshop: Workshop, names: Sequence[str], turns: Turns, traces: Path | None
) -> dict[str, Any]:
    """Time all contenders in turns, then look at what their steps cost; the figures by name.

    Args:
        traces: folder for the profiler's traces.
    """
    built, absent = _built(workshop, names)
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


def _built(workshop: Workshop, names: Sequence[str]) -> tuple[dict[str, Built], dict[str, str]]:
    """The contenders in order, and why others could not be built."""
    built, absent = {}, {}
    # The baseline first: it has to fit into memory, whoever else does.
    for name in sorted(names, key=lambda name: name != BASELINE):
        try:
            built[name] = workshop.build(name)
        except CannotRun as error:
            if name == BASELINE:
                raise
            absent[name] = str(error)
            print(f"not compared: {name}: {error}")
        tidy(workshop.work.place.device)
    return {name: built[name] for name in names if name in built}, absent


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
