"""Who takes part in a comparison, who cannot, and the table of their speeds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch

from benchmarks.shared.record import table
from benchmarks.shared.timing import CannotRun, tidy
from lmsl.device import mib
from lmsl.errors import InputError

Built = TypeVar("Built")


def wanted(
    known: Mapping[str, str | None], chosen: Sequence[str], baseline: str
) -> tuple[list[str], dict[str, str]]:
    """Who is to take part, and why others that were not left out cannot.

    Args:
        known: everybody, and why they cannot run here.
        chosen: names; none chooses all. The baseline always takes part.

    Raises:
        InputError: there is nobody of that name.
    """
    if odd := [name for name in chosen if name not in known]:
        expected = "; ".join(known)
        raise InputError(f"--contenders: expected some of {expected}, got {'; '.join(odd)}")
    asked = [name for name in known if name in (*chosen, baseline) or not chosen]
    absent = {name: reason for name in asked if (reason := known[name]) is not None}
    for name, reason in absent.items():
        print(f"not compared: {name}: {reason}")
    return [name for name in asked if name not in absent], absent


def get_ready(
    names: Sequence[str], build: Callable[[str], Built], baseline: str, device: torch.device
) -> tuple[dict[str, Built], dict[str, str]]:
    """The contenders in order, and why others could not be built."""
    ready, absent = dict[str, Built](), dict[str, str]()
    # The baseline first: it has to fit into memory, whoever else does.
    for name in sorted(names, key=lambda name: name != baseline):
        try:
            ready[name] = build(name)
        except CannotRun as error:
            if name == baseline:
                raise
            absent[name] = str(error)
            print(f"not compared: {name}: {error}")
        tidy(device)
    return {name: ready[name] for name in names if name in ready}, absent


def speeds(
    contenders: Mapping[str, Mapping[str, Any]], baseline: str, unit: str = "tokens"
) -> str:
    """The figures of ``timing.summary`` and what was added to them, a line a contender."""
    named = {"tokens": "real tokens"}.get(unit, unit)
    columns: dict[str, Callable[[Any], str]] = {
        f"{named}/s": lambda one: f"{one[f'{unit}_per_second']:,.1f}",
        "ms": lambda one: f"{one['step_ms']:.1f}",
        f"x {baseline}": lambda one: f"{one['ratio']:.2f}",
        "over rounds": lambda one: f"{one['ratio_lowest']:.2f} to {one['ratio_highest']:.2f}",
        "peak memory": lambda one: "" if one["peak_bytes"] is None else mib(one["peak_bytes"]),
        "device idle": lambda one: (
            "" if one.get("idle_share") is None else f"{100 * one['idle_share']:.1f} %"
        ),
    }
    rows = [[name, *(show(one) for show in columns.values())] for name, one in contenders.items()]
    return table(["", *columns], rows)
