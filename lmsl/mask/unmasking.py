"""``unmask``: choose, layer by layer, which blocks of a decoder see to the right.

The model stays transformers' own. ``unmask`` writes a flag on each attention module, switches the
model to the ``lmsl`` attention function, which reads that flag, and notes the string in
``model.config``, where ``save_pretrained`` keeps it. The flags themselves are not saved: after
``from_pretrained`` call ``unmask(model)`` again (``lmsl.probe`` tells whether somebody forgot).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from lmsl.config.choices import Attention, check_choice
from lmsl.errors import InputError
from lmsl.mask.attention import LAYER_ATTRIBUTE, NAME, Layer, Watch, register
from lmsl.mask.bits import Bits, layer_bits
from lmsl.mask.decoder import decoder_layers, pretrained_of

CONFIG_ATTRIBUTE = "lmsl_unmask"

Model = TypeVar("Model", bound=nn.Module)


def unmask(
    model: Model, string: str | None = None, *, groups: int | None = None, attention: str = "auto"
) -> Model:
    """Unmask layers of a decoder in place and return it.

        >>> sizes = dict(hidden_size=16, intermediate_size=16, num_attention_heads=2)
        >>> config = transformers.LlamaConfig(num_hidden_layers=8, vocab_size=99, **sizes)
        >>> model = transformers.LlamaModel(config)
        >>> lmsl.probe(lmsl.unmask(model, "0011"))
        [False, False, False, False, True, True, True, True]

    ``model`` is any transformers decoder that goes through the attention interface: AutoModel*,
    with or without a PEFT wrapper, quantised, gradient-checkpointed. ``string`` as in
    ``lmsl.mask.bits.layer_bits``; left out, it is the one stored in ``model.config``. ``groups``,
    when given, is the number of bits to expect. ``attention`` is who computes: ``auto`` takes the
    best for the device. Unmasking again replaces the flags. Raises ``InputError``, before anything
    is changed, for models and layers that cannot be unmasked.
    """
    check_choice("attention", attention, Attention)
    if string is None:
        string, groups = stored_string(model)
    pretrained = pretrained_of(model)
    bits = layer_bits(string, len(decoder_layers(model)), groups)
    unmask_runs(model, [bits], attention=attention)
    setattr(pretrained.config, CONFIG_ATTRIBUTE, {"string": string, "groups": groups})
    return model


def unmask_runs(model: nn.Module, bits: Bits, *, attention: str) -> None:
    """Flag the layers of a model for the runs of a stack, in place.

    Layers in which runs differ are left to the packs: such a layer refuses every call whose pack
    does not say it, so that nothing is silently causal. The model's config keeps what all runs
    have in common, a bit a layer, or nothing. Raises ``InputError`` as ``unmask`` does.
    """
    pretrained, layers = pretrained_of(model), decoder_layers(model)
    register()
    pretrained.set_attn_implementation(NAME)
    configs: list[Any] = [layer.attention.config for layer in layers]
    used = {config._attn_implementation for config in configs}
    if used != {NAME}:
        raise InputError(
            f"model: {type(pretrained).__name__} did not take the attention function, "
            f"it uses {', '.join(map(str, used))}"
        )
    impl: Any = None if attention == "auto" else attention
    for layer, own in zip(layers, zip(*bits, strict=True), strict=True):
        is_causal = not own[0] if len(set(own)) == 1 else None
        flag = Layer(index=layer.index, is_causal=is_causal, impl=impl)
        setattr(layer.attention, LAYER_ATTRIBUTE, flag)
    note_bits(model, bits)


def note_bits(model: nn.Module, bits: Bits) -> None:
    """Let the model's config keep what all runs have in common, a bit a layer, or nothing."""
    alike = len(set(map(tuple, bits))) == 1
    text = "".join("01"[bit] for bit in bits[0])
    note = {"string": text, "groups": None} if alike else None
    setattr(pretrained_of(model).config, CONFIG_ATTRIBUTE, note)


def why_not_unmasked(model: nn.Module) -> str | None:
    """Why layers of a model cannot be told what to see; None where they can."""
    try:
        decoder_layers(model)
    except InputError as error:
        return str(error)
    return None


@contextmanager
def flagged(model: nn.Module, bits: Sequence[bool]) -> Iterator[None]:
    """Inside, an unmasked model has these layers unmasked; its own flags come back."""
    with _changed(model, [{"is_causal": not bit} for bit in bits]):
        yield


@contextmanager
def watched(model: nn.Module, watch: Watch) -> Iterator[None]:
    """Inside, ``watch`` is told the attention probabilities of every packed call."""
    with _changed(model, [{"watch": watch} for _ in decoder_layers(model)]):
        yield


@contextmanager
def _changed(model: nn.Module, changes: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Inside, the flags of each layer differ in some entries."""
    modules = [layer.attention for layer in decoder_layers(model)]
    before: list[Layer] = [getattr(module, LAYER_ATTRIBUTE) for module in modules]
    try:
        for module, own, change in zip(modules, before, changes, strict=True):
            setattr(module, LAYER_ATTRIBUTE, replace(own, **change))
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            setattr(module, LAYER_ATTRIBUTE, own)


def stored_string(model: nn.Module) -> tuple[str, int | None]:
    """The unmask string and number of groups in ``model.config``; ``InputError`` without one."""
    stored = getattr(pretrained_of(model).config, CONFIG_ATTRIBUTE, None)
    if stored is None:
        raise InputError(
            "unmask: expected a string, or a model whose config holds one (lmsl_unmask), "
            "got neither"
        )
    return stored["string"], stored["groups"]
