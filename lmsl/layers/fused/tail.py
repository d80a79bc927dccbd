"""The rest of a layer behind its attention, as one step: output projection, norm and MLP.

    middle = hidden + out(context)
    result = middle + down(silu(gate(norm(middle))) * up(norm(middle)))

Kept for the backward: ``middle``, its scale, gate and up, and what the adapters of the output
projection need. The backward writes the gradients of gate and up over them, the largest tensors of
a layer, so it can run only once.

The output projection may be adapted; gate, up and down are frozen. Where one of them is not,
``block`` composes the same from single steps.

Shapes: N rows, H hidden features.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lmsl.layers.fused.frozen import FrozenGroup
from lmsl.layers.fused.linear import FusedLinear, ReadRows
from lmsl.layers.fused.ops import LayerOps, plus
from lmsl.layers.fused.parts import parts, runs_together


class Tail:
    """The projections and the norm.

    Args:
        out, gate_up, down: of the layer.
        norm: module with ``weight`` and ``variance_epsilon``.
        ops: who computes norm and SwiGLU.
    """

    def __init__(
        self,
        out: FusedLinear,
        gate_up: FrozenGroup,
        down: FrozenGroup,
        norm: Any,
        ops: LayerOps,
    ) -> None:
        self.out, self.gate_up, self.down, self.norm = out, gate_up, down, norm
        self.ops = ops

    def __call__(self, context: Tensor, hidden: Tensor, read: ReadRows | None = None) -> Tensor:
        """[N, heads * head_dim] and [N, H] to [N, H]; ``read`` as for ``FusedLinear``."""
        factors, adapters = self.out.factors(context, read), self.out.parameters()
        # Without adapters rows belong to nobody: any number of them is a part.
        runs = self.out.runs if self.out.adapted else len(context)
        together = runs_together(context, runs)
        if together >= runs:
            return _Tail.apply(context, hidden, self, factors, *adapters)
        cut = parts((context, hidden), factors, adapters, runs, together)
        return torch.cat([_Tail.apply(*rows, self, own, *ab) for rows, own, ab in cut])


class _Tail(Function):
    @staticmethod
    def forward(
        ctx: Any,
        context: Tensor,
        hidden: Tensor,
        tail: Tail,
        factors: list[Tensor | None],
        *adapters: Tensor,
    ) -> Tensor:
        projected, saved = tail.out.forward(context, factors, adapters)
        middle, normed, scale = tail.ops.add_norm_forward(
            projected, hidden, tail.norm.weight, tail.norm.variance_epsilon
        )
        gate_up = tail.gate_up.product(normed)
        inner = tail.ops.swiglu_forward(gate_up)
        ctx.tail = tail
        ctx.save_for_backward(middle, scale, gate_up, *saved)
        return plus(tail.down.product(inner), middle)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tail, (middle, scale, gate_up, *saved) = ctx.tail, ctx.saved_tensors
        grad_inner = tail.down.back(grad).to(gate_up.dtype)
        tail.ops.swiglu_backward_(grad_inner, gate_up)
        grad_normed = tail.gate_up.back(gate_up)
        grad_middle = tail.ops.norm_backward(
            grad_normed, middle, tail.norm.weight, scale, added=grad
        )
        back, adapters = tail.out.backward(grad_middle, saved, ctx.needs_input_grad[0])
        return (back, grad_middle, None, None, *adapters)
