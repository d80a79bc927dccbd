"""Attention of packs of short sequences on a CPU, as batched matrix products.

torch's fused attention walks over sequences and heads and multiplies small matrices one by one.
For sentences the calls cost more than the arithmetic, and a second thread hardly helps. Here the
sequences of a group of ``groups`` are one batched product a step. Rows are gathered head by
head, so that every product reads and writes memory in order; query heads that share a key head are
stacked, so that nothing is repeated for them and the product itself sums the gradients of their
keys and values. The weights are kept for the backward: ``heads * length`` numbers a token, which
is why only short sequences come here.

Shapes: H query heads, K key heads, D features of a head; a group has C sequences of L tokens.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lmsl_kernels.sdpa.groups import HeadRows, Layout

LONGEST = 256
"""Beyond this length one thread is as fast with torch's own, which keeps less."""


def served(q: Tensor, layout: Layout) -> bool:
    """Whether a pack of this layout is computed here."""
    return (
        q.device.type == "cpu"
        # Rounded weights would be kept, and products in half precision are slow in batches.
        and q.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and max(group.length for group in layout.groups) <= LONGEST
    )


def short_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    layout: Layout,
    masks: list[Tensor | None],
    scale: float,
) -> Tensor:
    """``softmax(scale * q k^T + mask) v`` of [tokens, H, D] and twice [tokens, K, D].

    Args:
        masks: of each group, additive, to be broadcast to [C, H, L, L]; every row has a finite
            entry.
    """
    # Made here: what torch.compile traces through a function may not leave anything behind.
    rows = [layout.head_rows(x.shape[1], _apart(x)) for x in (q, k, v)]
    rows.append(layout.head_rows(q.shape[1], q.shape[1]))
    return _ShortAttention.apply(q, k, v, layout, rows, masks, scale)


class _ShortAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        layout: Layout,
        rows: list[HeadRows],
        masks: list[Tensor | None],
        scale: float,
    ) -> Tensor:
        ctx.layout, ctx.rows, ctx.scale = layout, rows, scale
        heads, key_heads = rows[0].heads, rows[1].heads
        q, k, v = (_to_slots(x, of) for x, of in zip((q, k, v), rows[:3], strict=True))
        out, weights = torch.empty_like(q), []
        parts = [_batches(x, layout, key_heads, heads) for x in (q, out)]
        parts += [_batches(x, layout, key_heads, key_heads) for x in (k, v)]
        for group, mask, group_q, group_out, group_k, group_v in zip(
            layout.groups, masks, *parts, strict=True
        ):
            scores = _scaled_product(group_q, group_k.transpose(1, 2), scale)
            if mask is not None:
                scores.view(group.count, heads, group.length, group.length).add_(mask)
            weights.append(scores.softmax(-1))
            torch.bmm(weights[-1], group_v, out=group_out)
        ctx.save_for_backward(q, k, v, *weights)
        return _to_tokens(out, layout, rows[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        layout, scale, (*of_each, of_grad) = ctx.layout, ctx.scale, ctx.rows
        heads, key_heads = of_each[0].heads, of_each[1].heads
        grad = _to_slots(grad, of_grad).index_fill_(0, of_grad.padding, 0.0)
        grads = [torch.empty_like(x) for x in (q, k, v)]
        parts = [_batches(x, layout, key_heads, heads) for x in (q, grad, grads[0])]
        parts += [_batches(x, layout, key_heads, key_heads) for x in (k, v, *grads[1:])]
        for weights, group_q, group_grad, grad_q, group_k, group_v, grad_k, grad_v in zip(
            kept, *parts, strict=True
        ):
            torch.bmm(weights.transpose(1, 2), group_grad, out=grad_v)
            grad_weights = torch.bmm(group_grad, group_v.transpose(1, 2))
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            _scaled_product(grad_scores, group_k, scale, out=grad_q)
            _scaled_product(grad_scores.transpose(1, 2), group_q, scale, out=grad_k)
        back = (_to_tokens(x, layout, of) for x, of in zip(grads, of_each, strict=True))
        return *back, None, None, None, None


def _apart(tokens: Tensor) -> int:
    """Rows of D features from a token to the next, where its heads are neighbours in memory.

    Queries, keys and values are often views of one product: they need no copy.
    """
    count, heads, features = tokens.shape
    step = tokens.stride(0)
    together = tokens.stride()[1:] == (features, 1) and step % features == 0
    return step // features if together and step and count > 1 else heads


def _to_slots(tokens: Tensor, rows: HeadRows) -> Tensor:
    """[tokens, heads, D] to [slots * heads, D], where a sequence has one head after the other."""
    count, heads, features = tokens.shape
    if rows.apart == heads:
        lines = tokens.reshape(-1, features)
    else:
        lines = tokens.as_strided(((count - 1) * rows.apart + heads, features), (features, 1))
    return lines.index_select(0, rows.of_slots)


def _to_tokens(slots: Tensor, layout: Layout, rows: HeadRows) -> Tensor:
    """[slots * heads, D] back to [tokens, heads, D]; rows of no sequence are 0."""
    tokens = slots.index_select(0, rows.of_tokens).view(-1, rows.heads, slots.shape[1])
    if layout.outside is not None:
        tokens.masked_fill_(layout.outside[:, None, None], 0.0)
    return tokens


def _batches(slots: Tensor, layout: Layout, key_heads: int, heads: int) -> list[Tensor]:
    """The slots of each group, [C * K, heads of a key head * L, D]."""
    parts = slots.split([group.count * group.length * heads for group in layout.groups])
    return [
        part.view(group.count * key_heads, heads // key_heads * group.length, slots.shape[1])
        for part, group in zip(parts, layout.groups, strict=True)
    ]


def _scaled_product(
    left: Tensor, right: Tensor, scale: float, out: Tensor | None = None
) -> Tensor:
    """``scale * left @ right``; the scale costs nothing inside the product."""
    nothing = left.new_empty(1, 1, 1)
    return torch.baddbmm(nothing, left, right, beta=0.0, alpha=scale, out=out)
