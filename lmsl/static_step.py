"""The step of a micro-batch as work of fixed sizes, recorded once and replayed with new contents.

A step of a large model over few sentences takes the host longer to launch than the device to
compute. A CUDA graph launches all of it at once, but repeats exactly what was captured: the same
sizes at the same addresses. So packs are filled up to one of a handful of rooms, each with memory
of its own to which ids, places of sentences and words, labels, weights and the place of dropout
are copied, and a graph that reads nothing else. Filling has no label and is seen by nobody: losses
and gradients are those of the eager step to rounding, and the dropout of real tokens is the same.

Gradients are added to tensors that stay as long as the step does; the first micro-batch of an
update finds the parameters without gradients, empties them and puts them there.

Shapes: R runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lmsl.config import Config
from lmsl.dropout import DropoutClock
from lmsl.examples import Example
from lmsl.graphs import CudaGraphs, Graphs
from lmsl.lora import trainable_parameters
from lmsl.micro_step import EagerStep, MicroBatch, MicroStep
from lmsl.model import Tagger
from lmsl.packing import Room

# Rooms that are kept: what updates of one size need, with room to spare. A room more costs the
# memory of its input, of its launches, and of what it needs beyond the others.
MOST_ROOMS = 16
# Shorter bounds of a sentence would make more rooms and save next to nothing.
_LEAST_TOKENS, _LEAST_SEQUENCES, _LEAST_BOUND = 16, 16, 64
# What the rotary embeddings compute from positions alone, on the device.
_ROTARY = ("default", "linear", "llama3", "yarn")


def choose_step(
    tagger: Tagger,
    clock: DropoutClock,
    config: Config,
    device: torch.device,
    autocast: torch.dtype | None,
    say: Callable[[str], None],
) -> MicroStep:
    """How micro-batches are computed, as ``--cuda-graphs`` asks and the device allows."""
    eager = EagerStep(tagger, clock, config, device, autocast)
    if config.cuda_graphs == "off":
        return eager
    reason = why_not(tagger, config, device)
    if reason is not None:
        say(f"  CUDA graphs: off, {reason}")
        return eager
    say("  CUDA graphs: on (--cuda-graphs on)")
    return StaticStep(eager, CudaGraphs(device), say)


def why_not(tagger: Tagger, config: Config, device: torch.device) -> str | None:
    """Why steps cannot be captured; None where they can."""
    if device.type != "cuda":
        return f"the device is {device}"
    return why_not_static(tagger, config)


def why_not_static(tagger: Tagger, config: Config) -> str | None:
    """Why a step is not the same work for every batch, whatever the device; None where it is."""
    if tagger.block is None:
        return "transformers' own forward may read the batch on the host"
    if tagger.mixture is not None:
        return "every sentence of a one-shot draws its own string"
    if config.checkpointing:
        return "activations are recomputed (--checkpointing)"
    if config.attention == "eager":
        return "--attention eager reads the lengths on the host"
    rotary = getattr(tagger.decoder.rotary_emb, "rope_type", "default")
    if rotary not in _ROTARY:
        return f"rotary embeddings of type {rotary} look at the batch on the host"
    return None


def room_for(examples: Sequence[Sequence[Example]]) -> Room:
    """The room of a pack of these examples, one list for each run.

    A function of their sizes alone, so that equal batches are always computed alike.
    """
    sizes = [[len(example.ids) for example in own] for own in examples]
    tokens = rounded_up(max(sum(own) for own in sizes), _LEAST_TOKENS)
    bound = _power(max((size for own in sizes for size in own), default=1), _LEAST_BOUND)
    filled = sum(len(own) - (sum(own) - tokens) // bound for own in sizes)
    sequences = _power(filled, _LEAST_SEQUENCES)
    # No word is shorter than a token. Rows that are read for nothing pass one MLP of all layers.
    return Room(tokens=tokens, words=tokens, sequences=sequences, longest=bound)


def rounded_up(size: int, least: int) -> int:
    """The next of four sizes an octave: 16, 20, 24, 28, 32, 40, ..."""
    if size <= least:
        return least
    step = max(1, 1 << ((size - 1).bit_length() - 3))
    return -(-size // step) * step


class StaticStep:
    """Micro-batches by replay; see ``MicroStep``.

    Args:
        eager: who computes what is captured, and the whole where a capture fails.
        graphs: where steps are captured.
        say: told when a room is given up or captures are.
        most: rooms that are kept.
    """

    def __init__(
        self,
        eager: EagerStep,
        graphs: Graphs,
        say: Callable[[str], None],
        most: int = MOST_ROOMS,
    ) -> None:
        self._eager, self._graphs, self._say, self._most = eager, graphs, say, most
        self._gradients = Gradients(eager.tagger)
        # The one used last comes last.
        self._captured: dict[Room, Captured] = {}
        self._dropped = 0
        self._failed = False

    @property
    def rooms(self) -> list[Room]:
        """Those that are kept, the one used last at the end."""
        return list(self._captured)

    def room(self, examples: Sequence[Sequence[Example]]) -> Room | None:
        return None if self._failed else room_for(examples)

    def __call__(self, batch: MicroBatch, weights: Tensor) -> Tensor:
        self._gradients.begin()
        captured = self._find(batch)
        if captured is None:
            return self._eager(batch, weights)
        self._eager.set_clock(batch)
        captured.load(batch, weights)
        captured.replay()
        return captured.losses

    def _find(self, batch: MicroBatch) -> "Captured | None":
        """What was captured for the room of a batch, captured now where it is new."""
        if self._failed or batch.room is None:
            return None
        found = self._captured.pop(batch.room, None)
        if found is None:
            if len(self._captured) >= self._most:
                self._drop()
            try:
                found = Captured(batch, self._eager, self._gradients, self._graphs)
            except RuntimeError as error:
                self._give_up(error)
                return None
        self._captured[batch.room] = found
        return found

    def _drop(self) -> None:
        room = next(iter(self._captured))
        del self._captured[room]
        self._dropped += 1
        if self._dropped == 1:
            self._say(
                f"  CUDA graphs: more than {self._most} sizes of batches; the one not used for "
                f"longest ({room.tokens} tokens) is captured again when it is needed"
            )

    def _give_up(self, error: RuntimeError) -> None:
        self._failed = True
        self._captured.clear()
        reason = " ".join(str(error).split())
        self._say(f"  CUDA graphs: off from here on, the capture failed: {reason:.200}")


class Captured:
    """The step of one room: its memory, and the replay over it.

    Args:
        batch: the first one of this room; computed here without weight, so that nothing changes.
    """

    def __init__(
        self, batch: MicroBatch, eager: EagerStep, gradients: "Gradients", graphs: Graphs
    ) -> None:
        assert batch.room is not None
        device, runs = eager.device, batch.pack.runs
        self._eager, self._gradients, self._room = eager, gradients, batch.room
        self._pack = batch.pack.mapped(lambda own: torch.empty_like(own, device=device))
        self._place = torch.empty(runs, 4, dtype=torch.int64, device=device)
        self._weights = torch.empty(runs, device=device)
        self.losses = torch.zeros(runs, device=device)
        eager.set_clock(batch)
        self.load(batch, torch.zeros(runs, device=device))
        self.replay = graphs.capture(self._compute)

    def load(self, batch: MicroBatch, weights: Tensor) -> None:
        """Copy in what the next replay computes; the clock is where the batch is."""
        assert batch.room == self._room
        for own, new in zip(self._pack.tensors(), batch.pack.tensors(), strict=True):
            own.copy_(new, non_blocking=True)
        place = self._eager.clock.place()
        # In pinned memory, or the host would wait until the device has read it.
        self._place.copy_(place.pin_memory() if self._place.is_cuda else place, non_blocking=True)
        self._weights.copy_(weights)

    def _compute(self) -> None:
        """Add to the gradients and set ``losses``; reads nothing but memory of its own."""
        attention = self._pack.attention
        # A plan is made anew for every capture: what it derives from lengths belongs to that.
        plan = replace(
            attention.plan,
            max_seqlen=self._room.longest,
            capacity=self._pack.ids.shape[1],
            lengths=None,
            cache={},
        )
        pack = replace(self._pack, attention=replace(attention, plan=plan))
        with self._eager.clock.reading(self._place):
            losses = self._eager.losses(pack, self._weights)
            self._gradients.add(self._eager.objective(losses))
        self.losses.copy_(losses.detach())


class Gradients:
    """The sums of an update's gradients, in memory that stays."""

    def __init__(self, tagger: Tagger) -> None:
        self._parameters = list(trainable_parameters(tagger).values())
        self._sums = [torch.zeros_like(parameter) for parameter in self._parameters]

    def begin(self) -> None:
        """Before every micro-batch: the first one of an update finds the sums at 0."""
        if self._parameters[0].grad is self._sums[0]:
            return
        torch._foreach_zero_(self._sums)
        for parameter, total in zip(self._parameters, self._sums, strict=True):
            assert parameter.grad is None, "gradients of somebody else"
            parameter.grad = total

    def add(self, objective: Tensor) -> None:
        found = torch.autograd.grad(objective, self._parameters, materialize_grads=True)
        torch._foreach_add_(self._sums, found)


def _power(size: int, least: int) -> int:
    """The next power of two."""
    return max(least, 1 << max(0, size - 1).bit_length())
