"""Which linear layers of a decoder carry an adapter: names as in PEFT, or a word for many.

``query-value``: attention's query and value, as in the 2024 paper, or the fused projection that
holds them. ``attention``: all projections of attention, its output too. ``all-linear``: every
linear layer inside the decoder layers. Experts, routers and output heads are never targets.
"""

from collections.abc import Sequence

from torch import nn

from lmsl.errors import InputError
from lmsl.layers.linears import decoder_matrices, short_names
from lmsl.layers.quantize import NF4Linear

_QUERY_VALUE = (
    ("q_proj", "v_proj"),
    ("qkv_proj",),
    ("query_key_value",),
    ("c_attn",),
    ("Wqkv",),
    ("W_pack",),
    ("query", "value"),
    ("query_proj", "value_proj"),
    ("q_lin", "v_lin"),
    ("q", "v"),
    ("wq", "wv"),
)


def named_targets(model: nn.Module, targets: Sequence[str]) -> list[str]:
    """Module names in place of a word for many of them; names stay as they are.

    Raises:
        InputError: the model's attention has none of the known names, or nothing is named.
    """
    if not targets:
        raise InputError("--lora-targets: expected at least one name, got none")
    named: list[str] = []
    for target in targets:
        if target == "query-value":
            named += _query_value(model)
        elif target == "attention":
            named += _attention(model)
        elif target == "all-linear":
            named += short_names(list(_adaptable(model)))
        else:
            named.append(target)
    return list(dict.fromkeys(named))


def chosen_layers(model: nn.Module, targets: Sequence[str]) -> dict[str, nn.Module]:
    """The layers that carry an adapter, by full name.

    Args:
        model: a decoder without adapters.
        targets: full names, their last parts, or words for many.

    Raises:
        InputError: a name that no layer of the model has.
    """
    linears = _adaptable(model)
    wanted = named_targets(model, targets)
    if unknown := [t for t in wanted if not any(_matches(name, t) for name in linears)]:
        raise InputError(
            "--lora-targets: expected query-value, attention, all-linear or any of "
            f"{', '.join(short_names(list(linears)))}, got {', '.join(unknown)}"
        )
    return {n: m for n, m in linears.items() if any(_matches(n, target) for target in wanted)}


def _query_value(model: nn.Module) -> list[str]:
    names = short_names(list(_adaptable(model)))
    for candidates in _QUERY_VALUE:
        if set(candidates) <= set(names):
            return list(candidates)
    raise InputError(
        "--lora-targets: expected to find q_proj and v_proj or a fused projection, got a model "
        f"with {', '.join(names) or 'no linear layers'}; name the targets"
    )


def _attention(model: nn.Module) -> list[str]:
    """All linear layers beside query and value: the others in the same modules, and the output
    that BERT and its kin keep in ``attention.output`` beside ``attention.self``.

    A name has as many of its last parts as layers elsewhere do not have: ``c_proj`` of GPT-2
    comes with its parent's.
    """
    names, known = list(_adaptable(model)), _query_value(model)
    parents = {name.rpartition(".")[0] for name in names if name.rpartition(".")[2] in known}
    parents |= {f"{own.removesuffix('.self')}.output" for own in parents if own.endswith(".self")}
    inside = [name for name in names if name.rpartition(".")[0] in parents]
    elsewhere = [name for name in names if name not in inside]
    return list(dict.fromkeys(_shortest(name, elsewhere) for name in inside))


def _shortest(name: str, others: Sequence[str]) -> str:
    """The fewest last parts of a name that match none of the others."""
    parts = name.split(".")
    ends = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
    return next(end for end in ends if not any(_matches(other, end) for other in others))


def _adaptable(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: module
        for name, module, reason in decoder_matrices(model, NF4Linear)
        if reason is None and "experts" not in name.split(".")
    }


def _matches(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")
