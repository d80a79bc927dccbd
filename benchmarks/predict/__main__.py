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
from pathlib import Path

from benchmarks.predict.contenders import BASELINE, OURS, PEERS, Workshop, measure
from benchmarks.predict.run import material, trained_run
from benchmarks.predict.settings import Settings
from benchmarks.shared.comparison import passed, speeds, wanted
from benchmarks.shared.flags import command
from benchmarks.shared.record import table
from benchmarks.shared.timing import tidy


def run(settings: Settings) -> int:
    """Measure and report; the exit status."""
    settings.check()
    names, _ = wanted(dict.fromkeys((*OURS, *PEERS)), settings.contenders, BASELINE)
    place, found = settings.begin()
    count, seed = settings.sentences or None, settings.seed
    with ExitStack() as running:
        given = material(
            settings.model, settings.data, sentences=count, place=place, seed=seed, running=running
        )
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        trained = trained_run(given, folder, updates=settings.updates, seed=seed, place=place)
        tidy(place.device)
        workshop = Workshop(run=trained, sentences=given.sentences, place=place)
        gate = workshop.gate()
        if not passed([gate]):
            return 1
        workshop = workshop.of_the_first(count)
        print(f"{settings.model}, causal, {len(workshop.sentences):,} sentences of {given.name}")
        figures = measure(workshop, names, settings)
    print(speeds(figures["contenders"], BASELINE, "sentences"))
    print(_budget_table(figures["budgets"]))
    settings.finish(
        "predict",
        found,
        data={"name": given.name, "sentences": len(workshop.sentences)},
        gate=gate.record(),
        gates_of_variants=[one.record() for one in workshop.gates],
        **figures,
    )
    return 0


def _budget_table(budgets: dict[str, dict[str, float]]) -> str:
    """Sentences per second of ours by tokens of a pack."""
    sizes = list(next(iter(budgets.values()), {}))
    rows = [[name, *(f"{rates[s]:,.1f}" for s in sizes)] for name, rates in budgets.items()]
    return table(["sentences/s by tokens of a pack", *sizes], rows)


main = command(Settings, run, "benchmarks.predict")

if __name__ == "__main__":
    sys.exit(main())
