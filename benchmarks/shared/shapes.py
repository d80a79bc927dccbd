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


def shape_config(name: str) -> Any:
    """The configuration of a shape, numbers as in the model cards of the models they are named by.

    Raises:
        InputError: no such shape.
    """
    if name == "llama-2-7b":
        return LlamaConfig(rms_norm_eps=1e-5)
    if name == "mistral-7b":
        return MistralConfig(sliding_window=None, rms_norm_eps=1e-5)
    if name == "qwen3-4b":
        return Qwen3Config(
            hidden_size=2560,
            intermediate_size=9728,
            num_hidden_layers=36,
            num_key_value_heads=8,
            head_dim=128,
            rope_theta=1e6,
        )
    if name == "toy":
        return LlamaConfig(
            vocab_size=64,
            # On CPU bitsandbytes dequantises rows wrongly that are no multiple of 64, its block.
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    raise InputError(
        f"--model {PREFIX}{name}: expected one of llama-2-7b, mistral-7b, qwen3-4b, toy"
    )


def base_of(model: str, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Base:
    """A base model by hub id, folder or ``tiny``, or one of random weights by ``shape:NAME``.

    A shape has no tokenizer, and its weights are on the device already.
    """
    if not model.startswith(PREFIX):
        return load_base(model, dtype=dtype)
    config = shape_config(model.removeprefix(PREFIX))
    torch.manual_seed(seed)
    with torch.device(device):
        decoder = AutoModel.from_config(config, dtype=dtype)
    return Base(
        decoder=decoder,
        tokenizer=None,
        name=model,
        revision=None,
        depth=config.num_hidden_layers,
    )


def text_config(model: str) -> Any:
    """The configuration of a model by hub id, folder, ``tiny`` or shape."""
    if model.startswith(PREFIX):
        return shape_config(model.removeprefix(PREFIX))
    return load_base(model).decoder.config.get_text_config()
