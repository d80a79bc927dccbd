"""Prediction speed: a run of lmsl against transformers with the same weights, in one process.

    python -m benchmarks.predict --device cpu
    python -m benchmarks.predict --data FILE --sentences 0

A run is trained for a moment, causal, so that transformers computes the same function, saved and
loaded again. Ours answers lists of words by ``Labeler.predict`` (valid spans with characters and
probabilities) and by ``predict_tags``. The peers are ``pipeline("token-classification")`` without
aggregation, and a padded loop over sentences sorted by length as one writes it by hand; each at
its best batch size, which is looked for first. The unit is sentences per second, tokenisation and
decoding included.

First comes the gate: same sub-words, same log-probabilities within tolerance, same labels. Where
it is red, no speed is shown.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

# Only for a clone that is not installed: `kernels` holds nothing but the package lmsl_kernels.
sys.path.append(str(Path(__file__).parents[1] / "kernels"))

import torch
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
from benchmarks.labelled import CONLL2000, SYNTHETIC, labelled, prepare, record_name
from benchmarks.predict_peers import (
    TOLERANCE,
    agreement,
    build_pipeline,
    counted,
    merged_peer,
    padded_loop,
)
from lmsl.base import load_base
from lmsl.config import Config
from lmsl.console import Console
from lmsl.data import Dataset
from lmsl.errors import InputError
from lmsl.labeler import Labeler
from lmsl.run import train
from lmsl.write import write_columns

BASELINE, LOOP = "pipeline", "padded loop, sorted"
# Sentences that the run is trained on, and those that the gate compares.
TRAINED, COMPARED = 200, 64

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and for how long."""

    device: Literal["cpu"] = "cpu"
    """Where it runs."""
    model: str = "tiny"
    """Hub id or folder of a decoder, or `tiny`."""
    data: str = str(CONLL2000 / "test.txt")
    """A labelled file, or `synthetic`."""
    sentences: int = 512
    """Predict the first so many sentences in each round; 0 takes all."""
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Among which the peers' best is looked for."""
    updates: int = 40
    """Of the short training."""
    rounds: int = 9
    """How often all contenders take their turn."""
    sweep_rounds: int = 2
    """The same while batch sizes are looked for."""
    threads: int | None = None
    """Threads of torch; by default what torch takes."""
    seed: int = 1
    """Of the short training."""
    output: Path = RESULTS / "predict_cpu.json"
    """Where the record is written."""


def main(argv: Sequence[str] | None = None) -> int:
    """Gate, measurement, table and record; 1 for a red gate, 2 for bad input."""
    try:
        return run(tyro.cli(Settings, args=argv, prog="python -m benchmarks.predict"))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(settings: Settings) -> int:
    """Measure and report; the exit status."""
    _check(settings)
    prepare(settings.threads)
    found = machine(torch.device("cpu"))
    print(*machine_lines(found), sep="\n")
    # A file is read whole: the short training needs sentences even where few are predicted.
    size = (settings.sentences or None) if settings.data == SYNTHETIC else None
    data = labelled(settings.data, "test", size)
    labeler = _labeler(settings, data)
    pipe = build_pipeline(
        merged_peer(labeler, settings.model), load_base(settings.model).tokenizer
    )
    sentences = [list(sentence.words) for sentence in data.sentences if sentence.words]
    compared = agreement(labeler, pipe, sentences[:COMPARED])
    print(compared.line())
    if not compared.holds:
        print(f"no speeds: ours and the peer differ by more than {TOLERANCE}", file=sys.stderr)
        return 1
    sentences = sentences[: settings.sentences or None]
    print(f"{settings.model}, causal, {len(sentences):,} sentences of {data.source}")
    figures = _measure(settings, labeler, pipe, sentences)
    print(_table(figures["contenders"]))
    shown = {k: v for k, v in asdict(settings).items() if k not in ("data", "output")}
    name = record_name(data)
    record = {
        "benchmark": "predict",
        "machine": found,
        "settings": shown,
        "data": {"name": name, "sentences": len(sentences)},
        "gate": compared.record(),
        **figures,
    }
    write_json(settings.output, record)
    print(f"written: {settings.output}")
    return 0


def _check(settings: Settings) -> None:
    """Not in ``__post_init__``, where tyro would put a frame of its own around the message."""
    least = {"sentences": 0, "updates": 1, "rounds": 1, "sweep_rounds": 1, "threads": 1}
    for name, smallest in least.items():
        value = getattr(settings, name)
        if value is not None and value < smallest:
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag}: expected at least {smallest}, got {value}")
    if not settings.batch_sizes or min(settings.batch_sizes) < 1:
        raise InputError(f"--batch-sizes: expected sizes from 1, got {settings.batch_sizes}")


def _labeler(settings: Settings, data: Dataset) -> Labeler:
    """A causal run, trained for a moment on the head of the data, as a user would load it."""
    some = data.sentences[:TRAINED]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.conll"
        write_columns(file, some, [sentence.tags or () for sentence in some])
        config = Config(
            unmask=("causal",),
            model=settings.model,
            train=file,
            dev=file,
            seed=(settings.seed,),
            max_steps=settings.updates,
            epochs=-(-settings.updates * 16 // len(some)),
            patience=None,
            device="cpu",
            output=Path(folder) / "run",
        )
        train(config, Console(quiet=True))
        return Labeler.load(Path(folder) / "run", device="cpu")


def _measure(
    settings: Settings, labeler: Labeler, pipe: Any, sentences: list[list[str]]
) -> dict[str, Any]:
    """Look for the best batch sizes, then time all contenders in turns."""
    texts = [" ".join(words) for words in sentences]
    peers: dict[str, Callable[[int], Work]] = {
        BASELINE: lambda size: partial(pipe, texts, batch_size=size),
        LOOP: lambda size: partial(padded_loop, pipe.model, pipe.tokenizer, sentences, size),
    }
    swept = {name: _sweep(settings, work, len(sentences)) for name, work in peers.items()}
    best = {name: max(rates, key=rates.__getitem__) for name, rates in swept.items()}
    works: dict[str, Work] = {
        "ours, predict": partial(labeler.predict, sentences),
        "ours, predict_tags": partial(labeler.predict_tags, sentences),
        **{name: work(best[name]) for name, work in peers.items()},
    }
    timings = interleave(
        [Contender(name=name, step=counted(w, len(sentences))) for name, w in works.items()],
        rounds=settings.rounds,
        steps=1,
        warmup=1,
    )
    return {
        "unit": "sentences",
        "swept": {
            name: {str(size): rate for size, rate in r.items()} for name, r in swept.items()
        },
        "batch_size": best,
        "contenders": {
            name: summary(timing, timings[BASELINE], 1, unit="sentences")
            for name, timing in timings.items()
        },
    }


def _sweep(settings: Settings, work: Callable[[int], Work], sentences: int) -> dict[int, float]:
    """Sentences per second by batch size."""
    timings = interleave(
        [
            Contender(name=str(size), step=counted(work(size), sentences))
            for size in settings.batch_sizes
        ],
        rounds=settings.sweep_rounds,
        steps=1,
        warmup=0,
    )
    return {int(name): max(timing.rates) for name, timing in timings.items()}


def _table(contenders: dict[str, dict[str, Any]]) -> str:
    head = ["", "sentences/s", f"x {BASELINE}", "over rounds"]
    rows = [
        [
            name,
            f"{one['sentences_per_second']:,.1f}",
            f"{one['ratio']:.2f}",
            f"{one['ratio_lowest']:.2f} to {one['ratio_highest']:.2f}",
        ]
        for name, one in contenders.items()
    ]
    return table(head, rows)


if __name__ == "__main__":
    sys.exit(main())
