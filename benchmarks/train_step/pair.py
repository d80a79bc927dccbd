"""Ours and the padded peer from the same beginning, side by side."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from torch import nn

from benchmarks.shared.loss_curves import OURS, PEER
from benchmarks.train_step.padded_peer import build_peer, copy_adapters
from benchmarks.train_step.peer_steps import PeerUpdate, peer_updates
from benchmarks.train_step.work import Work, build_ours, optimizer_of, our_updates
from lmsl.layers.lora import trainable_parameters
from lmsl.training.loop import Update


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Ours and the peer at the same beginning; both train as they are asked for updates."""

    ours: Iterator[Update]
    peer: Iterator[PeerUpdate]
    model: nn.Module
    """The peer's."""


def pair(work: Work) -> Pair:
    """Both, with the adapters and the head of ours."""
    ours = build_ours(work)
    model = build_peer(work.base(), work.config, classes=work.classes, place=work.place)
    copy_adapters(ours.tagger, model)
    hidden = ours.tagger.head.hidden
    optimizer = optimizer_of(trainable_parameters(model), work.config, hidden)
    return Pair(
        ours=our_updates(ours, work, train=True),
        peer=peer_updates(model, work, optimizer=optimizer),
        model=model,
    )


def learnt(work: Work, seed: int, updates: int) -> dict[str, list[float]]:
    """The losses of both with one seed, which fixes first values, order and dropout."""
    both = pair(work.but(seed=(seed,)))
    return {
        OURS: [update.loss[0] for update in islice(both.ours, updates)],
        PEER: [update.loss for update in islice(both.peer, updates)],
    }
