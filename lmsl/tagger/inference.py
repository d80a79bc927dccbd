"""A pack forward without gradients: log-probabilities of its words, read back one pack late.

Evaluation and prediction are handed packs' answers here; ``captured`` computes the same over
memory that stays, so that it can be replayed. Whoever computes, the host is not made to wait for
each pack: with one launched it takes the answers of the one before, then makes and sends the next
while the device computes.

Shapes: R runs of W_cap words.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lmsl.data.tags.distribution import Floats
from lmsl.mask.bits import Bits
from lmsl.packs.examples import Example
from lmsl.packs.packing import Pack, Room, pack
from lmsl.tagger.tagger import Tagger

_HOST = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The same sentences for every run, or under every string for the only one."""

    examples: Sequence[Example]
    pack: Pack
    """On the host, pinned where it will be sent to a GPU."""
    room: Room | None
    """What the pack was filled up to."""


class Forward(Protocol):
    """How packs are computed; for a tagger in eval mode."""

    tagger: Tagger
    device: torch.device

    def room(self, examples: Sequence[Sequence[Example]], budget: int) -> Room | None:
        """What a pack of these examples, one list for each run, has to be filled up to.

        Args:
            budget: the most tokens of a run's packs.
        """
        ...

    def __call__(self, batch: Batch) -> Tensor:
        """Log-probabilities float64 [R, W_cap, classes] on the device, until the next call."""
        ...


class EagerForward:
    """Every operation launched by the host, for packs of any size.

    Args:
        autocast: what the forward computes in, None for float32.
    """

    def __init__(
        self, tagger: Tagger, device: torch.device, autocast: torch.dtype | None = None
    ) -> None:
        self.tagger, self.device, self._autocast = tagger, device, autocast

    def room(self, examples: Sequence[Sequence[Example]], budget: int) -> Room | None:
        return None

    def __call__(self, batch: Batch) -> Tensor:
        return self.log_probabilities(batch.pack.to(self.device))

    @torch.inference_mode()
    def log_probabilities(self, own: Pack) -> Tensor:
        """As ``__call__``, for a pack on the device."""
        on = self._autocast is not None
        # In inference mode it does not keep parameters that it rounded once: training goes on.
        with torch.autocast(self.device.type, dtype=self._autocast, enabled=on):
            logits = self.tagger(own)
        return logits.double().log_softmax(-1)


def batch_of(
    compute: Forward, examples: Sequence[Example], budget: int, bits: Bits | None = None
) -> Batch:
    """The examples for every run of the tagger.

    Args:
        budget: see ``Forward.room``.
        bits: instead, the layers of every string under which the only run reads them.
    """
    tagger, room = compute.tagger, None
    if bits is None:
        runs = [examples] * tagger.head.runs
        drawn, room = tagger.drawn(runs, None), compute.room(runs, budget)
    else:
        runs, drawn = [[*examples] * len(bits)], [own for own in bits for _ in examples]
    made = pack(runs, None, _HOST, tagger.bits, drawn, room)
    return Batch(examples=examples, pack=made.pinned(compute.device), room=room)


def log_probabilities(
    compute: Forward, batches: Iterable[Batch]
) -> Iterator[tuple[Batch, Floats]]:
    """[R, W, classes] of each batch's W words, in order; batches are asked for one at a time."""
    before = None
    for batch in batches:
        answers = _Answers(batch, compute(batch))
        if before is not None:
            yield before.read()
        before = answers
    if before is not None:
        yield before.read()


class _Answers:
    """The answers to a batch on their way to the host."""

    def __init__(self, batch: Batch, logs: Tensor) -> None:
        rows = logs.narrow(1, 0, max(batch.pack.words))
        self._batch, self._arrived = batch, None
        # The next pack may be answered in the same place.
        self._host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=rows.is_cuda)
        self._host.copy_(rows, non_blocking=rows.is_cuda)
        if rows.is_cuda:
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(rows.device))

    def read(self) -> tuple[Batch, Floats]:
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._batch, self._host.numpy()
