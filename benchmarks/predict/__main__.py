"""Prediction speed: a run of lmsl against transformers with the same weights, in one process.

    python -m benchmarks.predict --device cpu
    python -m benchmarks.predict --device cuda --model shape:llama-2-7b --data lengths:conll2003
    python -m benchmarks.predict --data FILE --sentences 0

A run is trained for a moment, causal, so that transformers computes the same function, saved and
loaded again. Ours answers lists of words by ``Labeler.predict`` (valid spans with characters and
probabilities) and by ``predict_tags``. The peers are ``pipeline("token-classification")`` without
aggregation, a padded loop over sentences sorted by length as one writes it by hand, both at their
best batch size, which is looked for first, and that loop in batches of 8 as they come, as the code
released with the 2024 paper predicts. The unit is sentences per second, tokenisation and decoding
included. On a CPU everybody computes in float32, on a GPU in bfloat16.

First comes the gate: same sub-words, same log-probabilities within tolerance, same labels. Where
it is red, no speed is shown.
"""

import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.predict.contenders import BASELINE, OURS, PEERS, Turns, Workshop, measure
from benchmarks.predict.run import material, trained_run
from benchmarks.shared.contenders import speeds, wanted
from benchmarks.shared.flags import at_least, command
from benchmarks.shared.labelled import CONLL2000, prepare
from benchmarks.shared.machine import machine, machine_lines
from benchmarks.shared.plots import draw_speeds, finish
from benchmarks.shared.record import record_path, table, told
from benchmarks.shared.timing import tidy
from lmsl.device import choose_device, choose_dtype
from lmsl.errors import InputError
from lmsl.training.stack import Place

_SIZES = {"cpu": (1, 2, 4, 8, 16, 32, 64), "cuda": (8, 16, 32, 64, 128, 256, 512)}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and for how long."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where it runs; in float32 on a CPU, else in bfloat16."""
    model: str = "tiny"
    """Hub id or folder of a decoder, `tiny`, or `shape:NAME` for random weights of the shape of
    llama-2-7b, mistral-7b, qwen3-4b or toy."""
    data: str = str(CONLL2000 / "test.txt")
    """A labelled file, `synthetic`, or `lengths:NAME` for random words in sentences as long as
    those of conll2003 or conll2000."""
    sentences: int = 512
    """Predict the first so many sentences in each round; 0 takes all."""
    batch_sizes: tuple[int, ...] = ()
    """Among which the peers' best is looked for; by default 1 to 64, and 8 to 512 on a GPU."""
    budgets: tuple[int, ...] = (512, 2048, 8192, 32768)
    """Tokens of a pack, for the table of ours by budget; on a CPU at most 2048 are used."""
    contenders: tuple[str, ...] = ()
    """Only these, by their names in the table, and the baseline; by default all that can run."""
    updates: int = 40
    """Of the short training."""
    rounds: int = 9
    """How often all contenders take their turn."""
    sweep_rounds: int = 2
    """The same while batch sizes and budgets are looked at."""
    threads: int | None = None
    """Threads of torch; by default what torch takes."""
    seed: int = 1
    """Of the short training."""
    output: Path | None = None
    """Where the record is written; by default in benchmarks/results, named by the device."""


def run(settings: Settings) -> int:
    """Measure and report; the exit status."""
    _check(settings)
    names, _ = wanted(dict.fromkeys((*OURS, *PEERS)), settings.contenders, BASELINE)
    prepare(settings.threads)
    device = choose_device(settings.device)
    place = Place(device=device, dtype=choose_dtype("auto", device))
    found = machine(device)
    print(*machine_lines(found), sep="\n")
    with ExitStack() as running:
        given = material(
            settings.model,
            settings.data,
            sentences=settings.sentences or None,
            place=place,
            seed=settings.seed,
            running=running,
        )
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        trained = trained_run(
            given, folder, updates=settings.updates, seed=settings.seed, place=place
        )
        tidy(device)
        workshop = Workshop(run=trained, sentences=given.sentences, place=place)
        gate = workshop.gate()
        print(gate.line())
        if not gate.holds:
            allowed = f"{gate.allowed:.1e}"
            print(f"no speeds: ours and the peer differ by more than {allowed}", file=sys.stderr)
            return 1
        workshop = workshop.of_the_first(settings.sentences or None)
        count = len(workshop.sentences)
        print(f"{settings.model}, causal, {count:,} sentences of {given.name}")
        figures = measure(workshop, names, _turns(settings))
    print(speeds(figures["contenders"], BASELINE, "sentences"))
    print(_budget_table(figures["budgets"]))
    record = {
        "benchmark": "predict",
        "machine": found,
        "settings": told(settings, "data"),
        "data": {"name": given.name, "sentences": count},
        "gate": gate.record(),
        "gates_of_variants": [one.record() for one in workshop.gates],
        **figures,
    }
    finish(record, settings.output or record_path("predict", found), draw_speeds)
    return 0


def _turns(settings: Settings) -> Turns:
    return Turns(
        rounds=settings.rounds,
        sweep_rounds=settings.sweep_rounds,
        batch_sizes=settings.batch_sizes or _SIZES[settings.device],
        budgets=settings.budgets,
    )


def _check(settings: Settings) -> None:
    at_least(settings, sentences=0, updates=1, rounds=1, sweep_rounds=1, threads=1)
    for name in ("batch_sizes", "budgets"):
        sizes = getattr(settings, name)
        if any(size < 1 for size in sizes):
            flag = "--" + name.replace("_", "-")
            raise InputError(f"{flag}: expected sizes from 1, got {sizes}")


def _budget_table(budgets: dict[str, dict[str, float]]) -> str:
    """Sentences per second of ours by tokens of a pack."""
    sizes = list(next(iter(budgets.values()), {}))
    rows = [[name, *(f"{rates[s]:,.1f}" for s in sizes)] for name, rates in budgets.items()]
    return table(["sentences/s by tokens of a pack", *sizes], rows)


main = command(Settings, run, "benchmarks.predict")

if __name__ == "__main__":
    sys.exit(main())
