"""Putting a tagger together from a base model: mask, NF4, LoRA, heads. The same for a run that
begins and for one that is loaded, so that neither can differ from the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lmsl.config.choices import Block, Elementwise, LabelAt, LoRA, Quantize, Resident
from lmsl.device import free_memory, mib
from lmsl.errors import InputError
from lmsl.layers.dropout import DropoutClock
from lmsl.layers.fused.block import Block as FusedBlock
from lmsl.layers.fused.fit import choose_block
from lmsl.layers.fused.triton_ops import choose_ops, head_dim_of
from lmsl.layers.head import StackedHead
from lmsl.layers.lora import add_lora
from lmsl.layers.quantize import NF4Linear, quantize_linears
from lmsl.layers.targets import named_targets
from lmsl.mask.attention import who_serves
from lmsl.mask.bits import Bits
from lmsl.mask.flags import differing
from lmsl.mask.probing import verify_runs
from lmsl.mask.unmasking import unmask_runs
from lmsl.tagger.base import Base
from lmsl.tagger.mixture import Mixture
from lmsl.tagger.tagger import Tagger


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How the frozen model is kept."""

    quantize: Quantize
    resident: Resident
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True, kw_only=True)
class Operators:
    """Who computes, in the words of the command line."""

    attention: str = "auto"
    block: Block = "auto"
    elementwise: Elementwise = "auto"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What is put on the frozen model, the same for every run."""

    classes: int
    label_at: LabelAt
    lora: LoRA
    head_dropout: float


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """A tagger for a stack of runs, and what its assembly chose."""

    tagger: Tagger
    clock: DropoutClock
    lora: LoRA
    """With the targets made definite."""
    notes: tuple[str, ...]


def assemble(
    base: Base,
    *,
    bits: Bits,
    seeds: Sequence[int],
    trained: Trained,
    storage: Storage,
    operators: Operators,
    mixed: bool = False,
) -> Assembled:
    """Turn a loaded decoder, in place, into a tagger whose layers provably obey ``bits``.

    Args:
        base: as loaded, or from an earlier assembly with the adapters taken off again.
        bits: of the layers of ``base``, for each of ``seeds``.
        mixed: they are those of the strings of which each sentence of the only run draws one.

    Raises:
        InputError: the targets do not fit the model, the model cannot be unmasked, a layer,
            measured, does not do what its bit says, ``block`` is ``own`` and the model's layers
            are not Llama-shaped, or ``elementwise`` is ``triton`` and that cannot serve.
    """
    decoder = base.decoder.to(storage.device)
    assert len(seeds) == (1 if mixed else len(bits)), "the bits of a string for each seed"
    unmask_runs(decoder, bits, attention=operators.attention)
    notes = _quantized(decoder, storage) if storage.quantize == "nf4" else []
    settled = replace(trained.lora, targets=tuple(named_targets(decoder, trained.lora.targets)))
    clock = DropoutClock(seeds=tuple(seeds))
    head, adapted = _added(decoder, replace(trained, lora=settled), clock)
    notes.append(_measured(decoder, bits, operators.attention, "strings" if mixed else "runs"))
    block, chosen = _forward(decoder, bits, storage, operators)
    mixture = Mixture(bits=bits, seed=seeds[0]) if mixed else None
    own = None if mixed else differing(bits)
    tagger = Tagger(decoder, head.to(storage.device), trained.label_at, block, own, mixture)
    count = sum(p.numel() for p in tagger.parameters() if p.requires_grad)
    chosen.append(
        f"LoRA rank {settled.rank} on {adapted} layers ({', '.join(settled.targets)}), "
        f"{count:,} trained parameters"
    )
    return Assembled(tagger=tagger, clock=clock, lora=settled, notes=(*notes, *chosen))


def _quantized(decoder: torch.nn.Module, storage: Storage) -> list[str]:
    """Quantise in place, where that was not done yet; what was done and what was left."""
    if any(isinstance(module, NF4Linear) for module in decoder.modules()):
        return []
    keep, reason = _keep_resident(decoder, storage)
    report = quantize_linears(decoder, resident=keep, dtype=storage.dtype)
    done = (
        f"NF4: {len(report.quantised)} matrices, {mib(report.bytes_before)} to "
        f"{mib(report.bytes_after)}, {reason}"
    )
    left = [f"not quantised: {name} ({why})" for name, why in report.left if "expert" in why]
    return [done, *left]


def _added(
    decoder: torch.nn.Module, trained: Trained, clock: DropoutClock
) -> tuple[StackedHead, int]:
    """Adapters, in place, and the heads of all runs; how many layers are adapted."""
    lora = trained.lora
    adapted = add_lora(
        decoder,
        targets=lora.targets,
        rank=lora.rank,
        alpha=lora.alpha,
        dropout=lora.dropout,
        seeds=clock.seeds,
        clock=clock,
    )
    config: Any = decoder.config
    head = StackedHead(
        hidden=config.get_text_config().hidden_size,
        classes=trained.classes,
        dropout=trained.head_dropout,
        seeds=clock.seeds,
        clock=clock,
    )
    return head, len(adapted)


def _forward(
    decoder: torch.nn.Module, bits: Bits, storage: Storage, operators: Operators
) -> tuple[FusedBlock | None, list[str]]:
    """The forward of ours where it fits, and the words for who computes."""
    config: Any = decoder.config
    text, device, dtype = config.get_text_config(), storage.device, storage.dtype
    notes = []
    if operators.attention == "auto":
        notes.append(who_serves(head_dim_of(text), device, dtype))
    ops, computes = choose_ops(operators.elementwise, text, device, dtype)
    block, chosen = choose_block(decoder, operators.block, bits, ops=ops)
    if block is None and operators.elementwise == "triton":
        raise InputError(f"--elementwise triton: expected the faster forward, got {chosen}")
    return block, notes + ([chosen] if block is None else [chosen, computes])


def _measured(decoder: torch.nn.Module, bits: Bits, attention: str, ways: str) -> str:
    """Verify every layer; the words for what was found."""
    try:
        verify_runs(decoder, bits)
    except InputError:
        raise
    except ValueError as error:
        # What the attention operators say of a device or a shape that they cannot serve.
        raise InputError(f"--attention {attention}: {error}") from error
    depth = len(bits[0])
    if differing(bits):
        return (
            f"measured: each of {len(bits)} {ways} sees to the right in its own of {depth} layers"
        )
    unmasked = [index for index, bit in enumerate(bits[0]) if bit]
    if not unmasked:
        return f"measured: none of the {depth} layers sees to the right"
    return f"measured: layers {_ranges(unmasked)} of {depth} see to the right"


def _keep_resident(decoder: torch.nn.Module, storage: Storage) -> tuple[bool, str]:
    """Whether dequantised weights stay in memory, and the words for it."""
    if storage.resident != "auto":
        keep = storage.resident == "yes"
        return keep, f"{'kept' if keep else 'not kept'} dequantised"
    size = sum(p.numel() for p in decoder.parameters()) * storage.dtype.itemsize
    free = free_memory(storage.device)
    if size <= free / 4:
        return True, f"kept dequantised (--resident auto: {mib(size)} of {mib(free)} free)"
    return False, f"dequantised in every step (--resident auto: {mib(size)} of {mib(free)} free)"


def _ranges(numbers: Sequence[int]) -> str:
    """``[0, 1, 2, 5]`` as ``0-2, 5``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
