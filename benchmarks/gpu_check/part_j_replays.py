"""Part j: training steps and predictions from CUDA graphs against eager ones, and their times.

A random Llama with LoRA meets a stream of random batches. Each is computed eagerly as it is,
eagerly filled up to its room, and by replay: losses and gradients, or log-probabilities, have to
agree to rounding, and a replay has to leave the host free. Dropout is on in training and, drawn by
the device, has to be that of the host. In prediction adapters are changed in place, as training
does between two evaluations, and replays have to follow. On a CPU, where nothing is captured, the
work is done over the same memory once more.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.gpu_check.scope import Scope, agree
from benchmarks.shared.lengths import Lengths, known_lengths, length_task
from benchmarks.train_step.work import Work, build_ours
from lmsl.config.config import Config
from lmsl.layers.dropout import DropoutClock, dropout_mask
from lmsl.layers.lora import stacked_layers, trainable_parameters
from lmsl.packs.packing import pack, under_budget
from lmsl.packs.sizes import room_for
from lmsl.tagger.assemble import Assembled
from lmsl.tagger.captured import StaticForward
from lmsl.tagger.emissions import by_length, emissions
from lmsl.tagger.graphs import CudaGraphs, Reruns
from lmsl.tagger.inference import Batch, EagerForward, Forward, batch_of
from lmsl.tagger.rooms import why_not_fixed
from lmsl.training.captured_step import StaticStep
from lmsl.training.eager_step import EagerStep, MicroBatch, MicroStep
from lmsl.training.stack import Place

pytestmark = pytest.mark.gpu
# Of the norm of what it should be. Batches of another size are multiplied by other kernels, and
# every layer rounds to 8 bits; that filling is seen by nobody is proven in float32, on a CPU.
TOLERANCE = {
    ("filled", torch.float32): 1e-4,
    ("as_it_is", torch.float32): 1e-4,
    ("filled", torch.bfloat16): 5e-2,
    ("as_it_is", torch.bfloat16): 0.15,
}
TOY_LENGTHS = Lengths(classes=9, words=14, sentences={2: 2, 5: 2, 11: 1})


def work_of(scope: Scope, number: int = 0) -> Work:
    """A random decoder and sentences with the lengths of news, drawn anew by number."""
    known = TOY_LENGTHS if scope.toy else known_lengths()["conll2003"]
    task = length_task(known, sentences=3 if scope.toy else 16, vocabulary=64, seed=number)
    config = Config(
        unmask=("0011",),
        model="shape:toy" if scope.toy else "shape:tinyllama-1.1b",
        quantize="none",
    )
    place = Place(device=scope.device, dtype=torch.bfloat16 if scope.cuda else torch.float32)
    return Work(config=config, task=task, classes=known.classes, place=place)


def random_tagger(work: Work) -> Assembled:
    """As ``lmsl train`` puts it together, with adapters that matter."""
    found = build_ours(work)
    for layer in stacked_layers(found.tagger.decoder).values():
        torch.nn.init.normal_(layer.lora_B, std=0.02)
    found.tagger.train()
    return found


def graphs_of(scope: Scope) -> Any:
    """CUDA graphs; elsewhere the work itself once more over the same memory."""
    return CudaGraphs(scope.device) if scope.cuda else Reruns()


class Alike:
    """Holds replays against eager results; counts and the worst go into ``figures``."""

    def __init__(self, figures: dict[str, Any], work: Work) -> None:
        figures |= {"batches": 0, "bitwise_equal": 0, "of_allowed": 0.0}
        self.faults: list[str] = []
        self._figures, self._dtype = figures, work.place.dtype

    def compare(self, what: str, replayed: Sequence[Tensor], **expected: Sequence[Tensor]) -> None:
        """Results of one replay and, by how the batch was laid out, of eager computation."""
        self._figures["batches"] += 1
        self._figures["bitwise_equal"] += all(map(torch.equal, replayed, expected["filled"]))
        for against, results in expected.items():
            pairs = zip(replayed, results, strict=True)
            errors = [float((mine - its).norm() / its.norm()) for mine, its in pairs]
            # Written so that a NaN does not pass.
            allowed = TOLERANCE[against, self._dtype]
            if any(not error <= allowed for error in errors):
                self.faults.append(f"{what}, {against}: a replay is off by {max(errors):.1e}")
            else:
                worst = max(self._figures["of_allowed"], max(errors) / allowed)
                self._figures["of_allowed"] = worst


def milliseconds(work: Callable[[], object], scope: Scope, *, parts: int) -> dict[str, float]:
    """Of one of the ``parts`` of a work, on the host's clock."""
    work()
    found = []
    for _ in range(1 if scope.toy else 5):
        began = time.perf_counter()
        work()
        found.append(1e3 * (time.perf_counter() - began) / parts)
    return {"median": median(found), "lowest": min(found), "highest": max(found)}


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
    work = work_of(scope)
    found, config = random_tagger(work), work.config
    reason = why_not_fixed(found.tagger, config.attention)
    assert reason is None, f"nothing to capture: {reason}"
    said: list[str] = []
    eager = EagerStep(found.tagger, found.clock, config, scope.device, work.place.autocast)
    replayed = StaticStep(eager, graphs_of(scope), said.append)
    parameters = list(trainable_parameters(found.tagger).values())
    numbers = range(3 if scope.toy else 24)
    plain, filled = ([_batch(scope, n, filled=f) for n in numbers] for f in (False, True))

    def result(compute: MicroStep, batch: MicroBatch, words: Tensor) -> list[Tensor]:
        """Loss and gradients."""
        for parameter in parameters:
            parameter.grad = None
        compute.begin_update()
        loss = compute(batch, words).clone()
        return [loss, *(p.grad.clone() for p in parameters if p.grad is not None)]

    alike = Alike(figures, work)
    for number, (as_it_is, full) in enumerate(zip(plain, filled, strict=True)):
        words = torch.full((1,), 1 / full.pack.words[0], device=scope.device)
        expected = {
            "filled": result(eager, full, words),
            "as_it_is": result(eager, as_it_is, words),
        }
        alike.compare(f"batch {number}", result(replayed, full, words), **expected)
    figures["rooms"] = len(replayed.rooms.kept)
    weights = torch.ones(1, device=scope.device)
    waited = scope.waits(lambda: replayed(filled[-1], weights))
    figures["eager_waits"] = scope.waits(lambda: eager(plain[-1], weights))
    waits = [f"a replay waits for the device: {waited:.200}"] if waited else []
    agree(alike.faults + said + waits)

    def epoch(compute: MicroStep, batches: list[MicroBatch]) -> None:
        """Waiting for every loss, as training does."""
        for batch in batches:
            result(compute, batch, weights)[0].tolist()

    figures["ms"] = {
        name: milliseconds(partial(epoch, compute, batches), scope, parts=len(batches))
        for name, compute, batches in (("eager", eager, plain), ("replayed", replayed, filled))
    }


def _batch(scope: Scope, number: int, *, filled: bool) -> MicroBatch:
    task = work_of(scope, number).task
    examples = [[one for (one,) in task.examples]]
    room = room_for(examples) if filled else None
    made = pack(examples, [task.labels], torch.device("cpu"), room=room)
    return MicroBatch(
        pack=made.pinned(scope.device),
        room=room,
        step=number,
        token_offset=(7 * number,),
        word_offset=(3 * number,),
    )


def test_replayed_forwards_are_eager_forwards(scope: Scope, figures: dict[str, Any]) -> None:
    work, numbers = work_of(scope), range(3 if scope.toy else 32)
    tagger = random_tagger(work).tagger.eval()
    said: list[str] = []
    eager = EagerForward(tagger, scope.device, work.place.autocast)
    replayed = StaticForward(eager, graphs_of(scope), said.append)
    drawn = [one for n in numbers for (one,) in work_of(scope, n).task.examples]
    examples = [replace(one, sentence=number) for number, one in enumerate(drawn)]

    def packs(compute: Forward, budget: int) -> list[Batch]:
        groups = under_budget(by_length(examples), budget)
        return [batch_of(compute, group, budget) for group in groups]

    def result(compute: Forward, own: Batch) -> list[Tensor]:
        return [compute(own)[:, : own.pack.words[0]].clone()]

    def predict(compute: Forward, budget: int) -> object:
        """From examples to numbers on the host, as prediction does it."""
        return emissions(
            tagger,
            examples,
            [len(example.starts) for example in examples],
            tokens_per_batch=budget,
            device=scope.device,
            autocast=work.place.autocast,
            compute=compute,
        )

    alike = Alike(figures, work)
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
            name: milliseconds(partial(predict, compute, budget), scope, parts=len(both))
            for name, compute in (("eager", eager), ("replayed", replayed))
        }
    figures["rooms"] = len(replayed.rooms.kept)
    agree(alike.faults + said)


@torch.no_grad()
def _change(tagger: Any) -> None:
    """Other adapters and another head in the same memory."""
    for layer in stacked_layers(tagger.decoder).values():
        layer.lora_B.neg_()
    tagger.head.bias.add_(
        torch.linspace(-1, 1, tagger.head.classes, device=tagger.head.bias.device)
    )
