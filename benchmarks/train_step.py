"""Training speed: lmsl's packed step against padded transformers + PEFT, in one process.

    python -m benchmarks.train_step --device cpu
    python -m benchmarks.train_step --data synthetic --rounds 5

A step is a whole update: collation, forward, loss, backward, clipping and AdamW over the same
randomly drawn sentences, with the same model, LoRA and threads for everybody. The unit is real
tokens per second; padding does not count. The peer is causal, as it comes; ours is unmasked as
``--unmask`` says.

First comes the gate: with dropout off and equal adapters, ours (causal) and the peer have to agree
in the loss and in the norm of its gradient. Where they do not, no speed is shown.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

# Only for a clone that is not installed: `kernels` holds nothing but the package lmsl_kernels.
sys.path.append(str(Path(__file__).parents[1] / "kernels"))

import tyro

from benchmarks.common import (
    RESULTS,
    Contender,
    interleave,
    machine,
    machine_lines,
    summary,
    table,
    write_json,
)
from benchmarks.labelled import CONLL2000, labelled, prepare, record_name
from benchmarks.padded_peer import padding_share
from benchmarks.train_contenders import (
    CPU,
    TOLERANCE,
    agreements,
    build_task,
    our_contender,
    peer_contender,
)
from lmsl.base import load_base
from lmsl.bits import layer_bits
from lmsl.config import Config
from lmsl.errors import InputError
from lmsl.loop import Task, updates_per_epoch

BASELINE = "peer, NF4"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and for how long."""

    device: Literal["cpu"] = "cpu"
    """Where it runs."""
    model: str = "tiny"
    """Hub id or folder of a decoder, or `tiny`."""
    data: str = str(CONLL2000 / "train.txt")
    """A labelled file, or `synthetic`."""
    sentences: int | None = None
    """Use only the first so many sentences."""
    unmask: str = "0011"
    """Unmask string of ours."""
    batch_size: int = 16
    """Sentences of one update."""
    rounds: int = 15
    """How often all contenders take their turn."""
    updates: int = 8
    """Updates of a turn."""
    warmup: int = 4
    """Updates of each contender before the first round."""
    threads: int | None = None
    """Threads of torch; by default what torch takes."""
    seed: int = 1
    """Of order, initial values and dropout."""
    output: Path = RESULTS / "train_step_cpu.json"
    """Where the record is written."""


def main(argv: Sequence[str] | None = None) -> int:
    """Gate, measurement, table and record; 1 for a red gate, 2 for bad input."""
    try:
        return run(tyro.cli(Settings, args=argv, prog="python -m benchmarks.train_step"))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(settings: Settings) -> int:
    """Measure and report; the exit status."""
    _check(settings)
    prepare(settings.threads)
    found = machine(CPU)
    print(*machine_lines(found), sep="\n")
    data = labelled(settings.data, "train", settings.sentences)
    config = _config(settings, len(data.sentences))
    task, classes = build_task(data, config)
    print(
        f"{settings.model}, ours unmasked {settings.unmask}, {settings.batch_size} sentences an "
        f"update from the {len(task):,} of {data.source}"
    )
    gates = agreements(config, task, classes)
    print(*(gate.line() for gate in gates), sep="\n")
    if not all(gate.holds for gate in gates):
        print(f"no speeds: ours and the peer differ by more than {TOLERANCE}", file=sys.stderr)
        return 1
    figures = _measure(settings, config, task, classes)
    print(_table(figures["contenders"]))
    print(f"padding: {100 * figures['padding']:.0f} % of what the peers compute")
    shown = {k: v for k, v in asdict(settings).items() if k not in ("data", "output")}
    record = {
        "benchmark": "train_step",
        "machine": found,
        "settings": shown,
        "data": {
            "name": record_name(data),
            "sentences": len(task),
            "classes": classes,
        },
        "gate": [gate.record() for gate in gates],
        **figures,
    }
    write_json(settings.output, record)
    print(f"written: {settings.output}")
    return 0


def _check(settings: Settings) -> None:
    """Not in ``__post_init__``, where tyro would put a frame of its own around the message."""
    for name in ("sentences", "batch_size", "rounds", "updates", "warmup", "threads"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag}: expected at least 1, got {value}")
    layer_bits(settings.unmask, load_base(settings.model).depth)


def _config(settings: Settings, sentences: int) -> Config:
    """The default recipe, long enough for all rounds."""
    needed = settings.warmup + settings.rounds * settings.updates
    return Config(
        unmask=(settings.unmask,),
        model=settings.model,
        seed=(settings.seed,),
        batch_size=settings.batch_size,
        epochs=-(-needed // updates_per_epoch(sentences, settings.batch_size)),
        schedule="constant",
        warmup=0.0,
    )


def _measure(settings: Settings, config: Config, task: Task, classes: int) -> dict[str, Any]:
    """Time all contenders in turns; the figures by name."""
    steps = {
        "ours, NF4 resident": our_contender(replace(config, resident="yes"), classes, task),
        "ours, NF4": our_contender(replace(config, resident="no"), classes, task),
        # What the fast block is worth: the same without it.
        "ours, NF4 resident, plain block": our_contender(
            replace(config, resident="yes", block="plain"), classes, task
        ),
        BASELINE: peer_contender(config, classes, task),
        "peer, dense": peer_contender(replace(config, quantize="none"), classes, task),
    }
    timings = interleave(
        [Contender(name=name, step=step) for name, step in steps.items()],
        rounds=settings.rounds,
        steps=settings.updates,
        warmup=settings.warmup,
    )
    drawn = settings.warmup + settings.rounds * settings.updates
    return {
        "tokens": sum(timings[BASELINE].tokens),
        "padding": padding_share(task, config, seed=settings.seed, updates=drawn),
        "contenders": {
            name: summary(timing, timings[BASELINE], settings.updates)
            for name, timing in timings.items()
        },
    }


def _table(contenders: dict[str, dict[str, Any]]) -> str:
    head = ["", "real tokens/s", "ms an update", f"x {BASELINE}", "over rounds"]
    rows = [
        [
            name,
            f"{one['tokens_per_second']:,.0f}",
            f"{one['step_ms']:.1f}",
            f"{one['ratio']:.2f}",
            f"{one['ratio_lowest']:.2f} to {one['ratio_highest']:.2f}",
        ]
        for name, one in contenders.items()
    ]
    return table(head, rows)


if __name__ == "__main__":
    sys.exit(main())
