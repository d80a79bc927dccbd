"""Putting a tagger together from a base model: mask, NF4, LoRA, heads. The same for a run that
begins and for one that is loaded, so that neither can differ from the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from lmsl.config.choices import Block, Elementwise, LabelAt, LoRA, Quantize, Resident
from lmsl.device import free_memory, mib
from lmsl.errors import InputError
from lmsl.layers.dropout import DropoutClock
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
    classes: int,
    label_at: LabelAt,
    lora: LoRA,
    head_dropout: float,
    seeds: Sequence[int],
    quantize: Quantize,
    resident: Resident,
    device: torch.device,
    dtype: torch.dtype,
    attention: str,
    block: Block = "auto",
    elementwise: Elementwise = "auto",
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
    decoder = base.decoder.to(device)
    text = decoder.config.get_text_config()
    assert len(seeds) == (1 if mixed else len(bits)), "the bits of a string for each seed"
    unmask_runs(decoder, bits, attention=attention)
    notes = _quantized(decoder, resident, device, dtype) if quantize == "nf4" else []
    targets = tuple(named_targets(decoder, lora.targets))
    clock = DropoutClock(seeds=tuple(seeds))
    adapted = add_lora(
        decoder,
        targets=targets,
        rank=lora.rank,
        alpha=lora.alpha,
        dropout=lora.dropout,
        seeds=seeds,
        clock=clock,
    )
    head = StackedHead(
        hidden=text.hidden_size,
        classes=classes,
        dropout=head_dropout,
        seeds=seeds,
        clock=clock,
    ).to(device)
    notes.append(_measured(decoder, bits, attention, "strings" if mixed else "runs"))
    if attention == "auto":
        notes.append(who_serves(head_dim_of(text), device, dtype))
    ops, computes = choose_ops(elementwise, text, device, dtype)
    fast, chosen = choose_block(decoder, block, bits, ops=ops)
    if fast is None and elementwise == "triton":
        raise InputError(f"--elementwise triton: expected the faster forward, got {chosen}")
    notes += [chosen] if fast is None else [chosen, computes]
    mixture = Mixture(bits=bits, seed=seeds[0]) if mixed else None
    own = None if mixed else differing(bits)
    tagger = Tagger(decoder, head, label_at, fast, own, mixture)
    trained = sum(p.numel() for p in tagger.parameters() if p.requires_grad)
    notes.append(
        f"LoRA rank {lora.rank} on {len(adapted)} layers ({', '.join(targets)}), "
        f"{trained:,} trained parameters"
    )
    settled = replace(lora, targets=targets)
    return Assembled(tagger=tagger, clock=clock, lora=settled, notes=tuple(notes))


def _quantized(
    decoder: torch.nn.Module, resident: Resident, device: torch.device, dtype: torch.dtype
) -> list[str]:
    """Quantise in place, where that was not done yet; what was done and what was left."""
    if any(isinstance(module, NF4Linear) for module in decoder.modules()):
        return []
    keep, reason = _keep_resident(decoder, resident, device, dtype)
    report = quantize_linears(decoder, resident=keep, dtype=dtype)
    done = (
        f"NF4: {len(report.quantised)} matrices, {mib(report.bytes_before)} to "
        f"{mib(report.bytes_after)}, {reason}"
    )
    left = [f"not quantised: {name} ({why})" for name, why in report.left if "expert" in why]
    return [done, *left]


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


def _keep_resident(
    decoder: torch.nn.Module, resident: Resident, device: torch.device, dtype: torch.dtype
) -> tuple[bool, str]:
    """Whether dequantised weights stay in memory, and the words for it."""
    if resident != "auto":
        return resident == "yes", f"{'kept' if resident == 'yes' else 'not kept'} dequantised"
    size = sum(p.numel() for p in decoder.parameters()) * dtype.itemsize
    free = free_memory(device)
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
