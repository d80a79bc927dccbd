"""The forward without gradients as work of fixed sizes, recorded once and replayed.

As in ``training.captured_step`` a graph reads nothing but the memory of its room, and the
parameters where they are: training may go on between two replays. Packs of prediction are made of
sentences sorted by length under a budget, so nearly all of them have one of a few sizes; the first
pack of a room is computed eagerly, and a room that is met again is captured: a capture takes
longer than several forwards.

Shapes: R runs of W_cap words.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lmsl.packs.examples import Example
from lmsl.packs.packing import Room
from lmsl.tagger.graphs import CudaGraphs, Graphs
from lmsl.tagger.inference import Batch, EagerForward, Forward
from lmsl.tagger.rooms import MOST_ROOMS, FixedPack, Rooms, say_captured, why_not_captured
from lmsl.tagger.tagger import Tagger


def choose_forward(
    tagger: Tagger,
    device: torch.device,
    autocast: torch.dtype | None,
    *,
    cuda_graphs: str,
    attention: str,
    say: Callable[[str], None],
) -> Forward:
    """How packs are computed, as ``--cuda-graphs`` asks and the device allows.

    Args:
        attention: as ``--attention``.
    """
    eager = EagerForward(tagger, device, autocast)
    if cuda_graphs == "off":
        return eager
    if not say_captured(why_not_captured(tagger, attention, device), say):
        return eager
    return StaticForward(eager, CudaGraphs(device), say)


class StaticForward:
    """Packs by replay; see ``Forward``.

    Args:
        eager: who computes what is captured, and the whole where a capture fails.
        graphs: where forwards are captured.
        say: told when a room is given up or captures are.
        most: rooms that are kept.
    """

    def __init__(
        self,
        eager: EagerForward,
        graphs: Graphs,
        say: Callable[[str], None],
        most: int = MOST_ROOMS,
    ) -> None:
        self.tagger, self.device = eager.tagger, eager.device
        self._eager, self._graphs = eager, graphs
        self.rooms: Rooms[CapturedForward] = Rooms(say, most)
        self._met: set[Room] = set()

    def room(self, examples: Sequence[Sequence[Example]], budget: int) -> Room | None:
        return self.rooms.room(examples, budget)

    # What is captured is memory of inference mode, and may be written to in no other.
    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Tensor:
        if batch.room is None or batch.room not in self._met:
            if batch.room is not None:
                self._met.add(batch.room)
            return self._eager(batch)
        captured = self.rooms.find(
            batch.room, lambda: CapturedForward(batch, self._eager, self._graphs)
        )
        if captured is None:
            return self._eager(batch)
        captured.load(batch)
        captured.replay()
        return captured.logs


class CapturedForward:
    """The forward of one room: its memory, and the replay over it."""

    def __init__(self, batch: Batch, eager: EagerForward, graphs: Graphs) -> None:
        assert batch.room is not None and not eager.tagger.training
        self._eager, self._room = eager, batch.room
        self._pack = FixedPack(batch.pack, batch.room, eager.device)
        self.logs = torch.empty(
            (*batch.pack.labels.shape, eager.tagger.head.classes),
            dtype=torch.float64,
            device=eager.device,
        )
        """float64 [R, W_cap, classes], of the last replay."""
        self.load(batch)
        self.replay = graphs.capture(self._compute)

    def load(self, batch: Batch) -> None:
        """Copy in what the next replay computes."""
        assert batch.room == self._room
        self._pack.load(batch.pack)

    def _compute(self) -> None:
        """Set ``logs``; reads nothing but memory of its own and the parameters."""
        self.logs.copy_(self._eager.log_probabilities(self._pack.read()))
