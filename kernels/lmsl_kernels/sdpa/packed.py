"""``impl="sdpa"``: packs through torch's own operations, on any device torch has.

Rows are gathered into the padded groups of ``groups``, every group is one call to
``torch.nn.functional.scaled_dot_product_attention``, and the outputs are gathered back. The two
gathers are each other's transpose, which autograd cannot know: as plain indexing their backward
would be a scatter-add; as a pair of functions it is the other gather, faster and deterministic.
Short sequences on a CPU are multiplied in batches instead (``short``).

Torch's kernels have no softcap, so with one the group is computed step by step, scores in memory.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lmsl_kernels.plan import PackPlan
from lmsl_kernels.sdpa.groups import Group, Layout, layout_of
from lmsl_kernels.sdpa.short import served, short_attention


def packed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    plan: PackPlan,
    is_causal: bool | Tensor,
    window: int | None,
    softcap: float | None,
    scale: float,
) -> Tensor:
    """Attention of a pack, [tokens, heads, head_dim]; see ``lmsl_kernels.attention``."""
    layout = layout_of(plan, q.shape[0])
    if layout.slots == 0 or q.numel() == 0:
        return _nothing(q, k, v)
    if softcap is None and served(q, layout):
        masks = [
            _short_mask(group, _flags(is_causal, group), window, q) for group in layout.groups
        ]
        return short_attention(q, k, v, layout=layout, masks=masks, scale=scale)
    return grouped_attention(
        q, k, v, layout=layout, is_causal=is_causal, window=window, softcap=softcap, scale=scale
    )


def grouped_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    layout: Layout,
    is_causal: bool | Tensor,
    window: int | None,
    softcap: float | None,
    scale: float,
) -> Tensor:
    """The same by one call of torch's attention for each group."""
    parts = [
        _split(x if layout.identity else _ToSlots.apply(x, layout), layout) for x in (q, k, v)
    ]
    outputs = []
    for group, group_q, group_k, group_v in zip(layout.groups, *parts, strict=True):
        flags = _flags(is_causal, group)
        out = _group_attention(group_q, group_k, group_v, group, flags, window, softcap, scale)
        outputs.append(out.transpose(1, 2).flatten(0, 1))
    slots = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return slots if layout.identity else _ToTokens.apply(slots, layout)


def dense_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    is_causal: bool | Tensor,
    window: int | None,
    softcap: float | None,
    scale: float,
) -> Tensor:
    """Attention of a rectangle, [batch, seqlen, heads, head_dim]."""
    if q.numel() == 0:
        return _nothing(q, k, v)
    batch, length = q.shape[:2]
    group = Group(
        length=length,
        count=batch,
        sequences=torch.empty(0, dtype=torch.int64),
        lengths=None,
    )
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    out = _group_attention(q, k, v, group, is_causal, window, softcap, scale)
    return out.transpose(1, 2)


def _group_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    group: Group,
    is_causal: bool | Tensor,
    window: int | None,
    softcap: float | None,
    scale: float,
) -> Tensor:
    """One rectangle, [count, heads, length, head_dim]; ``is_causal`` may be one flag a row."""
    mask = None
    if isinstance(is_causal, Tensor):
        mask = _mixed_mask(group, is_causal, window, q)
    elif softcap is not None or group.needs_mask(is_causal, window):
        mask = group.mask(is_causal, window, q)
    if softcap is not None:
        return _softcapped(q, k, v, mask, softcap, scale)
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        is_causal=is_causal is True and mask is None,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def _short_mask(
    group: Group, is_causal: bool | Tensor, window: int | None, like: Tensor
) -> Tensor | None:
    if isinstance(is_causal, Tensor):
        return _mixed_mask(group, is_causal, window, like)
    if is_causal or group.needs_mask(is_causal, window):
        return group.mask(is_causal, window, like)
    return None


def _mixed_mask(group: Group, is_causal: Tensor, window: int | None, like: Tensor) -> Tensor:
    each = is_causal[:, None, None, None]
    return torch.where(each, group.mask(True, window, like), group.mask(False, window, like))


def _flags(is_causal: bool | Tensor, group: Group) -> bool | Tensor:
    return is_causal if isinstance(is_causal, bool) else is_causal[group.sequences]


def _softcapped(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, softcap: float, scale: float
) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = softcap * torch.tanh(q @ k.transpose(-1, -2) * (scale / softcap))
    half = scores.dtype in (torch.float16, torch.bfloat16)
    scores = scores if mask is None else scores + mask
    weights = scores.softmax(dim=-1, dtype=torch.float32 if half else None)
    return weights.to(v.dtype) @ v


def _split(slots: Tensor, layout: Layout) -> list[Tensor]:
    """[slots, heads, head_dim] as one [count, heads, length, head_dim] view a group."""
    sizes = [group.count * group.length for group in layout.groups]
    parts = [slots] if len(sizes) == 1 else slots.split(sizes)
    return [
        part.unflatten(0, (group.count, group.length)).transpose(1, 2)
        for part, group in zip(parts, layout.groups, strict=True)
    ]


def _nothing(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Zeros shaped like ``q`` that still give zero gradients to all three, nan or not."""
    unread = [torch.where(torch.zeros_like(x, dtype=torch.bool), x, 0.0) for x in (q, k, v)]
    return unread[0] + unread[1].sum() + unread[2].sum()


def _gather_slots(tokens: Tensor, layout: Layout, hide_padding: bool) -> Tensor:
    slots = tokens.index_select(0, layout.token_of_slot)
    if hide_padding and layout.padding is not None:
        slots.masked_fill_(layout.padding[:, None, None], 0.0)
    return slots


def _gather_tokens(slots: Tensor, layout: Layout) -> Tensor:
    tokens = slots.index_select(0, layout.slot_of_token)
    if layout.outside is not None:
        tokens.masked_fill_(layout.outside[:, None, None], 0.0)
    return tokens


class _ToSlots(torch.autograd.Function):
    """Rows to slots. Padding slots repeat a row; their gradients are 0 and are not collected."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        return _gather_slots(tokens, layout, hide_padding=False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _ToTokens.apply(grads[0], ctx.layout), None


class _ToTokens(torch.autograd.Function):
    """Slots to rows. Rows of no sequence are 0, and padding slots get no gradient."""

    @staticmethod
    def forward(ctx: Any, slots: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        return _gather_tokens(slots, layout)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _gather_slots(grads[0], ctx.layout, hide_padding=True), None
