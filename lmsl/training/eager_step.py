"""One micro-batch of an update: forward, loss and backward, each time anew.

``captured_step`` computes the same over memory that stays where it is, so that it can be replayed.
The loop is handed one or the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from lmsl.config.config import Config
from lmsl.data.tags.vocabulary import IGNORED_ID
from lmsl.layers.dropout import DropoutClock
from lmsl.packs.examples import Example
from lmsl.packs.packing import Pack, Room
from lmsl.tagger.tagger import Tagger


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """A part of an update that is computed at once."""

    pack: Pack
    """On the host, pinned where it will be sent to a GPU."""
    room: Room | None
    """What the pack was filled up to."""
    step: int
    """Number of the update, from 0."""
    token_offset: tuple[int, ...]
    """Of each run, as for ``DropoutClock.set``."""
    word_offset: tuple[int, ...]


class MicroStep(Protocol):
    """How micro-batches are computed."""

    def room(self, examples: Sequence[Sequence[Example]]) -> Room | None:
        """What a pack of these examples, one list for each run, has to be filled up to."""
        ...

    def begin_update(self) -> None:
        """Called before the micro-batches of every update; the parameters have no gradients."""
        ...

    def __call__(self, batch: MicroBatch, weights: Tensor) -> Tensor:
        """Add to the gradients; returns the losses [R].

        The losses are summed over words and weighted by ``weights`` [R], and are only good until
        the next call.
        """
        ...


class EagerStep:
    """Every operation launched by the host, for packs of any size.

    Args:
        tagger: in train mode when it is called.
        clock: of the tagger's runs.
        config: kind of loss, the share of the gradients that is kept, and the budget of a pack.
        autocast: what the forward computes in, None for float32.
    """

    def __init__(
        self,
        tagger: Tagger,
        clock: DropoutClock,
        config: Config,
        device: torch.device,
        autocast: torch.dtype | None,
    ) -> None:
        self.tagger, self.clock, self.device = tagger, clock, device
        self._loss, self._share, self._autocast = config.loss, config.keep_every, autocast
        self.budget = config.tokens_per_batch

    def room(self, examples: Sequence[Sequence[Example]]) -> Room | None:
        return None

    def begin_update(self) -> None:
        """Nothing: the first backward makes new gradients."""

    def __call__(self, batch: MicroBatch, weights: Tensor) -> Tensor:
        self.set_clock(batch)
        losses = self.losses(batch.pack.to(self.device), weights)
        self.objective(losses).backward()
        return losses.detach()

    def set_clock(self, batch: MicroBatch) -> None:
        self.clock.set(
            step=batch.step, token_offset=batch.token_offset, word_offset=batch.word_offset
        )

    def losses(self, pack: Pack, weights: Tensor) -> Tensor:
        """Of each run, [R], for a pack on the device."""
        on = self._autocast is not None
        with torch.autocast(self.device.type, dtype=self._autocast, enabled=on):
            logits = self.tagger(pack)
        return word_losses(logits, pack, self._loss) * weights

    def objective(self, losses: Tensor) -> Tensor:
        """What is differentiated: a run has a part in its own loss only."""
        return losses.sum() / self._share


def word_losses(logits: Tensor, batch: Pack, kind: str) -> Tensor:
    """The loss summed over the labelled words of each run: [R, W, C] to [R]."""
    ce = functional.cross_entropy(
        logits.flatten(0, 1),
        batch.labels.flatten(),
        ignore_index=IGNORED_ID,
        reduction="none",
    ).view_as(batch.labels)
    if kind == "focal":
        # Lin et al. 2017, arXiv 1708.02002, gamma 2: well-classified words count little.
        ce = (1.0 - torch.exp(-ce)) ** 2 * ce
    return ce.sum(1)
