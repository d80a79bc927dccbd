"""``impl="triton"``: the kernels as a differentiable operator.

Regime S saves its inputs and nothing else; the others also save the output and the softmax's
denominators.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lmsl_kernels.launch import Call, backward_launches, forward_launches, make_call, ready
from lmsl_kernels.plan import PackPlan


def triton_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    plan: PackPlan | None,
    is_causal: bool | Tensor,
    window: int | None,
    softcap: float | None,
    scale: float,
) -> Tensor:
    """Attention by the Triton kernels; see ``lmsl_kernels.attention``."""
    call = make_call(
        q, k, plan=plan, is_causal=is_causal, window=window, softcap=softcap, scale=scale
    )
    out: Tensor = _Attention.apply(q, k, v, call)
    return out


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
        q, k, v = ready(q), ready(k), ready(v)
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        single = call.regime == "single"
        log_total = None if single else _statistics(call, q)
        for launch in forward_launches(call, q, k, v, out, log_total):
            launch.run()
        ctx.call = call
        ctx.save_for_backward(q, k, v, *(() if single else (out, log_total)))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, *rest = ctx.saved_tensors
        out, log_total = rest or (None, None)
        gradients = (_like(q), _like(k), _like(v))
        for launch in backward_launches(ctx.call, q, k, v, out, log_total, ready(dout), gradients):
            launch.run()
        return *gradients, None


def _like(x: Tensor) -> Tensor:
    """Room for a dense tensor of the shape of ``x``, whatever its strides are."""
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _statistics(call: Call, q: Tensor) -> Tensor:
    return torch.empty(call.heads, call.rows, dtype=torch.float32, device=q.device)
