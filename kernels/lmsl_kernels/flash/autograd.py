"""``impl="triton"``: the kernels as a differentiable operator.

Regime S saves its inputs and nothing else; the others also save the output and the softmax's
denominators. This is the way of eager code. Compilers take ``lmsl_kernels.flash.operator``, which
is made of the same two functions, because they cannot look inside a launch; its calls cost more.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lmsl_kernels.flash.call import Call, make_call, ready
from lmsl_kernels.flash.launch import backward_launches, forward_launches
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
        q, k, v, plan=plan, is_causal=is_causal, window=window, softcap=softcap, scale=scale
    )
    out: Tensor = _Attention.apply(q, k, v, call)
    return out


def run_forward(call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
    """The output, and float32 [heads, rows] that the backward needs, ``None`` in regime S.

    The tensors must be ``ready``.
    """
    out = _like(q)
    log_total = None
    if call.regime != "single":
        log_total = torch.empty(call.heads, call.rows, dtype=torch.float32, device=q.device)
    for launch in forward_launches(call, q, k, v, out, log_total):
        launch.run()
    return out, log_total


def run_backward(
    call: Call,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor | None,
    log_total: Tensor | None,
    dout: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk and dv. All tensors but ``dout`` are those of the forward; regime S takes no more
    than its inputs."""
    gradients = (_like(q), _like(k), _like(v))
    for launch in backward_launches(call, q, k, v, out, log_total, ready(dout), gradients):
        launch.run()
    return gradients


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
        q, k, v = ready(q), ready(k), ready(v)
        out, log_total = run_forward(call, q, k, v)
        ctx.call = call
        ctx.save_for_backward(q, k, v, *(() if log_total is None else (out, log_total)))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, *rest = ctx.saved_tensors
        out, log_total = rest or (None, None)
        return *run_backward(ctx.call, q, k, v, out, log_total, dout), None


def _like(x: Tensor) -> Tensor:
    """Room for a dense tensor of the shape of ``x``, whatever its strides are."""
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)
