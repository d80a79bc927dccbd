"""Packs of fixed sizes in memory that stays, and what was captured over it.

What a CUDA graph repeats has to be the same work at the same addresses. So packs are filled up to
one of a handful of rooms, each with memory of its own to which ids, places of sentences and words
and flags are copied. Training (``training.captured_step``) and prediction (``captured``) both
capture over such memory; what is kept, dropped and given up is decided here for both. Filling has
no label and is seen by nobody: it changes results by rounding alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from lmsl.packs.examples import Example
from lmsl.packs.packing import Pack, Room
from lmsl.packs.sizes import room_for
from lmsl.tagger.tagger import Tagger
from lmsl.wording import one_line

C = TypeVar("C")

# Rooms that are kept: what updates of one size need, with room to spare. A room more costs the
# memory of its input, of its launches, and of what it needs beyond the others.
MOST_ROOMS = 16
# What the rotary embeddings compute from positions alone, on the device.
_ROTARY = ("default", "linear", "llama3", "yarn")


def say_captured(reason: str | None, say: Callable[[str], None]) -> bool:
    """Say what becomes of ``--cuda-graphs on``, of a step or of a forward; whether it is done.

    Args:
        reason: why not.
    """
    on = "on (--cuda-graphs on)" if reason is None else f"off, {reason}"
    say(f"CUDA graphs: {on}")
    return reason is None


def why_not_captured(tagger: Tagger, attention: str, device: torch.device) -> str | None:
    """Why nothing can be captured; None where it can."""
    if device.type != "cuda":
        return f"the device is {device}"
    return why_not_fixed(tagger, attention)


def why_not_fixed(tagger: Tagger, attention: str) -> str | None:
    """Why a forward is not the same work for every pack, whatever the device; None where it is.

    Args:
        attention: as ``--attention``.
    """
    if tagger.block is None:
        return "transformers' own forward may read the batch on the host"
    if tagger.mixture is not None:
        return "every sentence of a one-shot draws its own string"
    if attention == "eager":
        return "--attention eager reads the lengths on the host"
    rotary = getattr(tagger.decoder.rotary_emb, "rope_type", "default")
    if rotary not in _ROTARY:
        return f"rotary embeddings of type {rotary} look at the batch on the host"
    return None


class FixedPack:
    """Memory for the packs of one room.

    Args:
        like: a pack of the room; nothing is copied yet.
    """

    def __init__(self, like: Pack, room: Room, device: torch.device) -> None:
        self._room = room
        self._pack = like.mapped(lambda own: torch.empty_like(own, device=device))

    def load(self, pack: Pack) -> None:
        """Copy in what is computed next; from pinned memory without waiting."""
        for own, new in zip(self.tensors(), pack.tensors(), strict=True):
            own.copy_(new, non_blocking=True)

    def tensors(self) -> list[Tensor]:
        """As of ``Pack``."""
        return self._pack.tensors()

    def read(self) -> Pack:
        """The pack for one capture. Only its tensors say what is in it."""
        attention = self._pack.attention
        # A plan is made anew for every capture: what it derives from lengths belongs to that.
        plan = replace(
            attention.plan,
            max_seqlen=self._room.longest,
            capacity=self._pack.ids.shape[1],
            lengths=None,
            cache={},
        )
        return replace(self._pack, attention=replace(attention, plan=plan))


class Rooms(Generic[C]):
    """What was captured for each room, a limited number of them.

    Args:
        say: told when a room is given up or captures are.
        most: rooms that are kept.
    """

    def __init__(self, say: Callable[[str], None], most: int = MOST_ROOMS) -> None:
        self._say, self._most = say, most
        # The one used last comes last.
        self._captured: dict[Room, C] = {}
        self._dropped = 0
        self.failed = False
        """A capture failed: from then on there are no rooms."""

    @property
    def kept(self) -> list[Room]:
        """Those that something is captured for, the one used last at the end."""
        return list(self._captured)

    def room(self, examples: Sequence[Sequence[Example]], budget: int) -> Room | None:
        """What a pack has to be filled up to; see ``room_for``."""
        return None if self.failed else room_for(examples, budget)

    def find(self, room: Room | None, capture: Callable[[], C]) -> C | None:
        """What was captured for a room, captured now where it is new; None where that failed."""
        if self.failed or room is None:
            return None
        found = self._captured.pop(room, None)
        if found is None:
            if len(self._captured) >= self._most:
                self._drop()
            try:
                found = capture()
            except RuntimeError as error:
                self._give_up(error)
                return None
        self._captured[room] = found
        return found

    def _drop(self) -> None:
        room = next(iter(self._captured))
        del self._captured[room]
        self._dropped += 1
        if self._dropped == 1:
            self._say(
                f"CUDA graphs: more than {self._most} sizes of batches; the one not used for "
                f"longest ({room.tokens} tokens) is captured again when it is needed"
            )

    def _give_up(self, error: RuntimeError) -> None:
        self.failed = True
        self._captured.clear()
        reason = one_line(error)
        self._say(f"CUDA graphs: off from here on, the capture failed: {reason:.200}")
