"""Finding the weight matrices of a decoder by name, for quantisation and for LoRA.

Architectures differ in names, not in build: decoder layers sit in a ``ModuleList`` and hold
``nn.Linear`` (GPT-2: ``Conv1D``, the same with a transposed weight). Everything else that holds a
matrix is reported with the reason why it is left alone, so that nothing is passed over silently.
"""

from collections.abc import Iterator

from torch import nn
from transformers.pytorch_utils import Conv1D

_ROUTERS = ("gate", "router", "shared_expert_gate")


def decoder_matrices(
    model: nn.Module, quantised: type[nn.Module]
) -> Iterator[tuple[str, nn.Module, str | None]]:
    """Every module that itself holds a matrix: (full name, module, reason to leave it or None).

    Args:
        model: a decoder, with or without an output head.
        quantised: the class of already quantised linear layers, which count as linear.
    """
    layers = _layer_prefixes(model)
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        inside = name.startswith(layers)
        if isinstance(module, quantised):
            yield name, module, _reason(name, inside)
        elif type(module) in (nn.Linear, Conv1D):
            yield name, module, "LoRA weights" if "lora_" in name else _reason(name, inside)
        elif isinstance(module, nn.Embedding):
            yield name, module, "embedding"
        elif any(key.startswith("lora_") for key in own):
            yield name, module, "LoRA weights"
        elif any(weight.ndim > 1 for weight in own.values()):
            yield name, module, _odd_reason(name, module)


def short_names(names: list[str]) -> list[str]:
    """The last parts of module names, each once, in order of appearance."""
    return list(dict.fromkeys(name.rpartition(".")[2] for name in names))


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put ``module`` in the place called ``name``."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def _layer_prefixes(model: nn.Module) -> tuple[str, ...]:
    return tuple(
        f"{name}." for name, module in model.named_modules() if isinstance(module, nn.ModuleList)
    )


def _reason(name: str, inside: bool) -> str | None:
    if not inside:
        return "outside the decoder layers"
    return "router" if name.rpartition(".")[2] in _ROUTERS else None


def _odd_reason(name: str, module: nn.Module) -> str:
    kind = type(module).__name__
    if isinstance(module, nn.Linear):
        return f"{kind} is not a plain nn.Linear"
    if "expert" in name:
        return f"experts outside nn.Linear ({kind})"
    if name.rpartition(".")[2] in _ROUTERS:
        return f"router ({kind})"
    return f"{kind} is not nn.Linear"
