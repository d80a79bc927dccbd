"""Which decoders take the forward of ``block``, and the proof, by measurement, that it is theirs.

A fixed list of families and of the parts of their layers decides; whatever has another part, or a
part of another kind, goes through transformers' own forward. Because a list can be wrong about a
future version of transformers, both forwards then compute the same two short sentences and have to
agree, and each layer of ours is measured for what it sees, as ``probe`` does with transformers'.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lmsl.config.choices import Block as BlockChoice
from lmsl.errors import InputError
from lmsl.layers.fused.block import Block, BlockLayer, Places, linear_groups
from lmsl.layers.fused.frozen import lay_side_by_side
from lmsl.layers.fused.linear import frozen_part
from lmsl.layers.fused.ops import PLAIN, LayerOps
from lmsl.layers.quantize import NF4Linear
from lmsl.mask.bits import Bits
from lmsl.mask.probing import Form, compare_runs, reach_back, run_forms, undisturbed

FAMILIES = {
    "llama": "LlamaModel",
    "mistral": "MistralModel",
    "qwen2": "Qwen2Model",
    "qwen3": "Qwen3Model",
}
_DECODER = {"embed_tokens", "layers", "norm", "rotary_emb"}
_LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_HEAD_NORMS = {"q_norm", "k_norm"}
_MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}
# Largest difference of hidden states, as a share of their largest: rounding alone in each dtype.
ROUNDING = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}


def choose_block(
    decoder: Any,
    choice: BlockChoice,
    bits: Bits,
    *,
    ops: LayerOps = PLAIN,
) -> tuple[Block | None, str]:
    """The forward of ours where it fits and is wanted, and the words for what was chosen.

    Args:
        decoder: with ``unmask`` and LoRA done.
        bits: for each run of the stack, what each layer has to see.
        ops: see ``Block``.

    Raises:
        InputError: ``own`` on a decoder that it does not fit, or a layer of ours, measured, does
            not do what its bit says.
    """
    if choice == "plain":
        return None, "block: transformers' own forward (--block plain)"
    reason = why_not_llama_shaped(decoder)
    if reason is None:
        block = build_block(decoder, ops=ops)
        forms = run_forms(decoder, bits)
        compare_runs("fast packed", seen_by(block, decoder, forms), bits)
        found, most = difference(block, decoder, forms[0]), ROUNDING.get(decoder.dtype, 1e-3)
        # Written so that a NaN does not pass.
        if found <= most:
            way = "asked for" if choice == "own" else "--block auto"
            return block, f"block: fast forward for Llama-shaped layers ({way})"
        reason = f"its hidden states differ from transformers' by {found:.1e} of their size"
    if choice == "own":
        raise InputError(f"--block own: expected Llama-shaped layers, but {reason}; use plain")
    return None, f"block: transformers' own forward (--block auto: {reason})"


def build_block(decoder: Any, *, ops: LayerOps = PLAIN) -> Block:
    """The forward of ours for a decoder that ``why_not_llama_shaped`` has nothing against.

    In place, frozen weights that are multiplied together are laid side by side in memory first.
    """
    for layer in decoder.layers:
        for members in linear_groups(layer):
            lay_side_by_side([frozen_part(member) for member in members])
    windows = [_window(layer.self_attn) for layer in decoder.layers]
    return Block(decoder, windows, ops)


def why_not_llama_shaped(decoder: Any) -> str | None:
    """Why a decoder is not made of Llama-shaped layers; None where it is."""
    config, name = decoder.config, type(decoder).__name__
    from_library = type(decoder).__module__.startswith("transformers.models.")
    if FAMILIES.get(config.model_type) != name or not from_library:
        return f"{name} is none of {', '.join(FAMILIES.values())}"
    if config.hidden_act not in ("silu", "swish"):
        return f"its activation is {config.hidden_act}, not silu"
    reason = _odd_children("decoder", decoder, _DECODER)
    if reason is None and type(decoder.embed_tokens) is not nn.Embedding:
        reason = f"its embeddings are {type(decoder.embed_tokens).__name__}"
    reason = reason or _odd_norm("norm", decoder.norm)
    return reason or next(filter(None, map(_odd_layer, decoder.layers)), None)


def seen_by(block: Block, decoder: nn.Module, forms: Sequence[Form]) -> list[list[bool]]:
    """For each run of a stack, whether each layer of ours sees to the right, as ``probe`` does.

    Args:
        forms: by ``run_forms``.
    """
    seen = []
    with undisturbed(decoder), torch.no_grad():
        hidden, places = block.begin(*_arguments(forms[0]))
        for number, layer in enumerate(block.layers):
            name = f"layer {number}"
            mixed = _mixed(layer, places)
            seen.append(reach_back(mixed, hidden.unsqueeze(0), forms, name))
            hidden = layer(hidden, places)
    return [list(own) for own in zip(*seen, strict=True)]


def difference(block: Block, decoder: nn.Module, form: Form) -> float:
    """The largest difference of the last hidden states from transformers', relative to those."""
    with undisturbed(decoder), torch.no_grad():
        expected = decoder(**form.inputs, use_cache=False).last_hidden_state[0].float()
        found = block(*_arguments(form)).float()
    return float((found - expected).abs().max() / expected.abs().max())


def _arguments(form: Form) -> tuple[Tensor, Tensor, Any]:
    return tuple(form.inputs[name] for name in ("input_ids", "position_ids", "packed"))


def _mixed(layer: BlockLayer, places: Places) -> Any:
    return lambda states: layer.attention(states[0], places).unsqueeze(0)


def _window(attention: Any) -> int | None:
    """How far a layer sees, as its family's code passes it on."""
    owner = attention.config if attention.config.model_type == "mistral" else attention
    return getattr(owner, "sliding_window", None)


def _odd_layer(layer: Any) -> str | None:
    reason = _odd_children("layer", layer, _LAYER)
    if reason is not None:
        return reason
    attention = layer.self_attn
    head_norms = _HEAD_NORMS & {name for name, _ in attention.named_children()}
    norms = {name: getattr(attention, name) for name in head_norms}
    norms["input_layernorm"] = layer.input_layernorm
    norms["post_attention_layernorm"] = layer.post_attention_layernorm
    return (
        _odd_children("attention", attention, _ATTENTION | head_norms)
        or (f"its attention has {min(head_norms)} alone" if len(head_norms) == 1 else None)
        or _odd_children("MLP", layer.mlp, _MLP)
        or next(filter(None, (_odd_norm(name, norm) for name, norm in norms.items())), None)
        or next(filter(None, map(_odd_group, linear_groups(layer))), None)
    )


def _odd_children(what: str, module: nn.Module, expected: set[str]) -> str | None:
    found = {name for name, _ in module.named_children()}
    if found == expected:
        return None
    changed = ", ".join(sorted(found ^ expected))
    return f"its {what} has other parts than expected ({changed})"


def _odd_norm(name: str, norm: nn.Module) -> str | None:
    fits = isinstance(getattr(norm, "variance_epsilon", None), float) and {
        key for key, _ in norm.named_parameters()
    } == {"weight"}
    return None if fits else f"its {name} is {type(norm).__name__}, not the usual RMSNorm"


def _odd_group(members: list[nn.Module]) -> str | None:
    kinds = {type(frozen_part(member)) for member in members}
    if len(kinds) == 1 and kinds <= {nn.Linear, NF4Linear}:
        return None
    return f"its linear layers are {', '.join(sorted(kind.__name__ for kind in kinds))}"
