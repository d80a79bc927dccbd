"""Linear layers that share their input, multiplied as one, with the LoRA terms of every run.

Query, key and value (and gate and up) read the same rows: one product with their frozen weights
(``frozen``) serves all of them, forward and backward. The terms of the adapters are those of
``products.add_adapter``. Kept for the backward: the inputs of the adapters, their inner
activations and the dropout factors, which take longer to draw again than the products with A and
B; nothing where no layer is adapted.

Shapes: N rows of all R runs, those of run 0 first; T = N / R rows of a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lmsl.layers.fused.frozen import FrozenGroup
from lmsl.layers.lora import StackedLoRALinear
from lmsl.layers.products import add_adapter, without_autocast


@dataclass(frozen=True, kw_only=True)
class ReadRows:
    """The rows that are read of a pack, where not all of them are computed."""

    index: Tensor
    """int64 [R * W]: rows of the pack, W of every run."""
    tokens: int
    """Rows of each run in the whole pack."""


@dataclass(frozen=True, kw_only=True)
class _Adapted:
    """A LoRA layer of the group and the columns it adds to."""

    layer: StackedLoRALinear
    columns: slice


class FusedLinear:
    """One or more linear layers over the same input, as one call.

    Args:
        members: frozen layers as in ``FrozenGroup``, or ``StackedLoRALinear`` around them.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        self.frozen = FrozenGroup([frozen_part(member) for member in members])
        edges = pairwise(accumulate(self.frozen.sizes, initial=0))
        self.adapted = [
            _Adapted(layer=member, columns=slice(start, end))
            for member, (start, end) in zip(members, edges, strict=True)
            if isinstance(member, StackedLoRALinear)
        ]

    def __call__(self, inputs: Tensor, read: ReadRows | None = None) -> Tensor:
        """[N, in_features] to [N, sum of out_features].

        Args:
            read: which rows of the pack the inputs are, where they are not all of them; dropout
                belongs to a row of the pack.
        """
        return _FusedLinear.apply(inputs, self, self.factors(inputs, read), *self.parameters())

    @property
    def runs(self) -> int:
        """Of the stack that the adapters belong to."""
        return self.adapted[0].layer.runs

    def parameters(self) -> list[Tensor]:
        """A and B of every adapted layer, in the order of the gradients of ``backward``."""
        return [p for one in self.adapted for p in (one.layer.lora_A, one.layer.lora_B)]

    def factors(self, inputs: Tensor, read: ReadRows | None = None) -> list[Tensor | None]:
        """Dropout factors [R, T, in_features] for every adapted layer, None without dropout."""
        return [_factors(one.layer, inputs, read) for one in self.adapted]

    def forward(
        self, inputs: Tensor, factors: Sequence[Tensor | None], adapters: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """The outputs, and what ``backward`` needs; for use inside an autograd function."""
        outputs, saved = self.frozen.product(inputs), list[Tensor | None]()
        for number, (one, drop) in enumerate(zip(self.adapted, factors, strict=True)):
            a, b = adapters[2 * number : 2 * number + 2]
            part = _by_run(outputs, len(a))[..., one.columns]
            by_run, scaling = _by_run(inputs, len(a)), one.layer.scaling
            _, rows, inner = add_adapter(part, by_run, drop, a, b, scaling, in_place=True)
            saved += [rows, inner, drop, a, b]
        return outputs, saved

    def backward(
        self, grad: Tensor, saved: Sequence[Any], needed: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """The gradients of the input, where it is needed, and of ``parameters``."""
        back = self.frozen.back(grad) if needed else None
        grads = list[Tensor]()
        with without_autocast(grad.device.type):
            for number, one in enumerate(self.adapted):
                rows, inner, drop, a, b = saved[5 * number : 5 * number + 5]
                part = _by_run(grad, len(a))[..., one.columns].to(inner.dtype)
                grad_inner = _product(part, b.to(inner.dtype), one.layer.scaling)
                grad_b = _product(part.transpose(1, 2), inner, one.layer.scaling)
                grad_a = torch.bmm(grad_inner.transpose(1, 2), rows)
                grads += [grad_a.to(a.dtype), grad_b.to(b.dtype)]
                if back is not None:
                    _add_back(back, grad_inner, a.to(inner.dtype), drop)
        return back, grads


def frozen_part(member: nn.Module) -> nn.Module:
    """The frozen layer itself, with or without LoRA around it."""
    return member.base if isinstance(member, StackedLoRALinear) else member


def _factors(layer: StackedLoRALinear, inputs: Tensor, read: ReadRows | None) -> Tensor | None:
    """Dropout factors [R, T, in_features] of the input rows; None without dropout."""
    tokens = inputs.shape[0] // layer.runs if read is None else read.tokens
    factors = layer.dropout_factors(tokens, inputs.device)
    if factors is None or read is None:
        return factors
    return _by_run(factors.flatten(0, 1).index_select(0, read.index), layer.runs)


class _FusedLinear(torch.autograd.Function):
    """Differentiable in the input and in A and B of every adapted layer."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        group: FusedLinear,
        factors: list[Tensor | None],
        *adapters: Tensor,
    ) -> Tensor:
        ctx.group, ctx.dtype = group, inputs.dtype
        outputs, saved = group.forward(inputs, factors, adapters)
        ctx.save_for_backward(*saved)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[0]
        back, grads = ctx.group.backward(grad.contiguous(), ctx.saved_tensors, needed)
        return (None if back is None else back.to(ctx.dtype), None, None, *grads)


def _by_run(rows: Tensor, runs: int) -> Tensor:
    """[N, features] as [R, T, features], also where there are no rows."""
    return rows.view(runs, rows.shape[0] // runs, rows.shape[1])


def _product(left: Tensor, right: Tensor, scaling: float) -> Tensor:
    """``scaling * left @ right`` as one operation."""
    return torch.baddbmm(left.new_empty(1, 1, 1), left, right, beta=0.0, alpha=scaling)


def _add_back(back: Tensor, grad_inner: Tensor, a: Tensor, factors: Tensor | None) -> None:
    """Add what an adapter passes back to its input."""
    rows, passed = _by_run(back, len(a)), torch.bmm(grad_inner, a)
    if factors is None:
        rows.add_(passed)
    elif rows.dtype == passed.dtype == factors.dtype:
        rows.addcmul_(passed, factors)
    else:
        rows.add_(passed * factors)
