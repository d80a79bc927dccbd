"""Part of ``benchmarks.gpu_check`` about predictions: replayed against eager, both timed.

Random sentences, sorted by length, go through the forward without gradients eagerly as they are,
eagerly filled up to rooms, and by replay. The adapters are then changed in place, as training does
between two evaluations, and replays have to follow.
"""

import time
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_check.device import waits
from benchmarks.gpu_check.scope import Scope
from benchmarks.gpu_check.step_model import TOLERANCE, random_sentences
from lmsl.layers.lora import stacked_layers
from lmsl.packs.examples import Example
from lmsl.packs.packing import under_budget
from lmsl.tagger.captured import StaticForward
from lmsl.tagger.emissions import by_length, emissions
from lmsl.tagger.graphs import CudaGraphs, Reruns
from lmsl.tagger.inference import Batch, EagerForward, Forward, batch_of
from lmsl.tagger.tagger import Tagger


def predictions(
    scope: Scope,
    tagger: Tagger,
    dtype: torch.dtype,
    autocast: torch.dtype | None,
    answer: dict[str, Any],
) -> None:
    """Adds to an answer: ``forward``, with its figures, and what is wrong to ``faults``.

    Args:
        tagger: its adapters are changed.
    """
    tagger.eval()
    eager = EagerForward(tagger, scope.device, autocast)
    graphs = CudaGraphs(scope.device) if scope.device.type == "cuda" else Reruns()
    said: list[str] = []
    replayed = StaticForward(eager, graphs, said.append)
    numbers = range(3 if scope.toy else 32)
    examples = [example for n in numbers for example in random_sentences(scope, n)[0]]
    examples = [replace(example, sentence=n) for n, example in enumerate(examples)]
    found = {"packs": 0, "bitwise_equal": 0, "worst": [0.0, ""]}
    answer["forward"] = found
    # What a pack of few sentences gains is more than what a full one does.
    budgets = (16, 24) if scope.toy else (512, 2048, 8192)
    for budget in budgets:
        groups = list(under_budget(by_length(examples), budget))
        batches = [batch_of(replayed, group, budget) for group in groups]
        for adapters in ("as they were", "changed"):
            if adapters == "changed":
                _change(tagger)
            for number, batch in enumerate(batches):
                _compare(
                    f"budget {budget}, pack {number}, adapters {adapters}",
                    (eager, batch_of(eager, batch.examples, budget)),
                    (replayed, batch),
                    dtype,
                    found,
                    answer["faults"],
                )
        scope.note(answer)
        if said:
            answer["faults"] += said
            return
    waited = waits(scope, lambda: replayed(batches[-1]))
    if waited is not None:
        answer["faults"].append(f"a replayed forward waits for the device: {waited:.200}")
    found["rooms"] = len(replayed.rooms.kept)
    found["ms"] = {
        f"{name}, {budget} tokens": _time(scope, compute, tagger, examples, budget, autocast)
        for budget in budgets
        for name, compute in (("eager", eager), ("replayed", replayed))
    }


def _compare(
    what: str,
    plain: tuple[EagerForward, Batch],
    filled: tuple[StaticForward, Batch],
    dtype: torch.dtype,
    found: dict[str, Any],
    faults: list[str],
) -> None:
    """Hold the replay of one pack against eager forwards of it."""
    (eager, as_it_is), (replayed, batch) = plain, filled
    words = batch.pack.words[0]

    def result(compute: Forward, own: Batch) -> Tensor:
        return compute(own)[:, :words].clone()

    # The first pack of a room is computed eagerly.
    replayed(batch)
    mine, expected = result(replayed, batch), result(eager, batch)
    found["packs"] += 1
    found["bitwise_equal"] += torch.equal(mine, expected)
    for against, its in (("filled", expected), ("as it is", result(eager, as_it_is))):
        error = float((mine - its).norm() / its.norm())
        share = error / TOLERANCE[against, dtype]
        found["worst"] = max(found["worst"], [share, f"{what} {against}"])
        # Written so that a NaN does not pass.
        if not share <= 1:
            faults.append(f"{what}, {against}: a replayed forward is off by {error:.1e}")
            return


@torch.no_grad()
def _change(tagger: Tagger) -> None:
    """Other adapters and another head in the same memory."""
    for layer in stacked_layers(tagger.decoder).values():
        layer.lora_B.neg_()
    tagger.head.bias.add_(
        torch.linspace(-1, 1, tagger.head.classes, device=tagger.head.bias.device)
    )


def _time(
    scope: Scope,
    compute: Forward,
    tagger: Tagger,
    examples: list[Example],
    budget: int,
    autocast: torch.dtype | None,
) -> dict[str, float]:
    """Milliseconds of a pack, from examples to numbers on the host, as prediction does it."""
    words = [len(example.starts) for example in examples]
    packs = len(list(under_budget(by_length(examples), budget)))

    def once() -> object:
        return emissions(
            tagger,
            examples,
            words,
            tokens_per_batch=budget,
            device=scope.device,
            autocast=autocast,
            compute=compute,
        )

    once()
    seconds = []
    for _ in range(1 if scope.toy else 5):
        began = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - began)
    ms = [1e3 * each / packs for each in seconds]
    return {"median": median(ms), "lowest": min(ms), "highest": max(ms)}
