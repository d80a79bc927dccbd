"""The beginning of a layer up to its attention, as one step: norm, projections, rotation.

    queries, keys, values = qkv(norm(hidden))
    queries, keys = rotate(queries), rotate(keys)        # in Qwen3 after a norm over each head

Kept for the backward: ``hidden``, one number a row, and what the adapters need; with norms over
heads also queries and keys.

Shapes: N rows, H hidden features.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lmsl.layers.fused.linear import FusedLinear
from lmsl.layers.fused.ops import LayerOps
from lmsl.layers.fused.parts import parts, runs_together


class Front:
    """Norm and projections.

    Args:
        norm: module with ``weight`` and ``variance_epsilon``.
        qkv: query, key and value projections.
        head_dim: features of a head.
        head_norms: norms over each head of queries and of keys, or None twice.
        ops: who computes norms and rotation.
    """

    def __init__(
        self,
        *,
        norm: Any,
        qkv: FusedLinear,
        head_dim: int,
        head_norms: tuple[Any, Any],
        ops: LayerOps,
    ) -> None:
        self.norm, self.qkv, self.head_dim, self.head_norms = norm, qkv, head_dim, head_norms
        self.ops = ops
        self.heads = [size // head_dim for size in qkv.frozen.sizes]

    def __call__(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N, H] to queries, keys and values [N, heads, head_dim].

        Args:
            cos, sin: [N, head_dim], of the rotary embedding.
        """
        factors, adapters = self.qkv.factors(hidden), self.qkv.parameters()
        runs = self.qkv.runs if self.qkv.adapted else len(hidden)
        together = runs_together(hidden, runs)
        if together >= runs:
            return _Front.apply(hidden, cos, sin, self, factors, *adapters)
        cut = parts((hidden, cos, sin), factors, adapters, runs, together)
        found = [_Front.apply(*rows, self, own, *ab) for rows, own, ab in cut]
        queries, keys, values = (torch.cat(states) for states in zip(*found, strict=True))
        return queries, keys, values

    def by_head(self, joined: Tensor) -> tuple[Tensor, ...]:
        """[N, all features] as views of queries, keys and values, [N, heads, head_dim]."""
        return joined.unflatten(1, (sum(self.heads), self.head_dim)).split(self.heads, dim=1)


class _Front(Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        cos: Tensor,
        sin: Tensor,
        front: Front,
        factors: list[Tensor | None],
        *adapters: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        norm, ops = front.norm, front.ops
        normed, scale = ops.norm_forward(hidden, norm.weight, norm.variance_epsilon)
        joined, saved = front.qkv.forward(normed, factors, adapters)
        *turned, values = front.by_head(joined)
        for place, own in enumerate(front.head_norms):
            if own is not None:
                saved.append(turned[place])
                turned[place], inverse = ops.norm_forward(
                    turned[place], own.weight, own.variance_epsilon
                )
                saved.append(inverse)
        ctx.front = front
        ctx.save_for_backward(hidden, cos, sin, scale, *saved)
        queries, keys = turned
        return *ops.rotate(queries, keys, cos, sin), values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        front, (hidden, cos, sin, scale, *saved) = ctx.front, ctx.saved_tensors
        ops = front.ops
        joined = grads[0].new_empty(len(hidden), sum(front.qkv.frozen.sizes))
        parts = front.by_head(joined)
        # Behind a norm over heads there is one more step before the joint gradient.
        turned = [
            part if own is None else torch.empty_like(part, memory_format=torch.contiguous_format)
            for part, own in zip(parts, (*front.head_norms, None), strict=True)
        ]
        ops.rotate_backward(grads, cos, sin, turned)
        for place in (1, 0):
            own = front.head_norms[place]
            if own is not None:
                inputs, inverse = saved[-2:]
                saved = saved[:-2]
                ops.norm_backward(turned[place], inputs, own.weight, inverse, out=parts[place])
        back, adapters = front.qkv.backward(joined, saved, ctx.needs_input_grad[0])
        if back is not None:
            back = ops.norm_backward(back, hidden, front.norm.weight, scale)
        return (back, None, None, None, None, *adapters)
