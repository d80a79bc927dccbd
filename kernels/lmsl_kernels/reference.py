"""The eager reference: the specification of ``attention``, readable rather than fast.

For query i and key j of one sequence, both counted from 0::

    score(i, j) = softcap(scale * q_i . k_j)      softcap(s) = c * tanh(s / c), or s without one
    visible     = (not causal or j <= i) and (no window or |i - j| < window)
    out_i       = sum_j softmax_j(score(i, j) where visible) v_j,  0 where nothing is visible

Query head h reads key and value head ``h // (heads // kv_heads)``. Sequences never see each other.
Rows behind the last sequence are 0. It runs in any float dtype, float64 and gradients included.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


def reference_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    is_causal: bool | Tensor | Sequence[bool],
    cu_seqlens: Tensor | Sequence[int] | None = None,
    window: int | None = None,
    softcap: float | None = None,
    scale: float | None = None,
    upcast: bool = True,
) -> Tensor:
    """Attention of packed [tokens, heads, head_dim] or dense [batch, seqlen, heads, head_dim].

    ``cu_seqlens`` is read on the host, wherever it lies. ``upcast`` computes in float32 what comes
    in fewer bits and rounds once at the end; without it every step rounds to the dtype of ``q``.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    dtype = q.dtype
    if upcast and dtype in (torch.float16, torch.bfloat16):
        q, k, v = q.float(), k.float(), v.float()
    if q.dim() == 4:
        bounds: list[int | slice] = list(range(q.shape[0]))
    else:
        starts = cu_seqlens.tolist() if isinstance(cu_seqlens, Tensor) else list(cu_seqlens or [0])
        bounds = [slice(start, end) for start, end in pairwise(starts)]
    flags = (
        [is_causal] * len(bounds) if isinstance(is_causal, bool) else list(map(bool, is_causal))
    )
    outputs = [
        _one_sequence(q[where], k[where], v[where], flag, window, softcap, scale)
        for where, flag in zip(bounds, flags, strict=True)
    ]
    if q.dim() == 4:
        return torch.stack(outputs).to(dtype) if outputs else _zeros(q, k, v).to(dtype)
    rest = (q[starts[-1] :], k[starts[-1] :], v[starts[-1] :])
    return torch.cat([*outputs, _zeros(*rest)]).to(dtype)


def _one_sequence(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    is_causal: bool,
    window: int | None,
    softcap: float | None,
    scale: float,
) -> Tensor:
    """One sequence, [length, heads, head_dim]."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = torch.einsum("ihd,jhd->hij", q, k) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    position = torch.arange(q.shape[0], device=q.device)
    distance = position[:, None] - position[None, :]
    visible = torch.ones_like(distance, dtype=torch.bool)
    if is_causal:
        visible &= distance >= 0
    if window is not None:
        visible &= distance.abs() < window
    weights = scores.masked_fill(~visible, float("-inf")).softmax(dim=-1)
    # A row that sees nothing would be nan: softmax of nothing but -inf.
    weights = weights.masked_fill(~visible, 0.0)
    return torch.einsum("hij,jhd->ihd", weights, v)


def _zeros(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Zeros shaped like ``q`` that still give zero gradients to all three."""
    nothing = k.masked_fill(torch.ones_like(k, dtype=torch.bool), 0.0).sum()
    nothing = nothing + v.masked_fill(torch.ones_like(v, dtype=torch.bool), 0.0).sum()
    return q.masked_fill(torch.ones_like(q, dtype=torch.bool), 0.0) + nothing
