"""A forward of our own for decoders made of Llama-shaped layers: same weights, fewer operations.

    hidden = hidden + out(attention(rotate(qkv(norm(hidden)))))
    hidden = hidden + down(swiglu(gate_up(norm(hidden))))

It reads the modules of transformers' decoder and owns nothing: parameters keep their names, and
calling the decoder itself still works. Three things make it faster: linear layers over
one input are one product with their LoRA terms (``linear``), what stands before and behind
attention is one step each with its own backward (``front``, ``tail``), and behind the
last layer's attention only the rows that the head reads are computed. Attention is the same call
as everywhere, with the flag that ``unmask`` wrote on the module. Forward hooks on the decoder's
inner modules are not run; who wants to see what layers give out passes ``observe``.

Which decoders have this shape is said by ``fit``; all others go through transformers.

Shapes: N rows of a pack, H hidden features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lmsl.layers.fused.front import Front
from lmsl.layers.fused.linear import FusedLinear, ReadRows
from lmsl.layers.fused.ops import LayerOps, rms_norm, swiglu
from lmsl.layers.fused.tail import Tail
from lmsl.mask.attention import PackedAttention, attend, no_mask

Observe = Callable[[Tensor], None]
"""Called with the output of each layer in turn, [N, H]; or with its read rows, where only they are
computed."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Places:
    """What all layers of one forward share."""

    cos: Tensor
    """[N, head_dim], of the rotary embedding."""
    sin: Tensor
    packed: PackedAttention
    mask: Tensor
    """The dummy of a packed call."""


def linear_groups(layer: Any) -> tuple[list[nn.Module], ...]:
    """The linear layers that share their input: query, key and value; out; gate and up; down."""
    attention, mlp = layer.self_attn, layer.mlp
    return (
        [attention.q_proj, attention.k_proj, attention.v_proj],
        [attention.o_proj],
        [mlp.gate_proj, mlp.up_proj],
        [mlp.down_proj],
    )


class BlockLayer:
    """One decoder layer.

    Args:
        layer: of transformers, found fitting by ``fit``.
        window: how far its attention sees; None is no limit.
        ops: who computes norms, rotation and SwiGLU.
    """

    def __init__(self, layer: Any, window: int | None, ops: LayerOps) -> None:
        attention = layer.self_attn
        qkv, out, gate_up, down = map(FusedLinear, linear_groups(layer))
        self._attention = attention
        self._window = window
        self._ops = ops
        self._post_norm = layer.post_attention_layernorm
        self._front = Front(
            norm=layer.input_layernorm,
            qkv=qkv,
            head_dim=attention.head_dim,
            # Only where the family has them (Qwen3).
            head_norms=(getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)),
            ops=ops,
        )
        self._out, self._gate_up, self._down = out, gate_up, down
        self._tail = None
        if not (gate_up.adapted or down.adapted):
            self._tail = Tail(out, gate_up.frozen, down.frozen, self._post_norm, ops)

    def __call__(self, hidden: Tensor, places: Places, read: ReadRows | None = None) -> Tensor:
        """[N, H] to [N, H]; with ``read`` to its rows only."""
        context = self.attention(hidden, places)
        if read is not None:
            context = context.index_select(0, read.index)
            hidden = hidden.index_select(0, read.index)
        if self._tail is not None:
            return self._tail(context, hidden, read)
        hidden = hidden + self._out(context, read)
        normed = _norm(hidden, self._post_norm, self._ops)
        inner = swiglu(self._gate_up(normed, read), self._ops)
        return hidden + self._down(inner, read)

    def attention(self, hidden: Tensor, places: Places) -> Tensor:
        """What the tokens of each sentence give each other: [N, H] to [N, heads * head_dim]."""
        module = self._attention
        queries, keys, values = self._front(hidden, places.cos, places.sin)
        mixed, _ = attend(
            module,
            queries.transpose(0, 1).unsqueeze(0),
            keys.transpose(0, 1).unsqueeze(0),
            values.transpose(0, 1).unsqueeze(0),
            places.mask,
            scaling=module.scaling,
            dropout=module.attention_dropout if module.training else 0.0,
            sliding_window=self._window,
            packed=places.packed,
        )
        return mixed.reshape(len(hidden), queries.shape[1] * module.head_dim)


class Block:
    """A whole decoder: embeddings, layers, final norm.

    Args:
        decoder: of transformers, with ``unmask`` and LoRA done, found fitting by ``fit``.
        windows: of each layer, None for no limit.
        ops: who computes norms, rotation and SwiGLU.
    """

    recomputed = 0
    """So many of the first layers are computed again in the backward instead of kept."""

    def __init__(self, decoder: Any, windows: Sequence[int | None], ops: LayerOps) -> None:
        self._decoder = decoder
        self._ops = ops
        self.layers = [
            BlockLayer(layer, window, ops)
            for layer, window in zip(decoder.layers, windows, strict=True)
        ]

    def __call__(
        self,
        ids: Tensor,
        positions: Tensor,
        packed: PackedAttention,
        read: ReadRows | None = None,
        observe: Observe | None = None,
    ) -> Tensor:
        """The last hidden states of one pack, [N, H]; with ``read`` of its rows only.

        Args:
            ids: int64 [1, N].
            positions: int64 [1, N], from 0 in every sentence.
        """
        hidden, places = self.begin(ids, positions, packed)
        for number, layer in enumerate(self.layers, start=1):
            rows = read if number == len(self.layers) else None
            if number <= self.recomputed and torch.is_grad_enabled():
                # All random numbers are counted, not drawn: there is no state to preserve.
                hidden = checkpoint(
                    layer, hidden, places, rows, use_reentrant=False, preserve_rng_state=False
                )
            else:
                hidden = layer(hidden, places, rows)
            if observe is not None:
                observe(hidden)
        return _norm(hidden, self._decoder.norm, self._ops)

    def begin(
        self, ids: Tensor, positions: Tensor, packed: PackedAttention
    ) -> tuple[Tensor, Places]:
        """The input of the first layer, and what all layers share."""
        embedded = self._decoder.embed_tokens(ids)
        cos, sin = self._decoder.rotary_emb(embedded, positions)
        mask = no_mask(ids.device)
        return embedded[0], Places(cos=cos[0], sin=sin[0], packed=packed, mask=mask)


def _norm(states: Tensor, module: Any, ops: LayerOps) -> Tensor:
    return rms_norm(states, module.weight, module.variance_epsilon, ops)
