"""What all launches of one attention call have in common: sizes, mask, regime, tiles."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lmsl_kernels.flash.tuning import (
    MEDIUM,
    Kernel,
    Table,
    Tiles,
    choose_tiles,
    longest_single,
    split_head_dim,
    table_of,
)
from lmsl_kernels.plan import PackPlan

Regime = Literal["single", "medium", "long"]
TAIL_PROGRAMS = 32
INT32_MAX = 2**31 - 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Call:
    """What all launches of one attention call, forward and backward, have in common."""

    plan: PackPlan | None
    """``None`` for a dense call."""
    flags: Tensor | None
    """uint8 [sequences], or ``None`` when all sequences share ``is_causal``."""
    is_causal: bool
    window: int | None
    softcap: float | None
    scale: float
    table: Table
    sequences: int
    rows: int
    max_seqlen: int
    heads: int
    kv_heads: int
    head_dim: int
    described: bool
    """Whether the tensors lie as the copy engine of Hopper and later wants them."""

    @property
    def plain(self) -> bool:
        """Whether there is neither a window nor a softcap."""
        return self.window is None and self.softcap is None

    @property
    def regime(self) -> Regime:
        size = split_head_dim(self.head_dim)[0]
        if self.max_seqlen <= longest_single(self.table, size, self.group, self.plain):
            return "single"
        return "medium" if self.max_seqlen <= MEDIUM else "long"

    @property
    def group(self) -> int:
        return self.heads // self.kv_heads

    @property
    def tail_programs(self) -> int:
        """Programs that zero rows of no sequence; none where there are surely no such rows."""
        if self.plan is None:
            return 0
        known = self.plan.lengths
        return 0 if known is not None and sum(known) == self.rows else TAIL_PROGRAMS

    def tiles(self, kernel: Kernel) -> Tiles:
        size = split_head_dim(self.head_dim)[0]
        return choose_tiles(
            self.table,
            kernel,
            size,
            max(1, self.max_seqlen),
            self.group,
            plain=self.plain,
            described=self.described,
        )


def make_call(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    plan: PackPlan | None,
    is_causal: bool | Tensor,
    window: int | None,
    softcap: float | None,
    scale: float,
    table: Table | None = None,
) -> Call:
    """The common part of a call on checked tensors; ``table`` overrides the device's own."""
    max_seqlen = q.shape[1] if plan is None else plan.max_seqlen
    # By address alone, as the kernel reads them.
    flags = is_causal.contiguous().view(torch.uint8) if isinstance(is_causal, Tensor) else None
    return Call(
        plan=plan,
        flags=flags,
        is_causal=is_causal is True,
        # Where no two tokens are that far apart, the window is none.
        window=None if window is None or window >= max_seqlen else window,
        # Triton compiles anew for an integer, and knows no numbers of numpy.
        softcap=None if softcap is None else float(softcap),
        scale=float(scale),
        table=table_of(q.device, q.dtype) if table is None else table,
        sequences=q.shape[0] if plan is None else plan.sequences,
        rows=q.shape[0] if plan is not None else q.shape[0] * q.shape[1],
        max_seqlen=max_seqlen,
        heads=q.shape[-2],
        kv_heads=k.shape[-2],
        head_dim=q.shape[-1],
        described=all(map(describable, (q, k, v))),
    )


def describable(x: Tensor) -> bool:
    """Whether a tile descriptor can point into ``x``: everything a multiple of 16 bytes.

    What is expanded, tokens or heads on top of each other, is left to pointers.
    """
    strides = [stride * x.element_size() for stride in x.stride()[:-1]]
    aligned = all(place % 16 == 0 for place in (x.data_ptr(), *strides))
    return x.stride(-1) == 1 and aligned and all(strides)


def ready(x: Tensor) -> Tensor:
    """``x`` itself, or a copy where its strides do not suit: the last dimension must be dense.

    Positions inside a tile are int32, which only heads further apart than 2**31 elements exceed.
    """
    spread = 512 * x.stride(-3) + x.shape[-2] * x.stride(-2)
    return x if x.stride(-1) == 1 and spread <= INT32_MAX else x.contiguous()
