"""Putting a tagger together from a base model: mask, NF4, LoRA, heads. The same for a run that
begins and for one that is loaded, so that neither can differ from the other.

An encoder goes the same way: its layers see to the right by nature, and a string can make them
causal. Where its attention does not go through transformers' interface nothing can change what it
sees, so only ``full`` is possible there.
"""

from collections.abc import Sequence
from contextlib import nullcontext
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
from lmsl.layers.head import Head, LanguageHead, StackedHead
from lmsl.layers.lora import add_lora
from lmsl.layers.quantize import NF4Linear, quantize_linears
from lmsl.layers.targets import named_targets
from lmsl.mask.attention import who_serves
from lmsl.mask.bits import Bits
from lmsl.mask.flags import differing
from lmsl.mask.probing import verify_runs
from lmsl.mask.unmasking import flagged, note_bits, unmask_runs, why_not_unmasked
from lmsl.tagger.base import Base
from lmsl.tagger.calling import Calling, calling_of
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
    lora: LoRA | None
    """None: all weights of the model are trained."""
    head_dropout: float


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """A tagger for a stack of runs, and what its assembly chose."""

    base: Base
    """Of whose modules the tagger is made."""
    tagger: Tagger
    clock: DropoutClock
    lora: LoRA | None
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
    own_head: bool = False,
) -> Assembled:
    """Turn a loaded decoder, in place, into a tagger whose layers provably obey ``bits``.

    Args:
        base: as loaded, or from an earlier assembly with the adapters taken off again.
        bits: of the layers of ``base``, for each of ``seeds``.
        mixed: they are those of the strings of which each sentence of the only run draws one.
        own_head: the language model's own head takes the place of trained classifiers, so that
            the labels are its vocabulary.

    Raises:
        InputError: the targets do not fit the model, the model cannot be unmasked, a layer,
            measured, does not do what its bit says, ``block`` is ``own`` and the model's layers
            are not Llama-shaped, ``elementwise`` is ``triton`` and that cannot serve, or several
            runs are asked of what can train one.
    """
    decoder = base.decoder.to(storage.device)
    assert len(seeds) == (1 if mixed else len(bits)), "the bits of a string for each seed"
    through = base.kind == "decoder" or why_not_unmasked(decoder) is None
    if through:
        unmask_runs(decoder, bits, attention=operators.attention)
    else:
        _leave_unmasked(base, bits, operators.attention)
    calling, padded = Calling(), None
    if base.kind == "encoder":
        # The layers of a stack of differing runs have no flag that a call alone could go by.
        with flagged(decoder, bits[0]) if through else nullcontext():
            calling, padded = calling_of(decoder, through_interface=through)
    alone = why_alone(trained.lora is None, padded=padded is not None)
    if alone is not None and len(seeds) > 1:
        raise InputError(f"--stack {len(seeds)}: expected 1, {alone}")
    notes = _quantized(decoder, storage) if storage.quantize == "nf4" else []
    clock = DropoutClock(seeds=tuple(seeds))
    settled, adapted = _adapted(decoder, trained.lora, clock)
    runs = len(seeds)
    head: Head = language_head(base, runs) if own_head else _classifiers(decoder, trained, clock)
    notes.append(_measured(decoder, bits, operators.attention, "strings" if mixed else "runs"))
    block, chosen = _forward(
        decoder,
        bits,
        storage,
        operators,
        all_weights=trained.lora is None,
        reached=through,
    )
    if base.kind == "encoder":
        chosen.append(f"padded: {padded}" if padded else "packed: sentences end to end")
    mixture = Mixture(bits=bits, seed=seeds[0]) if mixed else None
    own = None if mixed else differing(bits)
    place = head.to(storage.device)
    tagger = Tagger(decoder, place, trained.label_at, block, own, mixture, calling)
    count = sum(p.numel() for p in tagger.parameters() if p.requires_grad)
    beside = "" if trained.lora is None else f" over {base.parameters:,} frozen ones"
    chosen.append(f"{adapted}, {count:,} trained parameters{beside}")
    return Assembled(base=base, tagger=tagger, clock=clock, lora=settled, notes=(*notes, *chosen))


def _leave_unmasked(base: Base, bits: Bits, attention: str) -> None:
    """Refuse everything but ``full`` for an encoder whose attention nothing of ours reaches."""
    kind = base.decoder.config.model_type
    if not all(map(all, bits)):
        raise InputError(
            f"--unmask: {base.name} ({kind}) can only be full: its attention does not go through "
            "transformers' interface, so nothing can change what it sees"
        )
    if attention != "auto":
        raise InputError(
            f"--attention {attention}: {base.name} ({kind}) brings an attention of its own; "
            "expected auto"
        )
    note_bits(base.decoder, bits)


def why_alone(all_weights: bool, *, padded: bool) -> str | None:
    """Why a run can have no company in a stack; None where it can.

    Args:
        all_weights: of the model are trained.
        padded: it takes no packs.
    """
    if not (all_weights or padded):
        return None
    reason = "a padded model" if padded else "all weights (--tune full)"
    return f"{reason} can train one run at a time"


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


def _adapted(
    decoder: torch.nn.Module, lora: LoRA | None, clock: DropoutClock
) -> tuple[LoRA | None, str]:
    """Put adapters on, in place, or let all weights be trained; LoRA with its targets made
    definite, and the words for it."""
    if lora is None:
        decoder.requires_grad_(True)
        return None, "full fine-tuning"
    settled = replace(lora, targets=tuple(named_targets(decoder, lora.targets)))
    adapted = add_lora(
        decoder,
        targets=settled.targets,
        rank=settled.rank,
        alpha=settled.alpha,
        dropout=settled.dropout,
        seeds=clock.seeds,
        clock=clock,
    )
    names = ", ".join(settled.targets)
    return settled, f"LoRA rank {settled.rank} on {len(adapted)} layers ({names})"


def _classifiers(decoder: torch.nn.Module, trained: Trained, clock: DropoutClock) -> Head:
    """Of all runs."""
    config: Any = decoder.config
    return StackedHead(
        hidden=config.get_text_config().hidden_size,
        classes=trained.classes,
        dropout=trained.head_dropout,
        seeds=clock.seeds,
        clock=clock,
    )


def language_head(base: Base, runs: int) -> LanguageHead:
    """What a language model has in the place of classifiers, for so many runs."""
    assert base.causal_lm is not None, "a base without its language-model head"
    return LanguageHead(
        base.causal_lm.get_output_embeddings(),
        softcap=getattr(base.causal_lm.config.get_text_config(), "final_logit_softcapping", None),
        runs=runs,
    )


def _forward(
    decoder: torch.nn.Module,
    bits: Bits,
    storage: Storage,
    operators: Operators,
    *,
    all_weights: bool,
    reached: bool,
) -> tuple[FusedBlock | None, list[str]]:
    """The forward of ours where it fits, and the words for who computes.

    Args:
        all_weights: are trained, which the forward of ours cannot do.
        reached: the attention is served through transformers' interface.
    """
    config: Any = decoder.config
    text, device, dtype = config.get_text_config(), storage.device, storage.dtype
    notes = []
    if operators.attention == "auto" and reached:
        notes.append(who_serves(head_dim_of(text), device, dtype))
    if all_weights and operators.block == "own":
        raise InputError("--block own: expected frozen weights, got --tune full; use plain")
    ops, computes = choose_ops(operators.elementwise, text, device, dtype)
    block, chosen = None, "block: transformers' own forward (--tune full)"
    if not all_weights:
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
    picture = "".join(".#"[bit] for bit in bits[0])
    return f"measured: layers {_ranges(unmasked)} of {depth} see to the right, {picture}"


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
