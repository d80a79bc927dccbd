"""Part j, training: steps from CUDA graphs against eager ones, and the times of both.

A random Llama with LoRA meets a stream of random batches. Each is computed eagerly as it is,
eagerly filled up to its room, and by replay; losses and gradients have to agree to rounding, and a
replay has to leave the host free. Dropout is on and, drawn by the device, has to be that of the
host. On a CPU, where nothing is captured, the step is run over the same memory once more.
"""

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
from lmsl.config.config import Config
from lmsl.layers.dropout import DropoutClock, dropout_mask
from lmsl.layers.lora import trainable_parameters
from lmsl.packs.packing import pack
from lmsl.packs.sizes import room_for
from lmsl.tagger.rooms import why_not_fixed
from lmsl.training.captured_step import StaticStep
from lmsl.training.eager_step import EagerStep, MicroBatch, MicroStep

pytestmark = pytest.mark.gpu


def test_dropout_is_that_of_the_host(scope: Scope) -> None:
    """What the device draws, bit by bit, with odd sizes and numbers of more than 32 bits."""
    clock = DropoutClock(seeds=(3, 2**64 - 1))
    clock.set(step=2**33, token_offset=(0, 2**40), word_offset=(5, 1))
    for features in (33, 2048):
        shape: dict[str, Any] = {"site": 2**62 + 7, "tokens": 77, "features": features, "p": 0.1}
        host = dropout_mask(clock, device=torch.device("cpu"), **shape)
        same = torch.equal(dropout_mask(clock, device=scope.device, **shape).cpu(), host)
        assert same, f"dropout of {features} features is not that of the host"


def test_replayed_steps_are_eager_steps(scope: Scope, figures: dict[str, Any]) -> None:
    config, found = Config(unmask=("0011",)), random_tagger(scope)
    reason = why_not_fixed(found.tagger, config.attention)
    assert reason is None, f"nothing to capture: {reason}"
    said: list[str] = []
    eager = EagerStep(found.tagger, found.clock, config, scope.device, autocast_of(scope))
    replayed = StaticStep(eager, graphs_of(scope), said.append)
    parameters = list(trainable_parameters(found.tagger).values())
    numbers = range(3 if scope.toy else 24)
    plain = [_batch(scope, number, filled=False) for number in numbers]
    filled = [_batch(scope, number, filled=True) for number in numbers]

    def result(compute: MicroStep, batch: MicroBatch) -> list[Tensor]:
        """Loss and gradients."""
        for parameter in parameters:
            parameter.grad = None
        compute.begin_update()
        words = torch.full((1,), 1 / batch.pack.words[0], device=scope.device)
        loss = compute(batch, words).clone()
        return [loss, *(p.grad.clone() for p in parameters if p.grad is not None)]

    alike = Alike(figures, scope)
    for number, (as_it_is, full) in enumerate(zip(plain, filled, strict=True)):
        expected = {"filled": result(eager, full), "as_it_is": result(eager, as_it_is)}
        alike.compare(f"batch {number}", result(replayed, full), **expected)
    figures["rooms"] = len(replayed.rooms.kept)
    weights = torch.ones(1, device=scope.device)
    waited = scope.waits(lambda: replayed(filled[-1], weights))
    figures["eager_waits"] = scope.waits(lambda: eager(plain[-1], weights))
    waits = [f"a replay waits for the device: {waited:.200}"] if waited else []
    agree(alike.faults + said + waits)

    def epoch(compute: MicroStep, batches: list[MicroBatch]) -> None:
        """Waiting for every loss, as training does."""
        for batch in batches:
            for parameter in parameters:
                parameter.grad = None
            compute.begin_update()
            compute(batch, weights).tolist()

    figures["ms"] = {
        name: milliseconds(partial(epoch, compute, batches), scope, parts=len(batches))
        for name, compute, batches in (("eager", eager, plain), ("replayed", replayed, filled))
    }


def _batch(scope: Scope, number: int, *, filled: bool) -> MicroBatch:
    examples, labels = random_sentences(scope, number)
    room = room_for([examples]) if filled else None
    return MicroBatch(
        pack=pack([examples], [labels], torch.device("cpu"), room=room).pinned(scope.device),
        room=room,
        step=number,
        token_offset=(7 * number,),
        word_offset=(3 * number,),
    )
