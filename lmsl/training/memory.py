"""What a training takes of the device's memory, estimated once: for what is told before it begins,
for how many layers are recomputed, and for how many runs fit at once. ``peak`` measures it.

Weights, adapters, gradients and optimizer follow from shapes. What a forward keeps for its
backward depends on whose forward it is, on adapters, dropout and attention, so it is counted: one
forward over a few sentences of the data, every tensor that autograd saves noted once by its
storage. It grows with the tokens, so the largest micro-batch of the training follows, filled up
where steps are captured. A captured step has also its gradients twice, as sums that stay and
fresh, and memory for the input of every room. Not in it: what the allocator holds back.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

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
from lmsl.training.schedule import draw_updates

PASSING = 0.8
"""Gradients of activations on their way, as a share of what a layer keeps: at the worst moment as
much is needed whatever the depth. Measured: 0.5 to 0.9, with 2, 4 and 8 layers."""
PLAIN_PASSING = 0.4
"""Beside that in the forward of transformers, as a share of all that is kept: measured on a CPU,
0.36 to 0.43 with 2 and 8 layers, perhaps because it frees in pieces that leave holes."""

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
    """What is trained, adapters and heads of all runs as a rule; gradients take as much again."""
    optimizer: int
    per_token: float
    """Kept for the backward."""
    tokens: int
    """The most that one micro-batch can hold, all runs together, filling included."""
    layers: int
    per_input: int
    """Bytes of a token between two layers: what a layer keeps that is recomputed."""
    passing: float = PASSING
    """Layers' worth of ``per_token`` that a backward needs beside it."""
    recomputed: int = 0
    """Layers that keep nothing else, and are computed again one at a time."""
    graphs: int = 0
    """Of captured steps: their fresh gradients, and what the rooms of training and evaluation hold
    at most."""

    @property
    def activations(self) -> int:
        """Activations and their gradients at the worst moment of a backward."""
        # Taken alike, although the last one keeps less: a little more is expected than comes.
        layer = self.per_token / self.layers
        kept = self.per_token - self.recomputed * (layer - self.per_input)
        again = layer if self.recomputed else 0
        return round((kept + again + self.passing * layer) * self.tokens)

    @property
    def to_come(self) -> int:
        """What is not on the device yet when weights and adapters are, activations aside."""
        return self.adapters + self.optimizer + self.graphs

    @property
    def of_runs(self) -> int:
        """What grows with the number of runs: all but what is frozen."""
        return self.adapters + self.to_come + self.activations

    @property
    def total(self) -> int:
        return self.weights + self.of_runs

    def line(self) -> str:
        """For people."""
        each = self.activations / self.tokens / 1024
        return (
            f"memory: {mib(self.total)} expected: frozen weights {mib(self.weights)}, "
            f"trained ones with gradients {mib(2 * self.adapters)}, "
            f"optimizer {mib(self.optimizer)}, activations {mib(self.activations)} "
            f"({each:,.1f} KiB for each of at most {self.tokens:,} tokens)"
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
    some = [_some(task)] * tagger.head.runs
    room = room_for(some) if captured else None
    batch = pack(some, None, device, tagger.bits, tagger.drawn(some, step=0), room)
    everything = _storages(chain(tagger.parameters(), tagger.buffers()))
    adapters = sum(_storages(trained).values())
    return Memory(
        weights=sum(everything.values()) - adapters,
        adapters=adapters,
        optimizer=sum(_moments(p, name, tagger.head.runs) for p in trained),
        per_token=kept_bytes(tagger, batch, clock, autocast) / batch.ids.shape[1],
        tokens=tagger.head.runs * most_tokens(task, config, clock.seeds, captured=captured),
        layers=tagger.depth,
        per_input=tagger.head.hidden * (autocast or torch.float32).itemsize,
        passing=PASSING + (PLAIN_PASSING * tagger.depth if tagger.block is None else 0),
        # The gradients of a micro-batch stand beside their sums.
        graphs=adapters + room_bytes(tagger, task, config, clock.seeds, device) if captured else 0,
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


def most_tokens(task: Task, config: Config, seeds: Sequence[int], *, captured: bool) -> int:
    """The most tokens of a run in one micro-batch, filling included where steps are captured."""
    tokens = sum(len(example.ids) for example in largest_micro_batch(task, config, seeds))
    return room_tokens(tokens, config.tokens_per_batch) if captured else tokens


def largest_micro_batch(task: Task, config: Config, seeds: Iterable[int]) -> Sequence[Example]:
    """Of those that runs of these seeds will meet."""
    sizes = [sum(len(example.ids) for example in own) for own in task.examples]
    updates = chain.from_iterable(draw_updates(len(task), config, seed) for seed in set(seeds))
    largest = max(updates, key=lambda drawn: sum(sizes[index] for index in drawn), default=[])
    examples = [example for index in largest for example in task.examples[index]]
    groups = under_budget(examples, config.tokens_per_batch)
    return max(groups, key=lambda group: sum(len(e.ids) for e in group), default=())


def room_bytes(
    tagger: Tagger, task: Task, config: Config, seeds: Sequence[int], device: torch.device
) -> int:
    """Bytes of the rooms of captured steps and evaluations, at most: as many as are kept, all as
    large as the largest. Sentences of dev are taken to be as long as those of the training.
    """
    runs, budget = tagger.head.runs, config.tokens_per_batch
    step = _input_bytes(tagger, largest_micro_batch(task, config, seeds), budget)
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


def _moments(parameter: Tensor, optimizer: str, runs: int) -> int:
    """Bytes of the two moments of the parts that so many runs have in a parameter."""
    count = parameter.numel() // runs
    if optimizer == "adamw8bit" and count >= _SMALLEST_8BIT:
        return runs * 2 * (count + 4 * -(-count // _BLOCK_8BIT))
    return runs * 2 * 4 * count
