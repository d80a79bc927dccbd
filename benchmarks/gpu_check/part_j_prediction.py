"""Part j, predictions: forwards from CUDA graphs against eager ones, and the times of both.

Random sentences, sorted by length, go through the forward without gradients eagerly as they are,
eagerly filled up to rooms, and by replay. The adapters are then changed in place, as training does
between two evaluations, and replays have to follow.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.gpu_check.scope import Scope, agree
from benchmarks.gpu_check.step_model import (
    Alike,
    autocast_of,
    graphs_of,
    milliseconds,
    random_sentences,
    random_tagger,
)
from lmsl.layers.lora import stacked_layers
from lmsl.packs.examples import Example
from lmsl.packs.packing import under_budget
from lmsl.tagger.captured import StaticForward
from lmsl.tagger.emissions import by_length, emissions
from lmsl.tagger.inference import Batch, EagerForward, Forward, batch_of
from lmsl.tagger.tagger import Tagger

pytestmark = pytest.mark.gpu


def test_replayed_forwards_are_eager_forwards(scope: Scope, figures: dict[str, Any]) -> None:
    tagger = random_tagger(scope).tagger.eval()
    said: list[str] = []
    eager = EagerForward(tagger, scope.device, autocast_of(scope))
    replayed = StaticForward(eager, graphs_of(scope), said.append)
    numbers = range(3 if scope.toy else 32)
    examples = [example for n in numbers for example in random_sentences(scope, n)[0]]
    examples = [replace(example, sentence=n) for n, example in enumerate(examples)]

    def packs(compute: Forward, budget: int) -> list[Batch]:
        groups = under_budget(by_length(examples), budget)
        return [batch_of(compute, group, budget) for group in groups]

    def result(compute: Forward, own: Batch) -> list[Tensor]:
        return [compute(own)[:, : own.pack.words[0]].clone()]

    alike = Alike(figures, scope)
    # What a pack of few sentences gains is more than what a full one does.
    for budget in (16, 24) if scope.toy else (512, 2048, 8192):
        both = list(zip(packs(eager, budget), packs(replayed, budget), strict=True))
        for adapters in ("as they were", "changed"):
            if adapters == "changed":
                _change(tagger)
            for number, (as_it_is, full) in enumerate(both):
                # The first pack of a room is computed eagerly.
                replayed(full)
                what = f"budget {budget}, pack {number}, adapters {adapters}"
                expected = {"filled": result(eager, full), "as_it_is": result(eager, as_it_is)}
                alike.compare(what, result(replayed, full), **expected)
        if waited := scope.waits(partial(replayed, both[-1][1])):
            said.append(f"a replayed forward waits for the device: {waited:.200}")
        figures[f"ms, {budget} tokens"] = {
            name: milliseconds(
                partial(_predict, compute, tagger, examples, budget, scope), scope, parts=len(both)
            )
            for name, compute in (("eager", eager), ("replayed", replayed))
        }
    figures["rooms"] = len(replayed.rooms.kept)
    agree(alike.faults + said)


@torch.no_grad()
def _change(tagger: Tagger) -> None:
    """Other adapters and another head in the same memory."""
    for layer in stacked_layers(tagger.decoder).values():
        layer.lora_B.neg_()
    head = tagger.head
    head.bias.add_(torch.linspace(-1, 1, head.classes, device=head.bias.device))


def _predict(
    compute: Forward, tagger: Tagger, examples: list[Example], budget: int, scope: Scope
) -> object:
    """From examples to numbers on the host, as prediction does it."""
    return emissions(
        tagger,
        examples,
        [len(example.starts) for example in examples],
        tokens_per_batch=budget,
        device=scope.device,
        autocast=autocast_of(scope),
        compute=compute,
    )
