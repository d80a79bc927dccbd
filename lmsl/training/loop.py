"""The training loop: a generator that makes one optimizer update at a time, and does no I/O.

An update is ``batch_size`` sentences for every run of the stack, drawn by that run's seed. Its
examples are packed under a token budget; the loss is the sum over the labelled words of the update
divided once by their number, so how the update is cut changes results by rounding alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
import torch

from lmsl.config.config import Config
from lmsl.data.tags.vocabulary import IGNORED_ID
from lmsl.device import sent
from lmsl.errors import TrainingError
from lmsl.layers.dropout import DropoutClock
from lmsl.layers.lora import RunParameters
from lmsl.packs.examples import Example
from lmsl.packs.packing import pack, under_budget
from lmsl.tagger.tagger import Tagger
from lmsl.training.eager_step import EagerStep, MicroBatch, MicroStep
from lmsl.training.prefetch import Ahead
from lmsl.training.schedule import draw_updates, epoch_ends, lr_factor, updates_per_epoch


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a run is trained on: examples by sentence, and the label ids of every sentence."""

    examples: Sequence[Sequence[Example]]
    labels: Sequence[Sequence[int]]
    names: Sequence[str]
    """Where each sentence stands, for messages."""

    def __len__(self) -> int:
        return len(self.examples)


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one optimizer update did; lists have one entry for each run."""

    step: int
    """Updates made so far, this one included."""
    epoch: int
    ends_epoch: bool
    """And dev is scored, see ``schedule.epoch_ends``."""
    loss: list[float]
    grad_norm: list[float]
    lr: float
    tokens: int
    """Real tokens, all runs together."""
    tokens_of: list[int]
    """Those of each run."""

    def alone(self, run: int) -> "Update":
        """The part of one run, as if it had been trained alone."""
        return replace(
            self,
            loss=[self.loss[run]],
            grad_norm=[self.grad_norm[run]],
            tokens=self.tokens_of[run],
            tokens_of=[self.tokens_of[run]],
        )


def training_updates(
    tagger: Tagger,
    task: Task,
    config: Config,
    *,
    clock: DropoutClock,
    parameters: RunParameters,
    optimizers: Sequence[torch.optim.Optimizer],
    peak_lr: float,
    device: torch.device,
    autocast: torch.dtype | None = None,
    compute: MicroStep | None = None,
    done: int = 0,
) -> Iterator[Update]:
    """Train, yielding after every update; go on after ``done`` updates of an interrupted run.

    Args:
        optimizers: one for each run, over that run's ``parameters.views``; none, to leave the
            weights as they are.
        compute: how a micro-batch is computed; by default eagerly.
        done: updates made already.

    Raises:
        TrainingError: the loss or a gradient is not finite; names the sentences of the update.
    """
    scored = set(epoch_ends(len(task), config))
    per_epoch = updates_per_epoch(len(task), config.batch_size)
    compute = EagerStep(tagger, clock, config, device, autocast) if compute is None else compute
    inputs = Ahead(_inputs(tagger, task, config, clock.seeds, device, compute, done))
    # Here and after evaluations only: the walk through all modules takes milliseconds.
    tagger.train()
    for batch in inputs:
        if not tagger.training:
            tagger.train()
        step, sentences = batch.step, batch.sentences
        lr = peak_lr * lr_factor(step, len(task), config)
        added = _gradients(compute, batch, device)
        if device.type != "cpu":
            # The device is at work, and nobody waits for it yet.
            inputs.prepare()
        parameters.bind_gradients()
        norms = parameters.clip_gradients(config.max_grad_norm)
        losses = added.tolist()
        for run, own in enumerate(sentences):
            names = [task.names[index] for index in own]
            which = f" of seed {clock.seeds[run]}" if len(sentences) > 1 else ""
            _check_finite(f"update {step + 1}{which}", losses[run], norms[run], names)
        _step(optimizers, lr, batch.labelled)
        parameters.zero_gradients()
        yield Update(
            step=step + 1,
            epoch=step // per_epoch + 1,
            ends_epoch=step + 1 in scored,
            loss=losses,
            grad_norm=norms,
            lr=lr,
            tokens=sum(batch.tokens),
            tokens_of=batch.tokens,
        )


@dataclass(frozen=True, kw_only=True)
class _Input:
    """An update before it is made; lists have one entry for each run, ``batches`` aside."""

    step: int
    sentences: Sequence[Sequence[int]]
    batches: Sequence[MicroBatch]
    tokens: list[int]
    labelled: list[int]
    """Words with a label."""


def _inputs(
    tagger: Tagger,
    task: Task,
    config: Config,
    seeds: Sequence[int],
    device: torch.device,
    compute: MicroStep,
    done: int,
) -> Iterator[_Input]:
    """Draw and pack every update from ``done`` on; nothing here waits for the device."""
    drawn = [draw_updates(len(task), config, seed) for seed in seeds]
    for step, sentences in enumerate(zip(*drawn, strict=True)):
        if step < done:
            continue
        examples = [[e for index in own for e in task.examples[index]] for own in sentences]
        budgeted = [under_budget(own, config.tokens_per_batch) for own in examples]
        tokens, words, batches = [0] * len(seeds), [0] * len(seeds), []
        for group in zip_longest(*budgeted, fillvalue=()):
            strings, room = tagger.drawn(group, step), compute.room(group)
            labels = [task.labels] * len(group)
            made = pack(group, labels, torch.device("cpu"), tagger.bits, strings, room)
            batches.append(
                MicroBatch(
                    pack=made.pinned(device),
                    room=room,
                    step=step,
                    token_offset=tuple(tokens),
                    word_offset=tuple(words),
                )
            )
            tokens = [total + new for total, new in zip(tokens, made.tokens, strict=True)]
            words = [total + new for total, new in zip(words, made.words, strict=True)]
        yield _Input(
            step=step,
            sentences=sentences,
            batches=batches,
            tokens=tokens,
            labelled=[_labelled(own, task.labels) for own in examples],
        )


def _gradients(compute: MicroStep, batch: _Input, device: torch.device) -> torch.Tensor:
    """Forward and backward over one update: the loss of each run, [R], on the device."""
    weights = sent(torch.tensor([1.0 / max(1, count) for count in batch.labelled]), device)
    losses = torch.zeros(len(batch.labelled), device=device)
    compute.begin_update()
    for part in batch.batches:
        losses += compute(part, weights)
    return losses


def _check_finite(what: str, loss: float, norm: float, names: list[str]) -> None:
    if not np.isfinite(loss + norm):
        raise TrainingError(
            f"{what}: expected finite numbers, got loss {loss} and gradient "
            f"norm {norm}; lower --lr, or look at the sentences of this update: {', '.join(names)}"
        )


def _step(optimizers: Sequence[torch.optim.Optimizer], lr: float, labelled: Sequence[int]) -> None:
    """Step every run that had a labelled word: without one, weight decay would act alone."""
    assert len(optimizers) in (0, len(labelled))
    for optimizer, count in zip(optimizers, labelled, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = lr
        if count:
            optimizer.step()


def _labelled(examples: Sequence[Example], labels: Sequence[Sequence[int]]) -> int:
    return sum(
        label != IGNORED_ID
        for example in examples
        for label in labels[example.sentence][
            example.first_word : example.first_word + len(example.starts)
        ]
    )
