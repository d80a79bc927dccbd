"""Part of ``benchmarks.gpu_check`` about the training step: captured against eager, both timed.

A random Llama with LoRA meets a stream of random batches. Each is computed eagerly as it is,
eagerly filled up to its room, and by replay; losses and gradients have to agree to rounding, and a
replay has to leave the host free. Dropout is on and, drawn by the device, has to be that of the
host. On a CPU, where nothing is captured, the step is run over the same memory once more. The
forward of predictions follows (``step_forward``).
"""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_check.device import waits
from benchmarks.gpu_check.scope import Scope
from benchmarks.gpu_check.step_forward import predictions
from benchmarks.gpu_check.step_model import TOLERANCE, random_sentences, random_tagger
from lmsl.config.config import Config
from lmsl.layers.dropout import DropoutClock, dropout_mask
from lmsl.layers.lora import trainable_parameters
from lmsl.packs.packing import pack
from lmsl.packs.sizes import room_for
from lmsl.tagger.graphs import CudaGraphs, Reruns
from lmsl.tagger.rooms import why_not_fixed
from lmsl.training.captured_step import StaticStep
from lmsl.training.eager_step import EagerStep, MicroBatch, MicroStep


def training_step(scope: Scope) -> dict[str, Any]:
    """Losses and gradients of one replay after the other, what waits, and times."""
    dtype = torch.float32 if scope.device.type == "cpu" else torch.bfloat16
    autocast = None if dtype == torch.float32 else dtype
    answer: dict[str, Any] = {"faults": [], "batches": 0, "bitwise_equal": 0, "worst": [0.0, ""]}
    _same_masks(scope.device, answer)
    config = Config(unmask=("0011",))
    found = random_tagger(scope, dtype)
    reason = why_not_fixed(found.tagger, config.attention)
    if reason is not None:
        answer["faults"].append(f"nothing to capture: {reason}")
        return answer
    eager = EagerStep(found.tagger, found.clock, config, scope.device, autocast)
    graphs = CudaGraphs(scope.device) if scope.device.type == "cuda" else Reruns()
    said: list[str] = []
    step = StaticStep(eager, graphs, said.append)
    count = 3 if scope.toy else 24
    batches = [
        (_batch(scope, n, filled=False), _batch(scope, n, filled=True)) for n in range(count)
    ]
    parameters = list(trainable_parameters(found.tagger).values())
    for number, (plain, filled) in enumerate(batches):
        _compare(f"batch {number}", eager, step, plain, filled, parameters, dtype, answer)
        scope.note(answer)
        if said:
            answer["faults"] += said
            return answer
    weights = torch.ones(1, device=scope.device)
    waited = waits(scope, lambda: step(batches[-1][1], weights))
    if waited is not None:
        answer["faults"].append(f"a replay waits for the device: {waited:.200}")
    answer["eager_waits"] = waits(scope, lambda: eager(batches[-1][0], weights))
    answer["rooms"] = len(step.rooms.kept)
    rounds = 1 if scope.toy else 5
    answer["ms"] = {
        "eager": _time(scope, eager, [plain for plain, _ in batches], rounds),
        "replayed": _time(scope, step, [filled for _, filled in batches], rounds),
    }
    predictions(scope, found.tagger, dtype, autocast, answer)
    return answer


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


def _compare(
    what: str,
    eager: EagerStep,
    step: StaticStep,
    plain: MicroBatch,
    filled: MicroBatch,
    parameters: Sequence[torch.nn.Parameter],
    dtype: torch.dtype,
    answer: dict[str, Any],
) -> None:
    weights = torch.full((1,), 1 / plain.pack.words[0], device=eager.device)

    def result(compute: MicroStep, batch: MicroBatch) -> list[Tensor]:
        for parameter in parameters:
            parameter.grad = None
        compute.begin_update()
        loss = compute(batch, weights).clone()
        return [loss, *(p.grad.clone() for p in parameters if p.grad is not None)]

    as_it_is, as_filled = result(eager, plain), result(eager, filled)
    replayed = result(step, filled)
    answer["batches"] += 1
    answer["bitwise_equal"] += all(map(torch.equal, replayed, as_filled))
    for against, expected in (("filled", as_filled), ("as it is", as_it_is)):
        for mine, its in zip(replayed, expected, strict=True):
            error = float((mine - its).norm() / its.norm())
            share = error / TOLERANCE[against, dtype]
            answer["worst"] = max(answer["worst"], [share, f"{what} {against}"])
            # Written so that a NaN does not pass.
            if not share <= 1:
                answer["faults"].append(f"{what}, {against}: a replay is off by {error:.1e}")
                return


def _same_masks(device: torch.device, answer: dict[str, Any]) -> None:
    """What the device draws, bit by bit, with odd sizes and numbers of more than 32 bits."""
    clock = DropoutClock(seeds=(3, 2**64 - 1))
    clock.set(step=2**33, token_offset=(0, 2**40), word_offset=(5, 1))
    for features in (33, 2048):
        shape: dict[str, Any] = {"site": 2**62 + 7, "tokens": 77, "features": features, "p": 0.1}
        host = dropout_mask(clock, device=torch.device("cpu"), **shape)
        if not torch.equal(dropout_mask(clock, device=device, **shape).cpu(), host):
            answer["faults"].append(f"dropout of {features} features is not that of the host")


def _time(
    scope: Scope, compute: MicroStep, batches: Sequence[MicroBatch], rounds: int
) -> dict[str, float]:
    """Milliseconds of a micro-batch, host included, waiting for its loss as training does."""
    weights = torch.ones(1, device=scope.device)
    once: Callable[[MicroBatch], object] = lambda batch: compute(batch, weights).tolist()  # noqa: E731
    for batch in batches:
        once(batch)
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        for batch in batches:
            once(batch)
        found.append(1e3 * (time.perf_counter() - began) / len(batches))
    return {"median": median(found), "lowest": min(found), "highest": max(found)}
