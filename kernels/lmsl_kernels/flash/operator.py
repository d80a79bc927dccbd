"""The kernels as operators that compilers can carry: tensors and numbers in, tensors out.

``torch.compile`` and ``torch.export`` cannot look inside a launch and cannot carry a plan, so
``attention`` calls these while they trace. What the host knows of a pack stays behind: a graph has
to serve every pack, so regimes M and L make their work list on the device in each call. Sentences
(regime S) need none.
"""

from typing import Any

import torch
from torch import Tensor

from lmsl_kernels.flash.autograd import run_backward, run_forward
from lmsl_kernels.flash.call import Call, make_call, ready
from lmsl_kernels.flash.tuning import GROUPS, longest_single, split_head_dim, table_of
from lmsl_kernels.plan import PackPlan


def traced_attention(
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
    """``lmsl_kernels.attention`` by the operators below."""
    out, _ = attention_forward(
        q,
        k,
        v,
        None if plan is None else plan.cu_seqlens,
        is_causal if isinstance(is_causal, Tensor) else None,
        q.shape[1] if plan is None else plan.max_seqlen,
        is_causal is True,
        window,
        softcap,
        scale,
    )
    return out


@torch.library.custom_op("lmsl::attention_forward", mutates_args=())
def attention_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor | None,
    flags: Tensor | None,
    max_seqlen: int,
    is_causal: bool,
    window: int | None,
    softcap: float | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """The output, shaped like ``q`` and dense, and what the backward needs beside it.

    That is float32 [heads, rows], or [0] in regime S. ``cu_seqlens`` int32 [sequences + 1], or
    ``None`` for dense tensors; ``flags`` bool [sequences] instead of ``is_causal``.
    """
    q, k, v = ready(q), ready(k), ready(v)
    call = _call(q, k, v, cu_seqlens, flags, max_seqlen, is_causal, window, softcap, scale)
    out, log_total = run_forward(call, q, k, v)
    return out, q.new_empty(0, dtype=torch.float32) if log_total is None else log_total


@attention_forward.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor | None,
    flags: Tensor | None,
    max_seqlen: int,
    is_causal: bool,
    window: int | None,
    softcap: float | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    size = split_head_dim(q.shape[-1])[0]
    # A number that varies compares to a symbol; the answer is a guard of the graph.
    plain = softcap is None and (window is None or bool(window >= max_seqlen))
    # Numbers of heads may be symbols too, and tables are looked up by numbers.
    group = next((g for g in GROUPS if bool(q.shape[-2] <= g * k.shape[-2])), GROUPS[-1])
    single = max_seqlen <= longest_single(table_of(q.device, q.dtype), size, group, plain)
    statistics = (0,) if single else (q.shape[-2], q.shape[:-2].numel())
    return q.new_empty(q.shape), q.new_empty(statistics, dtype=torch.float32)


@torch.library.custom_op("lmsl::attention_backward", mutates_args=())
def attention_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor | None,
    flags: Tensor | None,
    out: Tensor | None,
    log_total: Tensor | None,
    dout: Tensor,
    max_seqlen: int,
    is_causal: bool,
    window: int | None,
    softcap: float | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk and dv, dense. ``out`` and ``log_total`` are ``None`` in regime S."""
    q, k, v = ready(q), ready(k), ready(v)
    call = _call(q, k, v, cu_seqlens, flags, max_seqlen, is_causal, window, softcap, scale)
    return run_backward(call, q, k, v, out, log_total, dout)


@attention_backward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, cu_seqlens, flags, *numbers = inputs
    out, log_total = output
    single = log_total.dim() == 1
    ctx.mark_non_differentiable(log_total)
    ctx.save_for_backward(
        q, k, v, cu_seqlens, flags, None if single else out, None if single else log_total
    )
    ctx.numbers = numbers


def _differentiate(ctx: Any, dout: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    gradients = attention_backward(*ctx.saved_tensors, dout, *ctx.numbers)
    return *gradients, *(None,) * (2 + len(ctx.numbers))


attention_forward.register_autograd(_differentiate, setup_context=_save)


def _call(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor | None,
    flags: Tensor | None,
    max_seqlen: int,
    is_causal: bool,
    window: int | None,
    softcap: float | None,
    scale: float,
) -> Call:
    plan = None
    if cu_seqlens is not None:
        plan = PackPlan(cu_seqlens=cu_seqlens.contiguous(), max_seqlen=max_seqlen)
    return make_call(
        q,
        k,
        v,
        plan=plan,
        is_causal=is_causal if flags is None else flags,
        window=window,
        softcap=softcap,
        scale=scale,
    )
