"""What stacked training saves: R runs over one base at once against the same runs one by one.

    python -m benchmarks.search.stacks
    python -m benchmarks.search.stacks --data synthetic --rounds 5 --sizes 1 4 16

Both sides are lmsl's own step over the same sentences, with the same kernels and threads: one
update of R runs as a stack, against one update of each of the R runs alone. The runs are the
strings of the grid, with ``--seeds`` seeds in turn; with one seed all see the same sentences.

First comes the gate: with dropout on, losses and gradient norms of the stack's first update have
to be those of the runs alone. Then sizes take turns, round by round. Two clocks are read: wall
time, and the processor time of this process, which says the same on an idle machine and goes on
saying something on a busy one. Their ratios are taken within a round before the median is. Beside
them stands the floor (``benchmarks.train_step.frozen_products``): the processor time of the
products with the frozen weights, which both sides make, as a share of the runs one by one.
"""

import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.shared.flags import command
from benchmarks.shared.labelled import CONLL2000, CPU_PLACE, labelled, prepare, record_name
from benchmarks.shared.machine import machine, machine_lines
from benchmarks.shared.plots import draw_scaling, finish
from benchmarks.shared.record import RESULTS, table, told
from benchmarks.train_step.frozen_products import FrozenProducts
from benchmarks.train_step.work import Work, labelled_work
from lmsl.config.config import Config
from lmsl.errors import InputError
from lmsl.mask.bits import expand_strings
from lmsl.training.loop import Update, training_updates
from lmsl.training.runs import Run
from lmsl.training.schedule import updates_per_epoch
from lmsl.training.stack import Stack, assemble_runs

TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and for how long."""

    model: str = "tiny"
    """Hub id or folder of a decoder, or `tiny`."""
    data: str = str(CONLL2000 / "train.txt")
    """A labelled file, or `synthetic`."""
    sentences: int | None = 2000
    """Use only the first so many sentences."""
    sizes: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Runs of the stacks that are compared."""
    seeds: int = 1
    """How many different seeds the runs have, in turn."""
    batch_size: int = 8
    """Sentences of one update of a run; by default as in the default recipe."""
    rounds: int = 7
    """How often all take their turn."""
    threads: int | None = None
    """Threads of torch; by default what torch takes."""
    output: Path = RESULTS / "sweep_cpu.json"
    """Where the record is written."""


def run(settings: Settings) -> int:
    """Measure and report; the exit status."""
    if min(settings.sizes, default=0) < 1 or max(settings.sizes) > 16:
        raise InputError("--sizes: expected numbers from 1 to 16, the strings of the grid")
    prepare(settings.threads)
    found = machine(CPU_PLACE.device)
    print(*machine_lines(found), sep="\n")
    data = labelled(settings.data, "train", settings.sentences)
    work = labelled_work(data, _config(settings, len(data.sentences)))
    runs = _runs(work, settings.seeds)[: max(settings.sizes)]
    difference = gate(work, runs)
    print(f"gate: stacked and alone differ by at most {difference:.1e} of loss or gradient norm")
    if not difference <= TOLERANCE:
        print(f"no times: that is more than {TOLERANCE}", file=sys.stderr)
        return 1
    figures = measure(settings, work, runs)
    print(_table(figures))
    record = {
        "benchmark": "sweep",
        "machine": found,
        "settings": told(settings, "data", "sentences", "sizes", "threads"),
        "data": {"name": record_name(data), "sentences": len(work.task)},
        "gate": {"difference": difference, "tolerance": TOLERANCE},
        "sizes": figures,
    }
    finish(record, settings.output, draw_scaling)
    return 0


def gate(work: Work, runs: Sequence[Run]) -> float:
    """The largest relative difference of losses and norms, stacked against alone."""
    together = next(_updates(work, runs))
    alone = [next(_updates(work, [run])) for run in runs]
    pairs = [
        pair
        for place, its in enumerate(alone)
        for pair in (
            (together.loss[place], its.loss[0]),
            (together.grad_norm[place], its.grad_norm[0]),
        )
    ]
    return max(abs(ours - its) / abs(its) for ours, its in pairs)


def measure(settings: Settings, work: Work, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The figures of every size: seconds of both clocks for one update of each run."""
    singles = [_updates(work, [run]) for run in runs]
    stacks = {size: _updates(work, runs[:size]) for size in settings.sizes}
    # None where the layers are not of the shape we know.
    tagger = _stack(work, runs[:1]).tagger
    products = None if tagger.block is None else FrozenProducts(tagger, work.place)
    for updates in (*singles, *stacks.values()):
        # The first one allocates, and the second one finds out how much it can keep.
        next(updates)
        next(updates)
    times: dict[int, list[tuple[float, ...]]] = {size: [] for size in settings.sizes}
    for number in range(settings.rounds):
        order = list(settings.sizes)
        for size in order[number % len(order) :] + order[: number % len(order)]:
            *alone, rows = _timed(singles[:size])
            *together, _ = _timed([stacks[size]])
            floor = (nan, nan) if products is None else products.seconds(rows)
            times[size].append((*together, *alone, *floor))
    return [_figures(size, rows) for size, rows in times.items()]


def _timed(updates: Sequence[Iterator[Update]]) -> tuple[float, float, int]:
    """Wall and processor seconds of one update of each, and the tokens of all."""
    gc.collect()
    wall, processor = time.perf_counter(), time.process_time()
    tokens = sum(next(one).tokens for one in updates)
    return time.perf_counter() - wall, time.process_time() - processor, tokens


def _figures(size: int, rows: Sequence[tuple[float, ...]]) -> dict[str, Any]:
    wall, processor, wall_alone, processor_alone, _, least = zip(*rows, strict=True)

    def ratios(one: Sequence[float], other: Sequence[float]) -> list[float]:
        return [a / b for a, b in zip(one, other, strict=True)]

    walls, processors = ratios(wall, wall_alone), ratios(processor, processor_alone)
    return {
        "runs": size,
        "stacked_ms": 1e3 * median(wall),
        "serial_ms": 1e3 * median(wall_alone),
        "stacked_processor_ms": 1e3 * median(processor),
        "serial_processor_ms": 1e3 * median(processor_alone),
        "ratio": median(walls),
        "ratio_lowest": min(walls),
        "ratio_highest": max(walls),
        "processor_ratio": median(processors),
        "processor_ratios": processors,
        "floor_ratio": None if isnan(least[0]) else median(ratios(least, processor_alone)),
    }


def _stack(work: Work, runs: Sequence[Run]) -> Stack:
    """Some runs together, as ``lmsl sweep`` puts them."""
    made = assemble_runs(runs, work.config, work.base(), work.classes, work.place)
    return Stack(runs, made, work.config)


def _updates(work: Work, runs: Sequence[Run]) -> Iterator[Update]:
    """Their training."""
    stack = _stack(work, runs)
    return training_updates(
        stack.tagger,
        work.task,
        work.config,
        clock=stack.clock,
        parameters=stack.parameters,
        optimizers=stack.optimizers,
        peak_lr=stack.lr,
        device=work.place.device,
    )


def _runs(work: Work, seeds: int) -> list[Run]:
    """The strings of the grid; none of them has a folder that is there."""
    return [
        Run(
            config=work.but(unmask=(string,), seed=(1 + value % seeds,)).config,
            folder=Path(f"no-such-folder/{string}"),
            bits=(bits,),
        )
        for value, (string, bits) in enumerate(expand_strings("grid", work.base().depth).items())
    ]


def _config(settings: Settings, sentences: int) -> Config:
    """The default recipe, long enough for all rounds; weights stay dequantised, as by default."""
    needed = 4 + len(settings.sizes) * settings.rounds
    return Config(
        model=settings.model,
        batch_size=settings.batch_size,
        epochs=1 + needed // updates_per_epoch(sentences, settings.batch_size),
        schedule="constant",
        warmup=0.0,
        resident="yes",
    )


def _table(figures: Sequence[dict[str, Any]]) -> str:
    columns: dict[str, Callable[[Any], str]] = {
        "runs": lambda one: str(one["runs"]),
        "stacked ms": lambda one: f"{one['stacked_ms']:.0f}",
        "serial ms": lambda one: f"{one['serial_ms']:.0f}",
        "ratio": lambda one: f"{one['ratio']:.2f}",
        "over rounds": lambda one: f"{one['ratio_lowest']:.2f} to {one['ratio_highest']:.2f}",
        "processor ratio": lambda one: f"{one['processor_ratio']:.2f}",
        "floor": lambda one: "" if one["floor_ratio"] is None else f"{one['floor_ratio']:.2f}",
    }
    return table(list(columns), [[show(one) for show in columns.values()] for one in figures])


main = command(Settings, run, "benchmarks.search.stacks")

if __name__ == "__main__":
    sys.exit(main())
