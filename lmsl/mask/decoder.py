"""Finding the layers of a decoder and saying which of them can be unmasked.

No list of model names: a layer is supported when it holds exactly one attention module whose code
asks transformers' attention interface for its function, and when nothing else in the layer mixes
tokens. Whether that module is causal by itself does not matter: the layers of an encoder can be
made causal in the same way. Everything else is refused with its layers named, because a
layer that stays causal without a word is the error this package is there to prevent.
"""

import inspect
import re
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from lmsl.errors import InputError

INTERFACE = "ALL_ATTENTION_FUNCTIONS"
ATTENTION_NAME = re.compile(r"Attention|Attn")
LAYER_TYPES = ("full_attention", "sliding_attention")
# Classes that mix tokens without softmax attention: state spaces, linear attention, recurrences.
MIXER_NAME = re.compile(
    r"Mamba|Mixer|DeltaNet|RecurrentBlock|RgLru|Rwkv|LinearAttention|LightningAttention"
    r"|ShortConv|Hyena|LSTM"
)


@dataclass(frozen=True, kw_only=True)
class DecoderLayer:
    """One decoder layer and its self-attention."""

    index: int
    name: str
    block: nn.Module
    attention: nn.Module


def pretrained_of(model: nn.Module) -> Any:
    """The transformers model inside ``model`` (itself, or the base under a PEFT wrapper)."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            return module
    raise InputError(
        f"model: expected a transformers model (PEFT-wrapped or not), got {type(model).__name__}"
    )


def decoder_blocks(model: nn.Module) -> tuple[str, list[nn.Module]]:
    """Name and members of the list of decoder layers: the outermost list of that length."""
    config = pretrained_of(model).config.get_text_config()
    depth = getattr(config, "num_hidden_layers", None)
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) > 0
    ]
    lists.sort(key=lambda entry: entry[0].count("."))
    for name, module in lists:
        if len(module) == depth:
            return name, list(module)
    raise InputError(
        f"model: {type(pretrained_of(model)).__name__} has no list of {depth} decoder layers "
        "(config.num_hidden_layers) to unmask"
    )


def decoder_layers(model: nn.Module) -> list[DecoderLayer]:
    """The layers that can be unmasked, input side first; ``InputError`` names what cannot."""
    pretrained = pretrained_of(model)
    _refuse_architecture(pretrained)
    name, blocks = decoder_blocks(model)
    layers, refused = [], {}
    for index, block in enumerate(blocks):
        attention, reason = _attention_of(block)
        if attention is None:
            refused[index] = reason
        else:
            layers.append(
                DecoderLayer(index=index, name=f"{name}.{index}", block=block, attention=attention)
            )
    if refused:
        raise InputError(
            f"model: {type(pretrained).__name__} cannot be unmasked: {_list(refused)}"
        )
    return layers


def uses_interface(module: nn.Module) -> bool:
    """Whether a module's own code asks transformers for the attention function to call."""
    for owner in type(module).__mro__:
        if owner is nn.Module:
            return False
        for member in vars(owner).values():
            function = inspect.unwrap(member) if callable(member) else member
            code = getattr(function, "__code__", None)
            if code is not None and INTERFACE in code.co_names:
                return True
    return False


def mixing_modules(block: nn.Module) -> list[nn.Module]:
    """What mixes tokens in a layer, by class name, outermost only; for measuring any model."""
    found: list[nn.Module] = []
    inside: set[int] = set()
    for module in block.modules():
        name = type(module).__name__
        if module is not block and (ATTENTION_NAME.search(name) or MIXER_NAME.search(name)):
            if id(module) not in inside:
                found.append(module)
            inside.update(id(child) for child in module.modules())
    return found


def _attention_of(block: nn.Module) -> tuple[nn.Module | None, str]:
    through = [module for module in block.modules() if uses_interface(module)]
    mixers = [module for module in block.modules() if _mixes_otherwise(module)]
    if mixers:
        return None, f"{type(mixers[0]).__name__} is not softmax attention"
    if not through:
        others = mixing_modules(block)
        what = type(others[0]).__name__ if others else type(block).__name__
        return None, f"{what} does not go through transformers' attention interface"
    if len(through) > 1:
        names = ", ".join(type(module).__name__ for module in through)
        return None, f"more than one attention in a layer ({names})"
    attention = through[0]
    if isinstance(getattr(attention, "sinks", None), nn.Parameter):
        return None, f"{type(attention).__name__} has attention sinks, which lmsl does not do"
    return attention, ""


def _mixes_otherwise(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv1d):
        return True
    name = type(module).__name__
    return MIXER_NAME.search(name) is not None and any(True for _ in module.parameters())


def _refuse_architecture(pretrained: Any) -> None:
    config, name = pretrained.config, type(pretrained).__name__
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(f"model: {name} is an encoder-decoder; lmsl unmasks decoder-only models")
    text = config.get_text_config()
    if getattr(text, "add_cross_attention", False):
        raise InputError(f"model: {name} has cross-attention; lmsl unmasks decoder-only models")
    if getattr(text, "is_causal", None) is not None:
        raise InputError(
            f"model: config.is_causal is {text.is_causal}, which transformers forces on every "
            "layer; remove it, lmsl.unmask decides layer by layer"
        )
    types = getattr(text, "layer_types", None) or getattr(text, "layers_block_type", None) or ()
    other = {index: kind for index, kind in enumerate(types) if kind not in LAYER_TYPES}
    if other and set(other.values()) != {"attention"}:
        raise InputError(f"model: {name} cannot be unmasked: {_list(other)}")


def _list(reasons: dict[int, str]) -> str:
    """Layers with the same reason on one entry: ``layers 0-2, 5: reason``."""
    by_reason: dict[str, list[int]] = {}
    for index, reason in reasons.items():
        by_reason.setdefault(reason, []).append(index)
    return "; ".join(f"layers {_ranges(found)}: {why}" for why, found in by_reason.items())


def _ranges(numbers: list[int]) -> str:
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ", ".join(str(s[0]) if len(s) == 1 else f"{s[0]}-{s[-1]}" for s in spans)
