"""Decoders of well-known shapes with random weights, where weights of 14 GB are not at hand.

What a step costs is a matter of shapes, not of values. The weights are drawn by a seed on the
device, so two contenders that build the same shape get the same numbers.
"""

from typing import Any

import torch
from transformers import AutoModel, LlamaConfig, MistralConfig, Qwen3Config

from lmsl.errors import InputError
from lmsl.tagger.base import Base, load_base

PREFIX = "shape:"
# Numbers as in the model cards.
SHAPES: dict[str, tuple[type, dict[str, Any]]] = {
    "llama-2-7b": (LlamaConfig, {"rms_norm_eps": 1e-5}),
    "mistral-7b": (MistralConfig, {"sliding_window": None, "rms_norm_eps": 1e-5}),
    "qwen3-4b": (
        Qwen3Config,
        {
            "hidden_size": 2560,
            "intermediate_size": 9728,
            "num_hidden_layers": 36,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "rope_theta": 1e6,
        },
    ),
    "tinyllama-1.1b": (
        LlamaConfig,
        {
            "hidden_size": 2048,
            "intermediate_size": 5632,
            "num_hidden_layers": 22,
            "num_key_value_heads": 4,
        },
    ),
    "toy": (
        LlamaConfig,
        {
            "vocab_size": 64,
            # On CPU bitsandbytes dequantises rows wrongly that are no multiple of 64, its block.
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
    ),
}


def base_of(model: str, device: torch.device, dtype: torch.dtype) -> Base:
    """A base model by hub id, folder or ``tiny``, or one of random weights by ``shape:NAME``.

    A shape has no tokenizer, and its weights are on the device already.
    """
    if not model.startswith(PREFIX):
        return load_base(model, dtype=dtype)
    config = text_config(model)
    torch.manual_seed(0)
    with torch.device(device):
        decoder = AutoModel.from_config(config, dtype=dtype)
    depth = config.num_hidden_layers
    return Base(decoder=decoder, tokenizer=None, name=model, revision=None, depth=depth)


def text_config(model: str) -> Any:
    """The configuration of a model by hub id, folder, ``tiny`` or shape.

    Raises:
        InputError: no such shape.
    """
    if not model.startswith(PREFIX):
        return load_base(model).decoder.config.get_text_config()
    name = model.removeprefix(PREFIX)
    if name not in SHAPES:
        raise InputError(f"--model {model}: expected one of {', '.join(SHAPES)}")
    kind, numbers = SHAPES[name]
    return kind(**numbers)
