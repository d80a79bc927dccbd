"""Training speed: lmsl's packed step against padded transformers + PEFT, in one process.

    python -m benchmarks.train_step --device cpu
    python -m benchmarks.train_step --device cuda --model shape:llama-2-7b --data lengths:conll2003
    python -m benchmarks.train_step --data synthetic --rounds 5

A step is a whole update: collation, forward, loss, backward, clipping and AdamW over the same
randomly drawn sentences, with the same model, LoRA and threads for everybody. The unit is real
tokens per second; padding does not count. The peer is causal, as it comes; ours is unmasked as
``--unmask`` says.

First comes the gate: with dropout off and equal adapters, ours (causal) and the peer have to agree
in the loss and in the norm of its gradient. Where they do not, no speed is shown. The floor beside
the speeds is the products with the frozen weights alone and one dequantisation of them; what else
stands there, and how Unsloth takes part, is in ``benchmarks/README.md``.
"""

import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from benchmarks.shared import lengths, shapes
from benchmarks.shared.comparison import passed, speeds, wanted
from benchmarks.shared.flags import command
from benchmarks.shared.labelled import labelled, record_name
from benchmarks.train_step.contenders import BASELINE, OURS, Workshop
from benchmarks.train_step.gate import agreements
from benchmarks.train_step.measure import measure
from benchmarks.train_step.settings import Settings
from benchmarks.train_step.work import Work, labelled_work
from lmsl.config.config import Config
from lmsl.training.schedule import updates_per_epoch
from lmsl.training.stack import Place


def run(settings: Settings) -> int:
    """Measure and report; the exit status."""
    settings.check()
    place, found = settings.begin()
    work, data = _work(settings, place)
    print(
        f"{settings.model}, ours unmasked {settings.unmask}, {settings.batch_size} sentences an "
        f"update from the {len(work.task):,} of {settings.data}"
    )
    with ExitStack() as running:
        workshop = Workshop(
            work=work, running=running, unsloth=settings.unsloth, updates=settings.needed
        )
        names, _ = wanted(workshop.offered(), settings.contenders, BASELINE)
        gates = agreements(work)
        if not passed(gates):
            return 1
        figures = measure(workshop, names, settings)
    print(speeds(figures["contenders"], BASELINE))
    print(f"padding: {100 * figures['padding']:.0f} % of what the padded peers compute")
    print(_floor_line(figures))
    settings.finish(
        "train_step",
        found,
        data={"name": data, "sentences": len(work.task), "classes": work.classes},
        gate=[gate.record() for gate in (*gates, *workshop.gates)],
        environments=workshop.versions,
        **figures,
    )
    return 0


def _work(settings: Settings, place: Place) -> tuple[Work, str]:
    """Model and sentences, and what the record calls the data."""
    known = lengths.lengths_of(settings.data, settings.model)
    if known is None:
        data = labelled(settings.data, "train", settings.sentences)
        work = labelled_work(data, _config(settings, len(data.sentences)), place)
        return replace(work, micro=settings.micro_batch), record_name(data)
    count = settings.sentences or known.count
    vocabulary = shapes.text_config(settings.model).vocab_size
    work = Work(
        config=_config(settings, count),
        task=lengths.length_task(
            known, sentences=count, vocabulary=vocabulary, seed=settings.seed
        ),
        classes=known.classes,
        place=place,
        micro=settings.micro_batch,
    )
    return work, settings.data


def _config(settings: Settings, sentences: int) -> Config:
    """The default recipe, long enough for all updates."""
    return Config(
        unmask=(settings.unmask,),
        model=settings.model,
        seed=(settings.seed,),
        batch_size=settings.batch_size,
        epochs=-(-settings.needed // updates_per_epoch(sentences, settings.batch_size)),
        schedule="constant",
        warmup=0.0,
    )


def _floor_line(figures: dict[str, Any]) -> str:
    if figures["floor_ms"] is None:
        return "floor: not known for layers of this shape, or they do not fit beside the others"
    floor = f"floor, frozen products and one dequantisation: {figures['floor_ms']:.1f} ms"
    steps = [one["step_ms"] for name, one in figures["contenders"].items() if name in OURS]
    if not steps:
        return floor
    return f"{floor}, {100 * figures['floor_ms'] / min(steps):.0f} % of our fastest step"


main = command(Settings, run, "benchmarks.train_step")

if __name__ == "__main__":
    sys.exit(main())
