"""Tiny random decoders of every family the tests unmask, and an oracle for their attention.

The oracle is the model's own eager attention with an explicit additive mask for each layer, built
here from the bits, the padding and the window, so it shares nothing with the code under test.
"""

import re
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from packaging.version import Version
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModel

from lmsl.mask.attention import no_mask, pack_attention
from lmsl.mask.decoder import uses_interface

ORACLE = "test_explicit_masks"
ALL_STRINGS = tuple("".join(bits) for bits in product("01", repeat=4))
WINDOW = 4
CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
# Their attention asks transformers' interface since some release within the range.
LATECOMERS = ("gptj", "codegen")
VOCABULARY = 97

_GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 16}
_ALTERNATING = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": WINDOW},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "gemma": {"head_dim": 8},
    "gemma2": _GEMMA | _ALTERNATING | {"attn_logit_softcapping": 2.0},
    "gemma3_text": _GEMMA | _ALTERNATING,
    "phi3": {"pad_token_id": 0, "sliding_window": WINDOW},
    "olmo2": {},
    "gpt2": {},
    "gpt_neox": {},
    "gptj": {"rotary_dim": 4},
    "codegen": {"rotary_dim": 4},
    "mixtral": {"num_local_experts": 4, "sliding_window": None},
    # Ettin's.
    "modernbert-decoder": {
        "local_attention": 2 * WINDOW,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
    },
}


def config_of(family: str, **changes: Any) -> Any:
    """Of a model of 4 layers."""
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        # Far from uniform attention, so that a wrong mask shows.
        "initializer_range": 0.25,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return AutoConfig.for_model(family, **(settings | FAMILIES.get(family, {}) | changes))


def build(family: str, **changes: Any) -> Any:
    """A headless model of 4 layers in float32, in evaluation mode; the same at every call."""
    config = config_of(family, **changes)
    torch.manual_seed(0)
    model = AutoModel.from_config(config).eval()
    if family in LATECOMERS and not any(map(uses_interface, model.h.modules())):
        pinned = re.search(r"^transformers==(\S+)", CONSTRAINTS.read_text(), re.MULTILINE)
        assert pinned is not None
        old, new = Version(transformers.__version__), Version(pinned[1])
        assert old < new, f"{family} does not go through the attention interface any more"
        pytest.skip(f"{family} goes through the attention interface in later transformers only")
    return model


@dataclass(frozen=True)
class Batch:
    """A padded batch and what it was made of."""

    sentences: list[Tensor]
    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor

    @property
    def padded(self) -> dict[str, Tensor]:
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "position_ids": self.position_ids,
        }

    @property
    def lengths(self) -> list[int]:
        return [len(sentence) for sentence in self.sentences]

    def packed(self, device: Any = None, **more: Any) -> dict[str, Any]:
        """The sentences end to end; ``more`` goes to ``pack_attention``."""
        return {
            "input_ids": torch.cat(self.sentences)[None].to(device),
            "position_ids": torch.cat([torch.arange(n) for n in self.lengths])[None].to(device),
            "attention_mask": no_mask(device),
            "use_cache": False,
            "packed": pack_attention(self.lengths, device, **more),
        }

    def real(self, states: Tensor) -> Tensor:
        """[batch, seqlen, ...] to the real tokens, sentence by sentence."""
        return states[self.attention_mask.bool()]


def batch(lengths: list[int], side: str, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    sentences = [torch.randint(3, VOCABULARY, (n,), generator=generator) for n in lengths]
    width = max(lengths)
    ids = torch.zeros(len(lengths), width, dtype=torch.int64)
    mask, positions = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, sentence in enumerate(sentences):
        n = len(sentence)
        where = slice(width - n, width) if side == "left" else slice(0, n)
        ids[row, where], mask[row, where], positions[row, where] = sentence, 1, torch.arange(n)
    return Batch(sentences, ids, mask, positions)


@dataclass(frozen=True)
class Explicit:
    """What the oracle needs to know: bits by layer and the padding mask."""

    bits: tuple[bool, ...]
    attention_mask: Tensor


def use_oracle(model: Any) -> None:
    AttentionInterface.register(ORACLE, oracle_attention)
    AttentionMaskInterface.register(ORACLE, lambda *args, **kwargs: None)
    model.set_attn_implementation(ORACLE)


def oracle_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    explicit: Explicit,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    own_eager = sys.modules[type(module).__module__].eager_attention_forward
    length = query.shape[2]
    visible = explicit.attention_mask[:, None, None, :].bool().expand(-1, 1, length, -1)
    row, column = torch.arange(length)[:, None], torch.arange(length)[None, :]
    if not explicit.bits[module.layer_idx]:
        visible = visible & (column <= row)
    if sliding_window is not None:
        visible = visible & ((row - column).abs() < sliding_window)
    mask = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
    return own_eager(module, query, key, value, mask, **kwargs)
