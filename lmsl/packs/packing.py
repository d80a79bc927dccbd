"""From examples to what one forward sees: sentences laid end to end, no padding between them.

A pack serves a stack of R runs at once: the tokens of run 0, then those of run 1, and so on, each
filled to the same number T_cap with dummy sequences no longer than the longest real one, so that
LoRA and head can view the whole as ``[R, T_cap, hidden]``. With one run there is no filling.
Words are read by their token ranges, not by a mask over tokens: the head sees words only.

A pack is made on the host and then sent. Given a ``Room``, it is filled up to sizes that say
nothing of what is in it, which changes results by rounding alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from lmsl.data.tags.vocabulary import IGNORED_ID
from lmsl.device import sent
from lmsl.mask.attention import PackedAttention, pack_attention
from lmsl.mask.bits import Bits
from lmsl.mask.flags import pack_flags
from lmsl.packs.examples import Example

_HOST = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Room:
    """The sizes of a pack, where they are not those of its examples."""

    tokens: int
    """Of each run."""
    words: int
    """Of each run."""
    sequences: int
    """Of all runs together, filling and empty ones included."""
    longest: int
    """Tokens of a sequence, at most."""


@dataclass(frozen=True, kw_only=True)
class Pack:
    """One micro-batch: R runs of T_cap tokens, of which W_cap words a run are read."""

    ids: torch.Tensor
    """int64 [1, R * T_cap]."""
    positions: torch.Tensor
    """int64 [1, R * T_cap], from 0 in every sequence."""
    attention: PackedAttention
    starts: torch.Tensor
    """int64 [R, W_cap]: first token of each word, counted from the run's first token."""
    ends: torch.Tensor
    """int64 [R, W_cap]: one past its last token."""
    labels: torch.Tensor
    """int64 [R, W_cap]; IGNORED_ID for words without a label and for filling."""
    tokens: tuple[int, ...]
    """Real tokens of each run."""
    words: tuple[int, ...]
    """Real words of each run."""

    @property
    def runs(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device) -> "Pack":
        """On a device, for which the host does not wait."""
        return self if self.ids.device == device else self.mapped(lambda own: sent(own, device))

    def pinned(self, device: torch.device) -> "Pack":
        """Ready to be sent to a device: in pinned memory where that is a GPU."""
        return self.mapped(torch.Tensor.pin_memory) if device.type == "cuda" else self

    def mapped(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Pack":
        """With every tensor changed; what layers share they share again."""
        changed: dict[int, torch.Tensor] = {}
        for tensor in self.tensors():
            changed[id(tensor)] = change(tensor)
        flags, plan = self.attention.is_causal, self.attention.plan
        if flags is not None:
            flags = tuple(f if isinstance(f, bool) else changed[id(f)] for f in flags)
        plan = replace(plan, cu_seqlens=changed[id(plan.cu_seqlens)], cache={})
        return replace(
            self,
            ids=changed[id(self.ids)],
            positions=changed[id(self.positions)],
            starts=changed[id(self.starts)],
            ends=changed[id(self.ends)],
            labels=changed[id(self.labels)],
            attention=PackedAttention(plan=plan, is_causal=flags),
        )

    def tensors(self) -> list[torch.Tensor]:
        """Everything that a forward and its loss read, each tensor once, in a fixed order."""
        flags = self.attention.is_causal
        found = [self.ids, self.positions, self.starts, self.ends, self.labels]
        found.append(self.attention.cu_seqlens)
        found += [f for f in flags or () if isinstance(f, torch.Tensor)]
        return list({id(tensor): tensor for tensor in found}.values())


def pack(
    examples: Sequence[Sequence[Example]],
    labels: Sequence[Sequence[Sequence[int]]] | None,
    device: torch.device,
    bits: Bits | None = None,
    drawn: Bits | None = None,
    room: Room | None = None,
) -> Pack:
    """Lay the examples of each run end to end.

    Args:
        examples: one list for each run.
        labels: for each run, the label ids of every sentence of its data set, or None.
        device: where the tensors go.
        bits: which layers each run unmasks, where the runs differ.
        drawn: which layers each example of the only run unmasks, where they differ.
        room: sizes to be filled up to; they must suffice.
    """
    tokens = tuple(sum(len(example.ids) for example in own) for own in examples)
    words = tuple(sum(len(example.starts) for example in own) for own in examples)
    longest = max((len(example.ids) for own in examples for example in own), default=1)
    size = room or Room(tokens=max(tokens), words=max(words), sequences=0, longest=longest)
    assert max(tokens) <= size.tokens and max(words) <= size.words, "a pack beyond its room"
    assert longest <= size.longest, "a sequence beyond its room"

    ids = np.zeros((len(examples), size.tokens), dtype=np.int64)
    starts = np.zeros((len(examples), size.words), dtype=np.int64)
    ends = np.ones_like(starts)
    targets = np.full_like(starts, IGNORED_ID)
    for run, own in enumerate(examples):
        firsts = np.cumsum([0, *(len(example.ids) for example in own)])
        if own:
            ids[run, : tokens[run]] = np.concatenate([example.ids for example in own])
            starts[run, : words[run]] = _joined([e.starts for e in own], firsts)
            ends[run, : words[run]] = _joined([e.ends for e in own], firsts)
        if labels is not None:
            targets[run, : words[run]] = [
                label for example in own for label in _labels_of(example, labels[run])
            ]
    lengths = _sequence_lengths(examples, tokens, size)
    every = [length for own in lengths for length in own]

    flags = None if bits is None else pack_flags(bits, [len(own) for own in lengths], _HOST)
    if drawn is not None:
        assert len(examples) == 1 and bits is None and room is None, "only a run alone draws"
        flags = pack_flags(drawn, [1] * len(drawn), _HOST)
    made = Pack(
        ids=torch.from_numpy(ids.reshape(1, -1)),
        positions=torch.from_numpy(_positions(every).reshape(1, -1)),
        attention=pack_attention(every, _HOST, is_causal=flags),
        starts=torch.from_numpy(starts),
        ends=torch.from_numpy(ends),
        labels=torch.from_numpy(targets),
        tokens=tokens,
        words=words,
    )
    return made.to(device)


def under_budget(examples: Sequence[Example], tokens: int) -> Iterator[Sequence[Example]]:
    """Cut examples, in order, into groups of at most ``tokens`` tokens (or one example each)."""
    first = total = 0
    for index, example in enumerate(examples):
        if index > first and total + len(example.ids) > tokens:
            yield examples[first:index]
            first, total = index, 0
        total += len(example.ids)
    if first < len(examples):
        yield examples[first:]


def _joined(arrays: list[np.ndarray], shifts: np.ndarray) -> np.ndarray:
    return np.concatenate([array + shift for array, shift in zip(arrays, shifts, strict=False)])


def _labels_of(example: Example, labels: Sequence[Sequence[int]]) -> Sequence[int]:
    first = example.first_word
    return labels[example.sentence][first : first + len(example.starts)]


def _sequence_lengths(
    examples: Sequence[Sequence[Example]], tokens: Sequence[int], size: Room
) -> list[list[int]]:
    """The lengths of all sequences of each run: its examples, filling, and empty ones behind the
    last run where the room has more."""
    lengths = [
        [*(len(example.ids) for example in own), *_filling(size.tokens - real, size.longest)]
        for own, real in zip(examples, tokens, strict=True)
    ]
    empty = size.sequences - sum(map(len, lengths))
    assert empty >= 0 or size.sequences == 0, "more sequences than their room"
    lengths[-1] += [0] * empty
    return lengths


def _positions(lengths: Sequence[int]) -> np.ndarray:
    """From 0 in every sequence."""
    return np.concatenate([np.arange(length) for length in lengths] or [np.zeros(0, np.int64)])


def _filling(tokens: int, longest: int) -> list[int]:
    """Lengths of dummy sequences that fill ``tokens`` tokens, none longer than ``longest``."""
    whole, rest = divmod(tokens, longest)
    return [longest] * whole + ([rest] if rest else [])
