"""How the peer is trained: batches of random sentences, padded or end to end, update by update."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import nn

from benchmarks.train_step.padded_peer import PADDED, Style
from benchmarks.train_step.work import Work
from lmsl.data.tags.vocabulary import IGNORED_ID
from lmsl.layers.lora import trainable_parameters
from lmsl.packs.examples import Example
from lmsl.training.loop import Task
from lmsl.training.schedule import draw_updates


@dataclass(frozen=True, kw_only=True)
class PeerUpdate:
    """What one update of the peer did."""

    loss: float
    grad_norm: float
    tokens: int
    """Real tokens."""


def peer_updates(
    model: nn.Module,
    work: Work,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    style: Style = PADDED,
) -> Iterator[PeerUpdate]:
    """Train on the sentences that lmsl's own loop draws, yielding after every update.

    Without an optimizer the gradients are computed, and nothing is trained.
    """
    task, config, place = work.task, work.config, work.place
    trained = list(trainable_parameters(model).values())
    padding_id = model.get_base_model().config.pad_token_id or 0  # type: ignore[operator]
    kind, autocast = place.device.type, place.autocast
    for sentences in draw_updates(len(task), config, config.seed[0]):
        batches = []
        for part in parts(sentences, work.micro):
            examples = [example for index in part for example in task.examples[index]]
            batches.append(
                lay_flat(examples, task.labels)
                if style.flat
                else collate(examples, task.labels, padding_id)
            )
        # The mean of each part counts by its words, so that it is cut by rounding alone.
        words = [int((batch["labels"] != IGNORED_ID).sum()) for batch in batches]
        losses = []
        for batch, own in zip(batches, words, strict=True):
            placed = {name: tensor.to(place.device) for name, tensor in batch.items()}
            with torch.autocast(kind, dtype=autocast, enabled=autocast is not None):
                loss = model(**placed, use_cache=False).loss * (own / sum(words))
            loss.backward()
            losses.append(loss.detach())
        norm = nn.utils.clip_grad_norm_(trained, config.max_grad_norm)
        if optimizer is not None:
            optimizer.step()
        for parameter in trained:
            parameter.grad = None
        yield PeerUpdate(
            loss=float(torch.stack(losses).sum()),
            grad_norm=float(norm),
            tokens=sum(sum(_lengths(task, index)) for index in sentences),
        )


def parts(sentences: Sequence[int], micro: int | None) -> list[Sequence[int]]:
    """An update cut into forwards of ``micro`` sentences; None leaves it whole."""
    size = micro or len(sentences)
    return [sentences[first : first + size] for first in range(0, len(sentences), size)]


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


def padding_share(work: Work, updates: int) -> float:
    """The share of padding in what the peer computes in its first ``updates`` updates."""
    real, computed, task = 0, 0, work.task
    for sentences in islice(draw_updates(len(task), work.config, work.config.seed[0]), updates):
        for part in parts(sentences, work.micro):
            lengths = [length for index in part for length in _lengths(task, index)]
            real += sum(lengths)
            computed += len(lengths) * max(lengths)
    return 1.0 - real / computed


def _lengths(task: Task, sentence: int) -> list[int]:
    return [len(example.ids) for example in task.examples[sentence]]
