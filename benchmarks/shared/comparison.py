"""What the benchmarks that compare contenders have in common: flags, who takes part, turns, the
gate's word, and the record."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from benchmarks.shared.labelled import prepare
from benchmarks.shared.machine import machine, machine_lines
from benchmarks.shared.plots import draw_speeds, finish
from benchmarks.shared.record import record_path, table, told
from benchmarks.shared.step_cost import Held, peak_bytes, trace
from benchmarks.shared.timing import CannotRun, Step, Timing, interleave, summary, tidy, wait
from lmsl.device import choose_device, choose_dtype, mib
from lmsl.errors import InputError
from lmsl.training.stack import Place


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Flags of all comparisons."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where it runs; in float32 on a CPU, else in bfloat16."""
    model: str = "tiny"
    """Hub id or folder of a decoder, `tiny`, or `shape:NAME` for random weights of the shape of
    llama-2-7b, mistral-7b, qwen3-4b, tinyllama-1.1b or toy."""
    contenders: tuple[str, ...] = ()
    """Only these, by their names in the table, and the baseline; by default all that can run."""
    threads: int | None = None
    """Threads of torch; by default what torch takes."""
    seed: int = 1
    """Of order, initial values and dropout."""
    output: Path | None = None
    """Where the record is written; by default in benchmarks/results, named by the device."""

    def begin(self) -> tuple[Place, dict[str, Any]]:
        """Where everybody computes and in what, and the machine, which is shown."""
        prepare(self.threads)
        device = choose_device(self.device)
        found = machine(device)
        print(*machine_lines(found), sep="\n")
        return Place(device=device, dtype=choose_dtype("auto", device)), found

    def finish(self, benchmark: str, machine: dict[str, Any], **figures: Any) -> None:
        """Write the record, and draw it."""
        settings = told(self, "data", "trace", "unsloth")
        record = {"benchmark": benchmark, "machine": machine, "settings": settings} | figures
        finish(record, self.output or record_path(benchmark, machine), draw_speeds)


class Gate(Protocol):
    """Ours and a peer on the same work."""

    @property
    def holds(self) -> bool: ...

    @property
    def allowed(self) -> float: ...

    def line(self) -> str: ...


def passed(gates: Sequence[Gate]) -> bool:
    """Show what the gate says; whether speeds may be measured."""
    print(*(gate.line() for gate in gates), sep="\n")
    good = all(gate.holds for gate in gates)
    if not good:
        most = gates[0].allowed
        print(f"no speeds: ours and the peer differ by more than {most:.1e}", file=sys.stderr)
    return good


@dataclass(frozen=True, kw_only=True)
class Built:
    """A contender that is ready."""

    step: Step
    """One update, or one prediction of everything; ends when it is done."""
    peak: Callable[[], int | None]
    """The most bytes of a GPU in use during a step; None off CUDA."""
    trace: Callable[[Path], None]
    """Writes what the profiler sees of steps; see ``step_cost.trace``."""


def ready(step: Step, held: Held, device: torch.device) -> Built:
    """A contender of this process that keeps ``held``."""

    def awaited() -> int:
        count = step()
        wait(device)
        return count

    # What it needs while it works shows here, not in the middle of a measurement.
    awaited()
    return Built(
        step=awaited,
        peak=partial(peak_bytes, awaited, held, device),
        trace=partial(trace, awaited, device),
    )


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
    built, absent = dict[str, Built](), dict[str, str]()
    # The baseline first: it has to fit into memory, whoever else does.
    for name in sorted(names, key=lambda name: name != baseline):
        try:
            built[name] = build(name)
        except (CannotRun, torch.OutOfMemoryError) as error:
            reason = str(error) if isinstance(error, CannotRun) else NO_MEMORY
            if name == baseline:
                raise CannotRun(f"{name}: {reason}") from error
            absent[name] = reason
            print(f"not compared: {name}: {reason}")
        tidy(device)
    return {name: built[name] for name in names if name in built}, absent


NO_MEMORY = (
    "it does not fit into memory beside the others; --micro-batch or --batch-sizes cut the work "
    "of peers, --contenders picks some"
)


def take_turns(
    built: Mapping[str, Built],
    baseline: str,
    *,
    rounds: int,
    calls: int = 1,
    warmup: int,
    unit: str = "tokens",
) -> tuple[dict[str, dict[str, Any]], dict[str, Timing]]:
    """The figures of all contenders, and their times."""
    steps = {name: one.step for name, one in built.items()}
    timings = interleave(steps, rounds=rounds, calls=calls, warmup=warmup)
    figures = {
        name: summary(timing, timings[baseline], calls, unit) | {"peak_bytes": built[name].peak()}
        for name, timing in timings.items()
    }
    return figures, timings


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
