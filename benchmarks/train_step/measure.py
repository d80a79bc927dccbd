"""Measuring a training benchmark: who takes part, whose turn it is, and what a step costs."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared.comparison import Built, get_ready, take_turns
from benchmarks.shared.record import slug
from benchmarks.shared.step_cost import idle_share, operations
from benchmarks.train_step.contenders import BASELINE, OURS, Workshop
from benchmarks.train_step.peer_steps import padding_share
from benchmarks.train_step.settings import Settings


def measure(workshop: Workshop, names: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Time all contenders in turns, then look at what their steps cost; the figures by name."""
    work, device = workshop.work, workshop.work.place.device
    built, absent = get_ready(names, workshop.build, BASELINE, device)
    contenders, timings = take_turns(
        built, BASELINE, rounds=settings.rounds, calls=settings.updates, warmup=settings.warmup
    )
    tokens = sum(timings[BASELINE].tokens)
    idle = _idle(built, settings.trace) if settings.trace or device.type == "cuda" else {}
    ours = next((one for name, one in built.items() if name in OURS), None)
    floor = workshop.floor_seconds(tokens // (settings.rounds * settings.updates))
    return {
        "tokens": tokens,
        "padding": padding_share(work, settings.drawn),
        "floor_ms": None if floor is None else 1e3 * floor,
        "operations": None if ours is None else operations(ours.step, device),
        "contenders": {
            name: one | {"idle_share": idle.get(name)} for name, one in contenders.items()
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
