"""How the peer is trained: batches of random sentences, padded or end to end, update by update."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import nn

from benchmarks.padded_peer import PADDED, Style
from lmsl.config import Config
from lmsl.examples import Example
from lmsl.loop import Task, draw_updates
from lmsl.lora import trainable_parameters
from lmsl.stack import Place
from lmsl.vocabulary import IGNORED_ID


@dataclass(frozen=True, kw_only=True)
class PeerUpdate:
    """What one update of the peer did."""

    loss: float
    grad_norm: float
    tokens: int
    """Real tokens."""


def peer_updates(
    model: nn.Module,
    task: Task,
    config: Config,
    *,
    optimizer: torch.optim.Optimizer | None,
    place: Place,
    style: Style = PADDED,
) -> Iterator[PeerUpdate]:
    """Train on the sentences that lmsl's own loop draws, yielding after every update.

    Without an optimizer the gradients are computed, and nothing is trained.
    """
    trained = list(trainable_parameters(model).values())
    padding_id = model.get_base_model().config.pad_token_id or 0  # type: ignore[operator]
    kind, autocast = place.device.type, place.autocast
    for sentences in draw_updates(len(task), config, config.seed[0]):
        examples = [example for index in sentences for example in task.examples[index]]
        batch = (
            lay_flat(examples, task.labels)
            if style.flat
            else collate(examples, task.labels, padding_id)
        )
        placed = {name: tensor.to(place.device) for name, tensor in batch.items()}
        with torch.autocast(kind, dtype=autocast, enabled=autocast is not None):
            loss = model(**placed, use_cache=False).loss
        loss.backward()
        norm = nn.utils.clip_grad_norm_(trained, config.max_grad_norm)
        if optimizer is not None:
            optimizer.step()
        for parameter in trained:
            parameter.grad = None
        yield PeerUpdate(
            loss=float(loss.detach()),
            grad_norm=float(norm),
            tokens=sum(len(example.ids) for example in examples),
        )


def lay_flat(
    examples: Sequence[Example], labels: Sequence[Sequence[int]]
) -> dict[str, torch.Tensor]:
    """Examples end to end in one row; positions begin anew in each."""
    rows = [collate([example], labels, 0) for example in examples]
    flat = {name: torch.cat([row[name] for row in rows], 1) for name in ("input_ids", "labels")}
    lengths = [torch.arange(len(example.ids)) for example in examples]
    return flat | {"position_ids": torch.cat(lengths)[None]}


def collate(
    examples: Sequence[Example], labels: Sequence[Sequence[int]], padding_id: int
) -> dict[str, torch.Tensor]:
    """Examples padded on the right to the longest, labels at the last sub-word of their words."""
    shape = (len(examples), max(len(example.ids) for example in examples))
    ids = np.full(shape, padding_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    targets = np.full(shape, IGNORED_ID, dtype=np.int64)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = example.ids
        mask[row, : len(example.ids)] = 1
        first = example.first_word
        own = labels[example.sentence][first : first + len(example.starts)]
        targets[row, example.ends - 1] = own
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
        "labels": torch.from_numpy(targets),
    }


def padding_share(task: Task, config: Config, *, updates: int) -> float:
    """The share of padding in what the peer computes in its first ``updates`` updates."""
    real = computed = 0
    for sentences in islice(draw_updates(len(task), config, config.seed[0]), updates):
        lengths = [len(example.ids) for index in sentences for example in task.examples[index]]
        real += sum(lengths)
        computed += len(lengths) * max(lengths)
    return 1.0 - real / computed
