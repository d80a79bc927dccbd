"""The training step people would write today: transformers + PEFT (+ bitsandbytes), padded.

Random batches padded to their longest sentence, SDPA attention, LoRA by PEFT over NF4 linears of
bitsandbytes or over dense weights. Everything that is not the point of a comparison is granted to
it: sentences are tokenised beforehand, collation is a few numpy writes, AdamW is fused, there is
no gradient checkpointing and no logging. ``Style`` varies it: eager attention with checkpointing,
as in the code released with the 2024 paper, or sentences end to end for FlashAttention.

The model stays in train mode for life. On CPUs with AVX512-BF16 the first forward of
``bitsandbytes.nn.Linear4bit`` in eval mode without gradients repacks its weights in place, after
which it computes in other arithmetic and loses the gradient; in train mode it never does.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lmsl.config.config import Config
from lmsl.errors import InputError
from lmsl.layers.head import StackedHead
from lmsl.layers.linears import replace_module
from lmsl.layers.lora import stacked_layers
from lmsl.layers.targets import named_targets
from lmsl.tagger.base import Base
from lmsl.tagger.tagger import Tagger
from lmsl.training.stack import Place


@dataclass(frozen=True, kw_only=True)
class Style:
    """How the peer computes attention and lays out a batch."""

    attention: str = "sdpa"
    """By the names of transformers."""
    checkpointing: bool = False
    flat: bool = False
    """Sentences end to end, told apart by their positions alone; needs FlashAttention."""


PADDED = Style()
RELEASED = Style(attention="eager", checkpointing=True)
FLAT = Style(attention="flash_attention_2", flat=True)


def build_peer(
    base: Base, config: Config, *, classes: int, place: Place, style: Style = PADDED
) -> nn.Module:
    """A token-classification model with LoRA and a trained head, in train mode.

    Args:
        base: its decoder becomes the peer's.
        config: quantisation, seed, rank, alpha, dropout and targets are read from it.
        classes: number of labels.
        place: where and in what it computes.
        style: see there.

    Raises:
        InputError: transformers has no token-classification model for this base, or one whose
            head is not called ``score``.
    """
    from peft import LoraConfig, TaskType, get_peft_model, prepare_model_for_kbit_training

    torch.manual_seed(config.seed[0])
    targets = named_targets(base.decoder, config.lora_targets)
    model = _classifier(base, config, classes, place, style)
    checkpointing = {"use_reentrant": False}
    if config.frozen == "nf4":
        model = prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=style.checkpointing,
            gradient_checkpointing_kwargs=checkpointing,
        )
    elif style.checkpointing:
        model.gradient_checkpointing_enable(checkpointing)
    lora = LoraConfig(
        task_type=TaskType.TOKEN_CLS,
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
    )
    adapted: nn.Module = get_peft_model(model, lora).train()
    return adapted


def _classifier(base: Base, config: Config, classes: int, place: Place, style: Style) -> Any:
    """transformers' model around the decoder; its linears are quantised by bitsandbytes."""
    from transformers import AutoModelForTokenClassification

    settings = copy.deepcopy(base.decoder.config)
    settings.num_labels, settings.classifier_dropout = classes, config.head_dropout
    try:
        with torch.device("meta"):
            model = AutoModelForTokenClassification.from_config(settings)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--model {base.name}: no such peer: {reason:.200}") from error
    if not hasattr(model, "score"):
        raise InputError(
            f"--model {base.name}: expected the peer's head to be called score, got "
            f"{type(model).__name__} without one; use a Llama-like model"
        )
    setattr(model, model.base_model_prefix, base.decoder)
    model.score = nn.Linear(model.score.in_features, classes, dtype=place.dtype)
    if config.frozen == "nf4":
        quantise_linears(base.decoder, place)
        model.is_loaded_in_4bit = True
    model.to(place.device)
    model.set_attn_implementation(style.attention)
    return model


def quantise_linears(decoder: nn.Module, place: Place) -> None:
    """Every linear layer as one of bitsandbytes, as transformers does it on loading."""
    import bitsandbytes as bnb

    for name, linear in list(decoder.named_modules()):
        if not isinstance(linear, nn.Linear):
            continue
        layer = bnb.nn.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=place.dtype,
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        layer.weight = bnb.nn.Params4bit(
            linear.weight.data,
            requires_grad=False,
            compress_statistics=True,
            quant_type="nf4",
            module=layer,
        )
        layer.bias = linear.bias
        replace_module(decoder, name, layer.to(place.device))


def copy_adapters(tagger: Tagger, peer: nn.Module) -> None:
    """Give the peer the adapters and the head of the first run of ``tagger``."""
    classifier: Any = peer.get_base_model()  # type: ignore[operator]
    decoder = classifier.base_model
    with torch.no_grad():
        for name, layer in stacked_layers(tagger.decoder).items():
            other = decoder.get_submodule(name)
            other.lora_A["default"].weight.copy_(layer.lora_A[0])
            other.lora_B["default"].weight.copy_(layer.lora_B[0])
        score = classifier.score.modules_to_save["default"]
        assert isinstance(tagger.head, StackedHead)
        score.weight.copy_(tagger.head.weight[0])
        score.bias.copy_(tagger.head.bias[0])


def check_not_repacked(peer: nn.Module) -> None:
    """The frozen weights are still those that were quantised; see the head of this file."""
    for name, parameter in peer.named_parameters():
        state = getattr(parameter, "quant_state", None)
        packed = getattr(state, "packing_format_for_cpu", False)
        assert not packed, f"bitsandbytes repacked {name}"
