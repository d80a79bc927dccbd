"""A trained run put together again: its base as it was in training, adapted as it was left."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lmsl.config.choices import Quantize, Resident, check_choice
from lmsl.device import choose_device, choose_dtype
from lmsl.errors import InputError
from lmsl.layers.peft_format import load_adapter
from lmsl.mask.bits import layer_bits
from lmsl.mask.unmasking import stored_string
from lmsl.run_directory.digests import check_base, check_run_files
from lmsl.run_directory.folder import is_loaded
from lmsl.run_directory.info import RunInfo
from lmsl.tagger.assemble import Assembled, Operators, Storage, Trained, assemble
from lmsl.tagger.base import Base, load_base
from lmsl.tagger.source import TINY


@dataclass(frozen=True, kw_only=True)
class Restored:
    """A run without what its task adds to the adapted base."""

    assembled: Assembled
    device: torch.device
    autocast: torch.dtype | None


def restore_run(
    folder: Path,
    info: RunInfo,
    *,
    device: str | None,
    attention: str | None,
    quantize: Quantize | None,
    resident: Resident,
    allow_changed_base: bool,
    causal_lm: bool,
    say: Callable[[str], None],
) -> Restored:
    """Assemble the base of a run and load its adapter; arguments as of ``Labeler.load``.

    Raises:
        InputError: files of the run or of its base are damaged, changed or gone, or do not fit.
    """
    quantize = info.quantize if quantize is None else quantize
    if info.lora is None and quantize == "nf4":
        raise InputError(f"--quantize nf4: {folder} was trained as a whole; expected none")
    check_choice("--quantize", quantize, Quantize)
    check_choice("--resident", resident, Resident)
    place = choose_device(device or "auto")
    dtype = choose_dtype(info.dtype, place)
    base = _base_of(folder, info, dtype, allow_changed_base, causal_lm, say)
    assembled = assemble(
        base,
        bits=[_bits_of(base, info)],
        seeds=(info.seed,),
        trained=Trained(
            classes=len(info.labels),
            label_at=info.label_at,
            lora=None if info.lora is None else replace(info.lora, dropout=0.0),
            head_dropout=0.0,
        ),
        storage=Storage(quantize=quantize, resident=resident, device=place, dtype=dtype),
        operators=Operators(
            attention=attention or "auto",
            # Its own forward again, so that its predictions are those it was scored on.
            block="plain" if info.block == "plain" else "auto",
        ),
        own_head=info.generation is not None,
    )
    if info.lora is not None:
        load_adapter(assembled.tagger.decoder, 0, folder)
    assembled.tagger.eval()
    autocast = None if dtype == torch.float32 else dtype
    return Restored(assembled=assembled, device=place, autocast=autocast)


def _base_of(
    folder: Path,
    info: RunInfo,
    dtype: torch.dtype,
    allow_changed_base: bool,
    causal_lm: bool,
    say: Callable[[str], None],
) -> Base:
    """The base model of a run, both as they were in training; the model in the run itself where
    all weights were trained."""
    if info.digests is None:
        say(f"{folder}: older than digests of runs; taken as it is, unchecked")
    else:
        check_run_files(folder, info.digests, is_loaded)
    if info.lora is None:
        return load_base(str(folder), dtype=torch.float32)
    try:
        base = load_base(
            info.base,
            revision=None if info.base == TINY else info.revision,
            exit_layer=info.exit_layer,
            dtype=dtype,
            causal_lm=causal_lm,
        )
    except InputError as error:
        raise InputError(f"{folder}: its base model: {error}") from error
    if info.digests is not None:
        check_base(base.folder, info.digests, allowed=allow_changed_base, say=say)
    return base


def _bits_of(base: Base, info: RunInfo) -> tuple[bool, ...]:
    """Which layers of a run see to the right, a bit for each that is kept."""
    if info.lora is None:
        # Its model has no more layers than are kept, and says it of each.
        return layer_bits(stored_string(base.decoder)[0], base.depth)
    return layer_bits(info.unmask, base.depth)[: info.exit_layer]
