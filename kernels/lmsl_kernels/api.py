"""The public operator: checks the call, chooses who serves it, and says why when nobody can.

Nothing here waits for the device: what cannot be checked on the host is not checked.
"""

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from lmsl_kernels.plan import PackPlan, plan_pack
from lmsl_kernels.reference import reference_attention
from lmsl_kernels.sdpa.packed import dense_attention, packed_attention

Implementation = Literal["triton", "sdpa", "eager"]
IMPLEMENTATIONS: tuple[Implementation, ...] = ("triton", "sdpa", "eager")


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    is_causal: bool | Tensor,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | None = None,
    plan: PackPlan | None = None,
    window: int | None = None,
    softcap: float | None = None,
    scale: float | None = None,
    impl: Implementation | None = None,
) -> Tensor:
    """Self-attention of packed or dense tokens, causal or not; differentiable, shaped like ``q``.

    Packed: ``q`` [tokens, heads, head_dim], ``k`` and ``v`` [tokens, kv_heads, head_dim], with
    ``plan`` or ``cu_seqlens`` (int32 [sequences + 1]); rows behind ``cu_seqlens[-1]`` come back as
    0, in the gradients too. On another device than the CPU ``cu_seqlens`` needs ``max_seqlen`` or
    a plan. Dense: [batch, seqlen, heads, head_dim], every row a whole sequence.

    ``is_causal`` is one flag or a bool tensor [sequences]. ``window``: a token sees keys with
    ``|i - j| < window`` (causal: ``0 <= i - j < window``). ``softcap`` applies after ``scale``,
    which is ``head_dim ** -0.5`` by default. There is no dropout: no argument asks for it, and
    ``lmsl`` refuses models whose attention has some. ``impl`` forces who computes; ``None`` takes
    the best for the device. Raises ``ValueError`` for a call that is wrong or that ``impl`` cannot
    serve.
    """
    _check_tensors(q, k, v)
    _check_numbers(window, softcap)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    chosen = _choose(impl, q, scale)
    if q.dim() == 3:
        plan = _plan_of(q, cu_seqlens, max_seqlen, plan)
        sequences = plan.sequences
    elif cu_seqlens is not None or plan is not None:
        raise ValueError(f"cu_seqlens and plan belong to packed [tokens, ...], got {q.dim()}-d q")
    else:
        sequences = q.shape[0]
    flags = _check_flag(is_causal, sequences, q)
    serve: Callable[..., Tensor]
    if chosen == "eager":
        bounds = None if plan is None else plan.cu_seqlens
        serve = partial(reference_attention, q, k, v, cu_seqlens=bounds)
    elif chosen == "triton":
        serve = partial(_triton_attention(), q, k, v, plan=plan)
    elif plan is None:
        serve = partial(dense_attention, q, k, v)
    else:
        serve = partial(packed_attention, q, k, v, plan=plan)
    return serve(is_causal=flags, window=window, softcap=softcap, scale=scale)


def _triton_attention() -> Callable[..., Tensor]:
    # Imported here: the package works where Triton is not installed.
    if torch.compiler.is_compiling():
        from lmsl_kernels.flash.operator import traced_attention

        return traced_attention
    from lmsl_kernels.flash.autograd import triton_attention

    return triton_attention


def explain(q: Tensor, scale: float | None = None) -> str:
    """Which implementation serves a call on ``q`` by default and why not the ones before it."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    reasons: list[str] = []
    for impl in IMPLEMENTATIONS:
        reason = _why_not_by_default(impl, q, scale)
        if reason is None:
            return "; ".join([f"attention by {impl}", *reasons])
        reasons.append(f"not by {impl}: {reason}")
    raise AssertionError("the eager reference serves every call")


def _choose(impl: str | None, q: Tensor, scale: float) -> str:
    if impl is None:
        return "sdpa" if _why_not_by_default("triton", q, scale) else "triton"
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl must be one of {IMPLEMENTATIONS} or None, got {impl!r}")
    reason = why_not(impl, q, scale)
    if reason is not None:
        raise ValueError(f"impl={impl!r} cannot serve this call, but 'sdpa' can: {reason}")
    return impl


def why_not(impl: str, q: Tensor, scale: float) -> str | None:
    """Why ``impl`` cannot serve a call on ``q``, or ``None`` when it can."""
    if impl != "triton":
        return None
    reason = _why_not_here(q.device)
    if reason is not None:
        return reason
    from lmsl_kernels.flash.launch import unsupported

    return unsupported(q, scale)


def _why_not_by_default(impl: str, q: Tensor, scale: float) -> str | None:
    """Why ``impl`` is not who serves a call that names nobody."""
    reason = why_not(impl, q, scale)
    if impl == "triton" and reason is None and q.device.type != "cuda":
        return "the interpreter is there to prove the kernels and serves only who asks for it"
    return reason


# A compiler takes the answer as it is: what is installed and where it runs is nothing to trace.
@torch.compiler.assume_constant_result
def _why_not_here(device: torch.device) -> str | None:
    """Why the kernels cannot run on ``device``, or ``None``."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    from lmsl_kernels.flash.launch import INTERPRETED
    from lmsl_kernels.flash.tuning import no_table

    if device.type == "cuda":
        return no_table(device)
    if INTERPRETED and device.type == "cpu":
        return None
    return f"it needs a CUDA device, got {device} (TRITON_INTERPRET=1 runs it on the CPU)"


def _plan_of(
    q: Tensor, cu_seqlens: Tensor | None, max_seqlen: int | None, plan: PackPlan | None
) -> PackPlan:
    if plan is None:
        if cu_seqlens is None:
            raise ValueError(
                "packed q [tokens, heads, head_dim] needs cu_seqlens or a plan; "
                "dense q is [batch, seqlen, heads, head_dim]"
            )
        plan = plan_pack(cu_seqlens, max_seqlen, device=q.device)
    if plan.cu_seqlens.device != q.device:
        raise ValueError(f"cu_seqlens must be on {q.device} like q, got {plan.cu_seqlens.device}")
    rows = q.shape[0]
    # A compiler would make one graph for each pack if it were shown the lengths.
    known = None if torch.compiler.is_compiling() else plan.lengths
    if known is not None and sum(known) > rows:
        raise ValueError(f"cu_seqlens ends at {sum(known)}, but q has {rows} tokens")
    if plan.capacity is not None and rows > plan.capacity:
        raise ValueError(f"the plan was made for at most {plan.capacity} tokens, got {rows}")
    return plan


def _check_tensors(q: Tensor, k: Tensor, v: Tensor) -> None:
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.dim() not in (3, 4):
            raise ValueError(
                f"{name} must be [tokens, heads, head_dim] or [batch, seqlen, heads, head_dim], "
                f"got shape {tuple(tensor.shape)}"
            )
        if not tensor.is_floating_point():
            raise ValueError(f"{name} must be a float tensor, got {tensor.dtype}")
        if tensor.dtype != q.dtype:
            raise ValueError(f"{name} must have the dtype of q, {q.dtype}, got {tensor.dtype}")
        if tensor.device != q.device:
            raise ValueError(f"{name} must be on the device of q, {q.device}, got {tensor.device}")
    if k.shape != v.shape:
        raise ValueError(f"v must have the shape of k, {tuple(k.shape)}, got {tuple(v.shape)}")
    if q.shape[:-2] != k.shape[:-2]:
        raise ValueError(
            f"queries and keys must be the same tokens (no KV cache): "
            f"q has {tuple(q.shape[:-2])}, k has {tuple(k.shape[:-2])}"
        )
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"k must have the head_dim of q, {q.shape[-1]}, got {k.shape[-1]}")
    heads, kv_heads = q.shape[-2], k.shape[-2]
    if kv_heads == 0 or heads % kv_heads:
        raise ValueError(f"kv_heads must divide heads ({heads}), got {kv_heads}")


def _check_numbers(window: int | None, softcap: float | None) -> None:
    if window is not None and not isinstance(window, int):
        raise ValueError(f"window must be an integer or None, got {window!r}")
    if window is not None and window < 1:
        raise ValueError(f"window must be at least 1 (a token sees itself), got {window}")
    if softcap is not None and not softcap > 0:
        raise ValueError(f"softcap must be positive, got {softcap}")


def _check_flag(is_causal: bool | Tensor, sequences: int, q: Tensor) -> bool | Tensor:
    if isinstance(is_causal, bool):
        return is_causal
    if not isinstance(is_causal, Tensor) or is_causal.dtype != torch.bool:
        raise ValueError(
            f"is_causal must be a bool or a bool tensor [sequences], got {is_causal!r}"
        )
    if is_causal.shape != (sequences,):
        raise ValueError(
            f"is_causal must have one flag for each of {sequences} sequences, "
            f"got shape {tuple(is_causal.shape)}"
        )
    if is_causal.device != q.device:
        raise ValueError(f"is_causal must be on {q.device} like q, got {is_causal.device}")
    return is_causal
