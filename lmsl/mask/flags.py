"""Which layers of which run of a stack see to the right.

Runs of one stack have different unmask strings, so a layer has no flag of its own where they
differ: every pack says it for each of its sequences. Where they agree, one bool serves the layer,
and with it the faster paths of the attention operator.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lmsl.mask.bits import Bits


def differing(bits: Bits) -> Bits | None:
    """The bits, or None where all runs agree: then the layers' own flags say everything."""
    return bits if len({tuple(own) for own in bits}) > 1 else None


def pack_flags(
    bits: Bits, sequences: Sequence[int], device: torch.device
) -> tuple[bool | Tensor, ...]:
    """What ``PackedAttention.is_causal`` is for a pack of all runs.

    Args:
        bits: of every run.
        sequences: how many sequences of the pack each run has, filling included.

    Returns:
        For each layer a bool, or bool [sequences] where runs differ. Layers with the same pattern
        share one tensor, rows of a single one, so that masks made of it serve all of them.
    """
    by_layer = list(zip(*bits, strict=True))
    mixed = list(dict.fromkeys(own for own in by_layer if len(set(own)) > 1))
    counts = np.asarray(sequences, dtype=np.int64)
    rows = np.array([np.repeat(~np.array(own, dtype=bool), counts) for own in mixed], dtype=bool)
    placed = torch.from_numpy(rows).to(device, non_blocking=True)
    flags = dict(zip(mixed, placed, strict=True))
    return tuple(flags[own] if own in flags else not own[0] for own in by_layer)
