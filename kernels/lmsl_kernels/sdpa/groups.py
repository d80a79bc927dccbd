"""Packs as a few padded groups: the indices and masks behind the ``sdpa`` implementation.

Torch's own attention wants rectangles. One rectangle as wide as the longest sentence wastes work
on padding, one call per sentence wastes calls. Sentences are therefore sorted by length and cut
into groups where a small cost model says that another call costs less than the padding it saves.

The padding of a sentence repeats its own last token, so a group never mixes numbers of two
sentences, not even as 0 * nan. Padding keys are hidden by the mask (or lie behind every real query
of a causal layer), padding queries see their own sentence alone, and nothing reads their output.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lmsl_kernels.plan import PackPlan, sent

# What one more call costs, in query-key pairs, and what a token costs beside its pairs. Measured
# forward + backward on one core with 6 query heads of 32; on a GPU a call is worth far more.
CALL_COST = {"cpu": 2_000}
CALL_COST_ELSEWHERE = 200_000
TOKEN_COST = 18
WIDTH_STEP = 8


@dataclass(frozen=True, eq=False, kw_only=True)
class Group:
    """Sequences padded to one length. Masks are made on first use and serve all layers."""

    length: int
    count: int
    sequences: Tensor
    """int64 [count]: which sequences of the pack."""
    lengths: Tensor | None
    """int64 [count]: real tokens of each, ``None`` when nothing is padding."""
    masks: dict[tuple[bool, int | None, torch.dtype], Tensor] = field(default_factory=dict)

    def mask(self, causal: bool, window: int | None, like: Tensor) -> Tensor:
        """Additive mask [count or 1, 1, length or 1, length]: 0 where visible, else -inf."""
        key = (causal, window, like.dtype)
        if key not in self.masks:
            visible = self._visible(causal, window, like.device)
            mask = torch.zeros_like(visible, dtype=like.dtype)
            self.masks[key] = mask.masked_fill_(~visible, float("-inf"))
        return self.masks[key]

    def needs_mask(self, causal: bool, window: int | None) -> bool:
        """Whether a flag to torch's attention is not enough.

        Padding comes last, so no query of a causal layer sees it.
        """
        if window is not None and window < self.length:
            return True
        return not causal and self.lengths is not None

    def _visible(self, causal: bool, window: int | None, device: torch.device) -> Tensor:
        position = torch.arange(self.length, device=device)
        row, key = position[None, :, None], position[None, None, :]
        visible = torch.ones(1, 1, self.length, dtype=torch.bool, device=device)
        if self.lengths is not None and not causal:
            # An empty sequence, possible where the host does not know the lengths, keeps one
            # visible key: its rows are never read, but nan would slow some kernels down.
            last = (self.lengths - 1).clamp(min=0)[:, None, None]
            row = torch.minimum(row, last)
            visible = visible & (key <= last)
        if causal:
            visible = visible & (key <= row)
        if window is not None:
            visible = visible & ((row - key).abs() < window)
        return visible.unsqueeze(1)


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadRows:
    """How [tokens, heads] become slots where each sequence has one head after the other."""

    heads: int
    apart: int
    """Rows from the first head of a token to that of the next."""
    of_slots: Tensor
    """int64 [slots * heads]: which row of a head of a token each of them reads."""
    of_tokens: Tensor
    """int64 [tokens * heads]: which of the slots * heads rows each comes back from."""
    padding: Tensor
    """int64: which of the slots * heads rows are padding."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Layout:
    """How token rows become group slots and come back."""

    groups: tuple[Group, ...]
    token_of_slot: Tensor
    """int64 [slots]: the row each slot reads; padding reads its own sentence's last row."""
    slot_of_token: Tensor
    """int64 [tokens]: the slot each row comes back from."""
    padding: Tensor | None
    """bool [slots]: slots that are padding, ``None`` when there are none."""
    outside: Tensor | None
    """bool [tokens]: rows of no sequence, ``None`` when there are none."""
    identity: bool
    """Slots are rows: nothing to move."""
    by_head: dict[tuple[int, int], HeadRows] = field(default_factory=dict)

    @property
    def slots(self) -> int:
        return self.token_of_slot.numel()

    def head_rows(self, heads: int, apart: int) -> HeadRows:
        """For a number of heads, made on first use.

        Args:
            apart: rows of a head from a token to the next: ``heads``, or more in a joint product.
        """
        key = (heads, apart)
        if key not in self.by_head:
            head = torch.arange(heads, device=self.token_of_slot.device)
            rows = self.token_of_slot[:, None] * apart + head
            number = torch.arange(rows.numel(), device=rows.device)
            back = torch.empty_like(rows)
            back.view(-1)[self._head_first(number.view_as(rows))] = number
            padding = head[:0] if self.padding is None else back[self.padding].flatten()
            self.by_head[key] = HeadRows(
                heads=heads,
                apart=apart,
                of_slots=self._head_first(rows),
                of_tokens=back.index_select(0, self.slot_of_token).flatten(),
                padding=padding,
            )
        return self.by_head[key]

    def _head_first(self, rows: Tensor) -> Tensor:
        """[slots, heads] in the order of group, sequence, head, token."""
        parts = rows.split([group.count * group.length for group in self.groups])
        return torch.cat(
            [
                part.unflatten(0, (group.count, group.length)).transpose(1, 2).flatten()
                for part, group in zip(parts, self.groups, strict=True)
            ]
        )


def layout_of(plan: PackPlan, tokens: int) -> Layout:
    """The layout of ``plan`` for ``tokens`` rows, made on first use."""
    key = ("layout", tokens)
    if key not in plan.cache:
        known = plan.lengths is not None
        plan.cache[key] = _host_layout(plan, tokens) if known else _device_layout(plan, tokens)
    return plan.cache[key]


def cut_by_length(lengths: list[int], call_cost: int) -> list[int]:
    """Widths of the groups, increasing, so that calls and padding together cost least."""
    counts: dict[int, int] = {}
    for length in lengths:
        width = -(-length // WIDTH_STEP) * WIDTH_STEP
        counts[width] = counts.get(width, 0) + 1
    widths = sorted(counts)
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end, width in enumerate(widths, start=1):
        # A group of widths start..end - 1 is padded to the widest.
        inside, options = 0, []
        for start in range(end - 1, -1, -1):
            inside += counts[widths[start]]
            cost = best[start][0] + call_cost + inside * width * (width + TOKEN_COST)
            options.append((cost, start))
        best.append(min(options))
    chosen, end = [], len(widths)
    while end:
        chosen.append(widths[end - 1])
        end = best[end][1]
    return chosen[::-1]


def _host_layout(plan: PackPlan, tokens: int) -> Layout:
    assert plan.lengths is not None
    device = plan.cu_seqlens.device
    lengths = torch.tensor(plan.lengths, dtype=torch.int64)
    starts = lengths.cumsum(0) - lengths
    real = [length for length in plan.lengths if length]
    call_cost = CALL_COST.get(device.type, CALL_COST_ELSEWHERE)
    groups, rows, padding = [], [], []
    above = 0
    for width in cut_by_length(real, call_cost):
        members = torch.nonzero((lengths > above) & (lengths <= width)).flatten()
        above = width
        own = lengths[members]
        width = int(own.max())
        position = torch.arange(width)
        rows.append((starts[members, None] + position.minimum(own[:, None] - 1)).flatten())
        padding.append((position >= own[:, None]).flatten())
        ragged = bool(padding[-1].any())
        groups.append(
            Group(
                length=width,
                count=len(members),
                sequences=sent(members, device),
                lengths=sent(own, device) if ragged else None,
            )
        )
    empty = torch.empty(0, dtype=torch.int64)
    token_of_slot = torch.cat(rows) if rows else empty
    is_padding = torch.cat(padding) if padding else empty.bool()
    slot_of_token = torch.zeros(tokens, dtype=torch.int64)
    slot_of_token[token_of_slot[~is_padding]] = torch.nonzero(~is_padding).flatten()
    total = sum(real)
    return Layout(
        groups=tuple(groups),
        token_of_slot=sent(token_of_slot, device),
        slot_of_token=sent(slot_of_token, device),
        padding=sent(is_padding, device) if bool(is_padding.any()) else None,
        outside=sent(torch.arange(tokens) >= total, device) if tokens > total else None,
        identity=tokens == total and torch.equal(token_of_slot, torch.arange(total)),
    )


def _device_layout(plan: PackPlan, tokens: int) -> Layout:
    """One group as wide as ``max_seqlen``, from device arithmetic alone: nothing is read back."""
    starts = plan.cu_seqlens[:-1].long()
    lengths = plan.cu_seqlens[1:].long() - starts
    position = torch.arange(plan.max_seqlen, device=starts.device)
    rows = starts[:, None] + position.minimum(lengths[:, None] - 1)
    token = torch.arange(tokens, device=starts.device)
    sequence = torch.searchsorted(plan.cu_seqlens[1:].long(), token, right=True)
    outside = sequence >= plan.sequences
    sequence = sequence.clamp(max=max(plan.sequences - 1, 0))
    slot = sequence * plan.max_seqlen + token - starts[sequence] if plan.sequences else token
    group = Group(
        length=plan.max_seqlen,
        count=plan.sequences,
        sequences=torch.arange(plan.sequences, device=starts.device),
        lengths=lengths,
    )
    return Layout(
        groups=(group,),
        token_of_slot=rows.flatten().clamp(0, max(tokens - 1, 0)),
        slot_of_token=torch.where(outside, 0, slot),
        padding=(position >= lengths[:, None]).flatten(),
        outside=outside,
        identity=False,
    )
