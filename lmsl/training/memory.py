"""What a training takes of the device's memory: told before it begins, measured when it ends.

Weights, adapters, gradients and optimizer follow from shapes. What a forward keeps for its
backward depends on whose forward it is, on adapters, dropout and attention, so it is counted: one
forward over a few sentences of the data, every tensor that autograd saves noted once by its
storage. It grows with the tokens, so the largest micro-batch follows, filled up where steps are
captured. A captured step has also its gradients twice, as sums that stay and fresh, and memory for
the input of every room. Not in it: what single operations need for a moment, and what the
allocator holds back.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from lmsl.config.config import Config
from lmsl.device import mib
from lmsl.layers.dropout import DropoutClock
from lmsl.layers.lora import trainable_parameters
from lmsl.packs.examples import Example
from lmsl.packs.packing import Pack, pack, under_budget
from lmsl.packs.sizes import room_for, room_tokens
from lmsl.tagger.emissions import by_length, evaluation_budget
from lmsl.tagger.rooms import MOST_ROOMS
from lmsl.tagger.tagger import Tagger
from lmsl.training.loop import Task
from lmsl.training.optim import resolve_optimizer

PASSING = 0.3
"""Gradients of activations on their way, as a share of what is kept for the backward."""

_HOST = torch.device("cpu")
# Of the forward that is counted: enough that what does not grow with tokens is lost in it.
_COUNTED_TOKENS = 512
# bitsandbytes keeps small tensors in 32 bits, and a scale for every block of larger ones.
_SMALLEST_8BIT, _BLOCK_8BIT = 4096, 256


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of each part."""

    weights: int
    """Everything frozen: codes of NF4, weights kept dequantised, embeddings, norms."""
    adapters: int
    """Adapters and heads of all runs; their gradients take as much again."""
    optimizer: int
    per_token: float
    """Kept for the backward."""
    tokens: int
    """The most that one micro-batch can hold, all runs together, filling included."""
    layers: int
    per_input: int
    """Bytes of a token between two layers: what a layer keeps that is recomputed."""
    recomputed: int = 0
    """Layers that keep nothing else, and are computed again one at a time."""
    graphs: int = 0
    """Of captured steps: their fresh gradients, and what the rooms of training and evaluation hold
    at most."""

    @property
    def activations(self) -> int:
        # Taken alike, although the last one keeps less: a little more is expected than comes.
        layer = self.per_token / self.layers
        kept = self.per_token - self.recomputed * (layer - self.per_input)
        again = layer if self.recomputed else 0
        return round((kept + again) * self.tokens)

    @property
    def passing(self) -> int:
        """Activations and their gradients at the worst moment of a backward."""
        return round((1 + PASSING) * self.activations)

    @property
    def to_come(self) -> int:
        """What is not on the device yet when weights and adapters are, activations aside."""
        return self.adapters + self.optimizer + self.graphs

    @property
    def total(self) -> int:
        trained = 2 * self.adapters + self.optimizer
        return self.weights + trained + self.activations + self.graphs

    def line(self) -> str:
        """For people."""
        each = self.activations / self.tokens / 1024
        return (
            f"memory: {mib(self.total)} expected: weights {mib(self.weights)}, adapters with "
            f"gradients {mib(2 * self.adapters)}, optimizer {mib(self.optimizer)}, activations "
            f"{mib(self.activations)} ({each:,.1f} KiB for each of at most {self.tokens:,} tokens)"
        ) + (f", CUDA graphs {mib(self.graphs)}" if self.graphs else "")


def expected_memory(
    tagger: Tagger,
    task: Task,
    config: Config,
    *,
    clock: DropoutClock,
    device: torch.device,
    autocast: torch.dtype | None = None,
    captured: bool = False,
) -> Memory:
    """What ``training_updates`` with the same arguments will take, all activations being kept.

    The clock is moved and nothing else changes; the loop sets it before every micro-batch.

    Args:
        captured: steps are replayed, and packs filled up.
    """
    trained = trainable_parameters(tagger).values()
    name = resolve_optimizer(config.optimizer, device)
    some, budget = [_some(task)] * tagger.head.runs, config.tokens_per_batch
    room = room_for(some) if captured else None
    batch = pack(some, None, device, tagger.bits, tagger.drawn(some, step=0), room)
    everything = _storages(chain(tagger.parameters(), tagger.buffers()))
    adapters = sum(_storages(trained).values())
    tokens = most_tokens(task, config)
    return Memory(
        weights=sum(everything.values()) - adapters,
        adapters=adapters,
        optimizer=sum(tagger.head.runs * _moments(p[0], name) for p in trained),
        per_token=kept_bytes(tagger, batch, clock, autocast) / batch.ids.shape[1],
        tokens=tagger.head.runs * (room_tokens(tokens, budget) if captured else tokens),
        layers=tagger.depth,
        per_input=tagger.head.hidden * (autocast or torch.float32).itemsize,
        # The gradients of a micro-batch stand beside their sums.
        graphs=adapters + room_bytes(tagger, task, config, device) if captured else 0,
    )


def kept_bytes(
    tagger: Tagger, batch: Pack, clock: DropoutClock, autocast: torch.dtype | None = None
) -> int:
    """Bytes that a forward in train mode keeps for its backward, parameters aside."""
    known = _storages(chain(tagger.parameters(), tagger.buffers()))
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept.update(_storages([tensor]))
        # Not the tensor itself: an operation that keeps its own output would then keep itself,
        # and the whole forward would stay in memory for good.
        return tensor.detach()

    nowhere = (0,) * batch.runs
    clock.set(step=0, token_offset=nowhere, word_offset=nowhere)
    was_training, kind = tagger.training, batch.ids.device.type
    tagger.train()
    with (
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast(kind, dtype=autocast, enabled=autocast is not None),
    ):
        # Held until all is noted, so that no storage is freed and its place counted again.
        logits = tagger(batch)
    tagger.train(was_training)
    del logits
    return sum(size for place, size in kept.items() if place not in known)


def most_tokens(task: Task, config: Config) -> int:
    """The most tokens that a micro-batch of one run can hold."""
    sizes = [sum(len(example.ids) for example in own) for own in task.examples]
    update = sum(sorted(sizes)[-(config.batch_size // config.keep_every) :])
    longest = max((len(example.ids) for own in task.examples for example in own), default=0)
    # A single example may be longer than the budget.
    return max(longest, min(update, config.tokens_per_batch))


def room_bytes(tagger: Tagger, task: Task, config: Config, device: torch.device) -> int:
    """Bytes of the rooms of captured steps and evaluations, at most: as many as are kept, all as
    large as the largest. Sentences of dev are taken to be as long as those of the training.
    """
    runs, budget = tagger.head.runs, config.tokens_per_batch
    step = _input_bytes(tagger, _largest(task, config), budget)
    budget = evaluation_budget(budget, runs, device)
    everything = by_length([example for own in task.examples for example in own])
    read = next(under_budget(everything, budget), ())
    scores = 8 * runs * tagger.head.classes * room_for([read], budget).words
    return MOST_ROOMS * (step + _input_bytes(tagger, read, budget) + scores)


def _input_bytes(tagger: Tagger, examples: Sequence[Example], budget: int) -> int:
    """Of the room of a pack of these examples for every run."""
    runs = [examples] * tagger.head.runs
    drawn = pack(runs, None, _HOST, tagger.bits, room=room_for(runs, budget))
    return sum(tensor.nbytes for tensor in drawn.tensors())


def _largest(task: Task, config: Config) -> Sequence[Example]:
    """The examples of the largest micro-batch of one run."""

    def tokens(examples: Sequence[Example]) -> int:
        return sum(len(example.ids) for example in examples)

    update = sorted(task.examples, key=tokens)[-(config.batch_size // config.keep_every) :]
    examples = [example for own in update for example in own]
    return max(under_budget(examples, config.tokens_per_batch), key=tokens, default=())


class Peak:
    """The most memory in use since this object was made."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = _resident("VmRSS")
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def line(self) -> str:
        """For people: the peak of a GPU, or by how much the process grew."""
        if self._device.type == "cuda":
            return f"memory: at most {mib(torch.cuda.max_memory_allocated(self._device))} in use"
        highest = _resident("VmHWM")
        if self._before is None or highest is None:
            return "memory: this system does not tell how much was in use"
        grown = max(0, highest - self._before)
        return f"memory: the process grew by at most {mib(grown)}, to {mib(highest)}"


def _some(task: Task) -> list[Example]:
    """Sentences from all over the data, up to a number of tokens."""
    chosen: list[Example] = []
    total = 0
    for own in task.examples[:: max(1, len(task) // 64)]:
        for example in own:
            if chosen and total + len(example.ids) > _COUNTED_TOKENS:
                return chosen
            chosen.append(example)
            total += len(example.ids)
    return chosen


def _storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """The size of each storage by its place: views of one are one."""
    found = (tensor.untyped_storage() for tensor in tensors)
    return {storage.data_ptr(): storage.nbytes() for storage in found}


def _moments(parameter: Tensor, optimizer: str) -> int:
    """Bytes of the two moments of one run's parameter."""
    count = parameter.numel()
    if optimizer == "adamw8bit" and count >= _SMALLEST_8BIT:
        return 2 * (count + 4 * -(-count // _BLOCK_8BIT))
    return 2 * 4 * count


def _resident(name: str) -> int | None:
    """A size of this process from Linux; None elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        (size,) = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
        return int(size) * 1024
    except (OSError, ValueError, IndexError):
        return None
