"""The rest of a layer behind its attention, as one step: output projection, norm and MLP.

    middle = hidden + out(context)
    result = middle + down(silu(gate(norm(middle))) * up(norm(middle)))

Kept for the backward: ``middle``, its scale, gate and up. The backward writes the gradients of
gate and up over them, the largest tensors of a layer, so it can run only once. (Taking the rows in
tiles that fit the cache of a core was tried: what it saves in memory it loses in calls.)

Only frozen projections: where one is adapted, ``block`` composes the same from single steps.

Shapes: N rows, H hidden features.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from lmsl.fused_frozen import FrozenGroup
from lmsl.fused_ops import norm_backward, norm_forward, swiglu_backward_

_CACHED_ROWS = 800


class Tail:
    """The frozen projections and the norm.

    Args:
        out, gate_up, down: of the layer.
        norm: module with ``weight`` and ``variance_epsilon``.
    """

    def __init__(
        self, out: FrozenGroup, gate_up: FrozenGroup, down: FrozenGroup, norm: Any
    ) -> None:
        self.out, self.gate_up, self.down, self.norm = out, gate_up, down, norm

    def __call__(self, context: Tensor, hidden: Tensor) -> Tensor:
        """[N, heads * head_dim] and [N, H] to [N, H]."""
        if context.device.type == "cpu" and len(context) > 2 * _CACHED_ROWS:
            # What the rows of a whole stack of runs pass through would not stay in the cache.
            parts = zip(context.split(_CACHED_ROWS), hidden.split(_CACHED_ROWS), strict=True)
            return torch.cat([_Tail.apply(*part, self) for part in parts])
        return _Tail.apply(context, hidden, self)


class _Tail(Function):
    @staticmethod
    def forward(ctx: Any, context: Tensor, hidden: Tensor, tail: Tail) -> Tensor:
        middle = _plus(tail.out.product(context), hidden)
        normed, scale = norm_forward(middle, tail.norm.weight, tail.norm.variance_epsilon)
        gate_up = tail.gate_up.product(normed)
        gate, up = gate_up.chunk(2, dim=1)
        inner = functional.silu(gate).mul_(up)
        ctx.tail = tail
        ctx.save_for_backward(middle, scale, gate_up)
        return _plus(tail.down.product(inner), middle)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        tail, (middle, scale, gate_up) = ctx.tail, ctx.saved_tensors
        grad_inner = tail.down.back(grad).to(gate_up.dtype)
        swiglu_backward_(grad_inner, gate_up)
        grad_normed = tail.gate_up.back(gate_up)
        grad_middle = norm_backward(grad_normed, middle, tail.norm.weight, scale).add_(grad)
        return tail.out.back(grad_middle), grad_middle, None


def _plus(fresh: Tensor, other: Tensor) -> Tensor:
    """The sum, in the memory of ``fresh`` where that has its dtype."""
    return fresh.add_(other) if fresh.dtype == other.dtype else fresh + other
