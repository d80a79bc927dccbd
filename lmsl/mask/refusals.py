"""What the attention hook does not serve, in words: nothing that changes a result is dropped."""

from typing import Any

from torch import Tensor, nn

from lmsl.errors import InputError

UNSUPPORTED = (
    "s_aux",
    "sinks",
    "position_bias",
    "indices",
    "block_indices",
    "head_mask",
    "output_attentions",
)
CUMULATIVE = ("cu_seq_lens_q", "cu_seq_lens_k")


class PackNotPassedOn(InputError):
    """``packed=`` was lost on the way: the model's layers do not hand on extra arguments."""


def refuse_arguments(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    dropout: float,
    is_causal: bool | None,
    others: dict[str, Any],
) -> None:
    """Refuse what transformers passes to ``attend`` and would change the result if left out."""
    if query.shape[2] != key.shape[2]:
        raise InputError(
            f"{title(module)}: expected queries and keys of the same tokens, got "
            f"{query.shape[2]} and {key.shape[2]}; a KV cache cannot serve layers that see to the "
            "right: pass whole sentences with use_cache=False (and do not generate)"
        )
    if dropout > 0 and module.training:
        raise InputError(
            f"{title(module)}: expected no attention dropout, got {dropout}; load the model with "
            "attention_dropout=0 (GPT-2: attn_pdrop=0)"
        )
    if is_causal is not None:
        raise InputError(
            f"is_causal: expected it unset in the config and in the call, got {is_causal}; "
            "lmsl.unmask alone decides which layers are causal"
        )
    for name in UNSUPPORTED:
        if others.get(name) is not None and others[name] is not False:
            raise InputError(f"{title(module)}: lmsl attention has no {name}, which it was given")
    if any(others.get(name) is not None for name in CUMULATIVE):
        raise InputError(
            "cu_seq_lens_q: lmsl attention takes packs as packed=pack_attention(lengths, device)"
        )


def flag_error(module: nn.Module) -> InputError:
    return InputError(
        f"{title(module)}: the runs of this stack differ here; call it with packed=..., whose "
        "is_causal says for every sequence what it sees"
    )


def mask_error(module: nn.Module, mask: Tensor | None) -> InputError:
    if mask is not None and mask.shape == (1, 1, 1, 1):
        return PackNotPassedOn(
            f"packed: no pack reached {title(module)}; if it was given, this model does not hand "
            "it on to its layers: call it with padded batches and their attention_mask"
        )
    got = "nothing" if mask is None else f"shape {list(mask.shape)}"
    return InputError(
        f"attention_mask: expected [batch, seqlen], None or packed=, got {got} in "
        f"{title(module)}; lmsl attention builds its own masks"
    )


def title(module: nn.Module) -> str:
    """A module by its class and layer, for messages."""
    layer = getattr(module, "layer_idx", None)
    return type(module).__name__ + ("" if layer is None else f" of layer {layer}")
