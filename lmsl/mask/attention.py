"""The bridge between transformers' attention interface and ``lmsl_kernels``; the only one.

transformers calls a registered function in every layer (``attend``) and another one where it
would build a mask (``build_mask``). Whether a layer is causal is read from our own attribute on
its module: ``module.is_causal`` and ``config.is_causal`` are each ignored by some path of
transformers, without a word. A packed call brings its plan as the forward argument ``packed=``; a
padded call is unpadded once per forward and layer type, run as a pack of its real tokens, and
padded with zeros.

Nothing is dropped silently: arguments that would change the result and that are not implemented
here (a cache, dropout, sinks, position biases, foreign masks) raise ``InputError``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from lmsl.config.choices import Impl
from lmsl.errors import InputError
from lmsl.mask.padding import Padding, unpad
from lmsl.mask.refusals import flag_error, mask_error, refuse_arguments, title
from lmsl_kernels import PackPlan, attention, explain, reference_attention
from lmsl_kernels.plan import plan_lengths

NAME = "lmsl"
LAYER_ATTRIBUTE = "lmsl_layer"

Watch = Callable[[int, Tensor, Tensor], None]
"""Told, for each layer and sequence of a pack, the layer's index, its attention probabilities
[heads, n, n], queries first, and those of a head that looks evenly at all it may see, [n, n]."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What ``unmask`` writes on an attention module."""

    index: int
    """Position in the decoder, input side first."""
    is_causal: bool | None
    """``None`` in a stack of runs that differ here: each pack says it for its sequences."""
    impl: Impl | None
    """Who computes; ``None`` is the best for the device."""
    watch: Watch | None = None
    """For analysis of packed calls: computed beside, by the reference; it changes nothing."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PackedAttention:
    """The forward argument ``packed=``: one pack, shared by all layers.

    ``model(input_ids=[1, T], position_ids=[1, T], attention_mask=no_mask(), use_cache=False,
    packed=...)``; positions restart at 0 in every sentence. Rows behind the last sentence are
    allowed; their attention output is 0.
    """

    plan: PackPlan
    is_causal: Tensor | Sequence[bool | Tensor] | None = None
    """When runs with different strings share the pack: bool [layers, sequences], or for each
    layer a bool or bool [sequences]. ``None`` uses the flag of each layer."""

    @property
    def cu_seqlens(self) -> Tensor:
        """int32 [sequences + 1]."""
        return self.plan.cu_seqlens

    @property
    def max_seqlen(self) -> int:
        return self.plan.max_seqlen


def pack_attention(
    lengths: Sequence[int],
    device: torch.device | str | None = None,
    *,
    is_causal: Tensor | Sequence[bool | Tensor] | None = None,
) -> PackedAttention:
    """The ``packed=`` argument for sentences of these lengths, laid end to end."""
    return PackedAttention(plan=plan_lengths(lengths, device), is_causal=is_causal)


def no_mask(device: torch.device | str | None = None) -> Tensor:
    """The ``attention_mask`` of a packed call: a 4-D dummy that transformers hands on unread.

    Without it transformers inspects ``position_ids`` on the host in every forward, which makes a
    GPU wait.
    """
    return torch.empty(1, 1, 1, 1, device=device)


def register() -> None:
    """Make ``"lmsl"`` known to transformers. Doing it again changes nothing."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, build_mask)


@dataclass(frozen=True, eq=False, kw_only=True)
class PaddedCall:
    """What layers get as ``attention_mask`` in a padded call, and the plan of its real tokens."""

    padding: Padding
    plan: PackPlan | None


def build_mask(*shape: Any, **arguments: Any) -> PaddedCall:
    """Called by transformers, once a forward and layer type, with the arguments of ``unpad``."""
    padding = unpad(*shape, **arguments)
    if padding.rows is None:
        return PaddedCall(padding=padding, plan=None)
    return PaddedCall(padding=padding, plan=plan_lengths(padding.lengths, padding.rows.device))


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: PaddedCall | Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | Literal["unset"] | None = "unset",
    softcap: float | None = None,
    is_causal: bool | None = None,
    packed: PackedAttention | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """One layer's attention, as transformers calls it.

    ``query`` [batch, heads, seqlen, head_dim], ``key`` and ``value`` with their own head count;
    returns [batch, seqlen, heads, head_dim] and no weights. ``others`` is what transformers and
    its models pass along; what would change the result is refused.
    """
    layer: Layer | None = getattr(module, LAYER_ATTRIBUTE, None)
    if layer is None:
        raise InputError(f"{title(module)}: not prepared for 'lmsl' attention; call lmsl.unmask")
    refuse_arguments(module, query, key, dropout, is_causal, others)
    # Norms kept in float32 beside a 16-bit model give queries and keys of another dtype.
    q, k = query.to(value.dtype).transpose(1, 2), key.to(value.dtype).transpose(1, 2)
    v = value.transpose(1, 2)
    # Latent attention has values narrower than keys; zeros beside them change nothing else.
    narrower = q.shape[-1] - v.shape[-1]
    v = F.pad(v, (0, narrower)) if narrower > 0 else v
    window = _own_window(module) if sliding_window == "unset" else sliding_window
    numbers = _Numbers(window=window, softcap=softcap, scale=scaling, impl=layer.impl)
    if packed is not None:
        out = _packed(module, q, k, v, attention_mask, layer, packed, numbers)
        return out[..., : value.shape[-1]], None
    if not isinstance(attention_mask, PaddedCall):
        raise mask_error(module, attention_mask)
    if layer.is_causal is None:
        raise flag_error(module)
    attention_mask.padding.check(window, others.get("position_ids"))
    out = _padded(q, k, v, attention_mask, layer.is_causal, numbers)
    return out[..., : value.shape[-1]], None


@dataclass(frozen=True, kw_only=True)
class _Numbers:
    window: int | None
    softcap: float | None
    scale: float | None
    impl: Impl | None

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, is_causal: bool | Tensor, plan: PackPlan | None
    ) -> Tensor:
        return attention(
            q,
            k,
            v,
            is_causal=is_causal,
            plan=plan,
            window=self.window,
            softcap=self.softcap,
            scale=self.scale,
            impl=self.impl,
        )

    def probabilities(self, q: Tensor, k: Tensor, is_causal: bool) -> Tensor:
        """[heads, n, n] of one sequence: what the reference gives where values are unit vectors,
        one for each key."""
        unit = torch.eye(len(k), device=k.device).unsqueeze(1).expand(-1, k.shape[1], -1)
        seen = reference_attention(
            q[None],
            k[None],
            unit[None],
            is_causal=is_causal,
            window=self.window,
            softcap=self.softcap,
            scale=self.scale,
        )
        return seen[0].transpose(0, 1)


def _packed(
    module: nn.Module,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: PaddedCall | Tensor | None,
    layer: Layer,
    packed: PackedAttention,
    numbers: _Numbers,
) -> Tensor:
    if q.shape[0] != 1:
        raise InputError(f"packed: expected one row of tokens [1, T], got {q.shape[0]} rows")
    if isinstance(mask, PaddedCall) and mask.padding.given:
        raise InputError(
            "attention_mask: expected no_mask() beside packed=..., got a [batch, seqlen] mask; "
            "a pack has no padding to mask"
        )
    flags: bool | Tensor | None = layer.is_causal
    if packed.is_causal is not None:
        if layer.index >= len(packed.is_causal):
            raise InputError(
                f"packed.is_causal: expected [layers, sequences] flags for layer {layer.index}, "
                f"got those of {len(packed.is_causal)} layers"
            )
        flags = packed.is_causal[layer.index]
    if flags is None:
        raise flag_error(module)
    if layer.watch is not None:
        _tell(layer.watch, layer.index, q[0].float(), k[0].float(), flags, packed, numbers)
    return numbers.run(q[0], k[0], v[0], flags, packed.plan).unsqueeze(0)


def _tell(
    watch: Watch,
    index: int,
    q: Tensor,
    k: Tensor,
    flags: bool | Tensor,
    packed: PackedAttention,
    numbers: _Numbers,
) -> None:
    for number, (start, end) in enumerate(pairwise(packed.cu_seqlens.tolist())):
        own, keys = q[start:end], k[start:end]
        flag = flags if isinstance(flags, bool) else bool(flags[number])
        # A query of zeros looks evenly.
        even = numbers.probabilities(torch.zeros_like(own), keys, flag)[0]
        watch(index, numbers.probabilities(own, keys, flag), even)


def _padded(
    q: Tensor, k: Tensor, v: Tensor, call: PaddedCall, is_causal: bool, numbers: _Numbers
) -> Tensor:
    rows = call.padding.rows
    if rows is None:
        return numbers.run(q, k, v, is_causal, None)
    real_q, real_k, real_v = [x.flatten(0, 1).index_select(0, rows) for x in (q, k, v)]
    out = numbers.run(real_q, real_k, real_v, is_causal, call.plan)
    full = out.new_zeros(q.shape[0] * q.shape[1], *out.shape[1:])
    return full.index_copy(0, rows, out).unflatten(0, q.shape[:2])


def _own_window(module: nn.Module) -> int | None:
    """The window of a layer whose call names none: what the module or its layer type says."""
    window = getattr(module, "sliding_window", None)
    if window is None:
        config: Any = getattr(module, "config", None)
        types = getattr(config, "layer_types", None) or ()
        index = getattr(module, "layer_idx", None) or 0
        if index < len(types) and types[index] == "sliding_attention":
            window = config.sliding_window
    return window if isinstance(window, int) else None


def who_serves(head_dim: int, device: torch.device, dtype: torch.dtype) -> str:
    """Who computes attention where nobody is named, and why not those before, for people."""
    return explain(torch.empty(1, 1, head_dim, device=device, dtype=dtype))
