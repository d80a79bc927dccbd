"""The step of a micro-batch as work of fixed sizes, recorded once and replayed with new contents.

A step of a large model over few sentences takes the host longer to launch than the device to
compute. A CUDA graph launches all of it at once, but repeats exactly what was captured. So packs
are filled up to rooms (``tagger.rooms``), and a graph reads nothing but the memory of its room:
the pack, the labels, the weights and the place of dropout. Losses and gradients are those of the
eager step to rounding, and the dropout of real tokens is the same.

Gradients are added to tensors that stay as long as the step does: at the beginning of an update
they are emptied and given to the parameters, which have none then.

Shapes: R runs.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lmsl.config.config import Config
from lmsl.layers.dropout import DropoutClock
from lmsl.layers.lora import trainable_parameters
from lmsl.packs.examples import Example
from lmsl.packs.packing import Room
from lmsl.tagger.graphs import CudaGraphs, Graphs
from lmsl.tagger.rooms import MOST_ROOMS, FixedPack, Rooms, say_captured, why_not_captured
from lmsl.tagger.tagger import Tagger
from lmsl.training.eager_step import EagerStep, MicroBatch, MicroStep


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
    indented: Callable[[str], None] = lambda line: say(f"  {line}")  # noqa: E731
    if not say_captured(why_not_captured_step(tagger, config, device), indented):
        return eager
    return StaticStep(eager, CudaGraphs(device), indented)


def will_capture(tagger: Tagger, config: Config, device: torch.device) -> bool:
    """Whether steps are captured: where it was asked for and can be."""
    if config.cuda_graphs == "off":
        return False
    return why_not_captured_step(tagger, config, device) is None


def why_not_captured_step(tagger: Tagger, config: Config, device: torch.device) -> str | None:
    """Why steps cannot be captured; None where they can."""
    reason = why_not_captured(tagger, config.attention, device)
    if reason is None and tagger.recomputed:
        return "activations are recomputed (--checkpointing)"
    return reason


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
        self._eager, self.graphs = eager, graphs
        self._gradients = Gradients(eager.tagger)
        self.rooms: Rooms[Captured] = Rooms(say, most)

    def room(self, examples: Sequence[Sequence[Example]]) -> Room | None:
        return self.rooms.room(examples, self._eager.budget)

    def begin_update(self) -> None:
        self._gradients.begin_update()

    def __call__(self, batch: MicroBatch, weights: Tensor) -> Tensor:
        assert self._gradients.given, "no update was begun"
        captured = self.rooms.find(
            batch.room, lambda: Captured(batch, self._eager, self._gradients, self.graphs)
        )
        if captured is None:
            return self._eager(batch, weights)
        self._eager.set_clock(batch)
        captured.load(batch, weights)
        captured.replay()
        return captured.losses


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
        self._pack = FixedPack(batch.pack, batch.room, device)
        self._place = torch.empty(runs, 4, dtype=torch.int64, device=device)
        self._weights = torch.empty(runs, device=device)
        self.losses = torch.zeros(runs, device=device)
        eager.set_clock(batch)
        self.load(batch, torch.zeros(runs, device=device))
        self.replay = graphs.capture(self._compute)

    def load(self, batch: MicroBatch, weights: Tensor) -> None:
        """Copy in what the next replay computes; the clock is where the batch is."""
        assert batch.room == self._room
        self._pack.load(batch.pack)
        place = self._eager.clock.place()
        # In pinned memory, or the host would wait until the device has read it.
        self._place.copy_(place.pin_memory() if self._place.is_cuda else place, non_blocking=True)
        self._weights.copy_(weights)

    def _compute(self) -> None:
        """Add to the gradients and set ``losses``; reads nothing but memory of its own."""
        with self._eager.clock.reading(self._place):
            losses = self._eager.losses(self._pack.read(), self._weights)
            self._gradients.add(self._eager.objective(losses))
        self.losses.copy_(losses.detach())


class Gradients:
    """The sums of an update's gradients, in memory that stays."""

    def __init__(self, tagger: Tagger) -> None:
        self._parameters = list(trainable_parameters(tagger).values())
        self._sums = [torch.zeros_like(parameter) for parameter in self._parameters]

    def begin_update(self) -> None:
        """Empty the sums and give them to the parameters."""
        torch._foreach_zero_(self._sums)
        for parameter, total in zip(self._parameters, self._sums, strict=True):
            assert parameter.grad is None, "gradients of somebody else"
            parameter.grad = total

    @property
    def given(self) -> bool:
        """Whether the parameters have the sums: from the beginning of an update to its step."""
        return self._parameters[0].grad is self._sums[0]

    def add(self, objective: Tensor) -> None:
        found = torch.autograd.grad(objective, self._parameters, materialize_grads=True)
        torch._foreach_add_(self._sums, found)
