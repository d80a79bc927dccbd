"""Which launches of a table entry are compiled: the variants, and how to make one of them.

Every entry serves both masks, windows and softcaps, unless it is for plain calls only.
Per-sequence masks, float32 and head dims between the classes, which few need to be fast, may spill
registers; the record then says so.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch

from benchmarks.compile_report.offline import Compiled, launch_digest
from lmsl_kernels.flash.call import make_call
from lmsl_kernels.flash.launch import Launch, backward_launches, forward_launches
from lmsl_kernels.flash.tuning import FLOAT32, HEAD_DIMS, KERNELS, MEDIUM, Tiles, read_table
from lmsl_kernels.plan import PackPlan

Scope = Literal["all", "hardest"]
"""All variants of an entry, or the hardest alone."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
LONG = 4096
KV_HEADS = 8
# Query heads per kv head where the entry does not say.
GROUP = 4
SEQUENCES = 8
# By how much the head dim of a padded variant is smaller than that of its class.
PADDING = 8


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What a call may ask of a kernel besides its shapes."""

    mask: Literal["bidirectional", "causal", "mixed"]
    windowed: bool = False
    softcapped: bool = False
    dense: bool = False
    padded: bool = False
    dtype: str = "bf16"

    @property
    def name(self) -> str:
        """For the record: the mask, then what is not plain."""
        marks = ("windowed", "softcapped", "dense", "padded")
        extra = [mark for mark in marks if getattr(self, mark)]
        return "-".join([self.mask, *extra, *([self.dtype] if self.dtype != "bf16" else [])])

    @property
    def may_spill(self) -> bool:
        """Whether spilled registers are recorded and no fault."""
        return self.mask == "mixed" or self.padded or self.dtype == "fp32"


PLAIN = (Variant(mask="causal"), Variant(mask="bidirectional"))
# With window and softcap kernels take as many registers as with either, or more; seen, not proven.
FULL = (
    Variant(mask="causal", windowed=True, softcapped=True),
    Variant(mask="bidirectional", windowed=True, softcapped=True),
)
# But without a window, the tiled kernels have one loop more.
SOFTCAPPED = Variant(mask="causal", softcapped=True)
# Of some entries only, see ``_special_cases``.
SPECIAL = (
    Variant(mask="mixed"),
    Variant(mask="bidirectional", dense=True),
    Variant(mask="causal", padded=True),
    Variant(mask="causal", dtype="fp16"),
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One launch to compile for one architecture."""

    architecture: str
    entry: Tiles
    variant: Variant
    group: int

    @property
    def name(self) -> str:
        """Unique among all cases."""
        entry = self.entry
        length = f"to{entry.longest}" if entry.longest else "any"
        marks = [mark for mark in ("plain", "described") if getattr(entry, mark)]
        place = "-".join([length, *([f"group{entry.group}"] if entry.group else []), *marks])
        return (
            f"{self.architecture} {entry.kernel} {entry.head_dim} {place} "
            f"{self.variant.name} group{self.group}"
        )

    @property
    def digest(self) -> str:
        """Names all that the result depends on, Triton's version apart."""
        return launch_digest(self.launch(), self.architecture)

    def fault(self, found: Compiled) -> str | None:
        """Why what it compiles to must not ship, or ``None``."""
        # Not in full float32 precision.
        matrix = self.variant.dtype != "fp32"
        return found.fault(self.architecture, may_spill=self.variant.may_spill, matrix=matrix)

    def launch(self) -> Launch:
        """On ``meta`` tensors, with ``group`` query heads per kv head."""
        entry, variant = self.entry, self.variant
        longest = entry.longest or LONG
        head_dim = entry.head_dim - PADDING * variant.padded
        rows, heads = SEQUENCES * longest, KV_HEADS * self.group
        lead = (SEQUENCES, longest) if variant.dense else (rows,)
        make = partial(torch.empty, device="meta")
        q = make(*lead, heads, head_dim, dtype=DTYPES[variant.dtype])
        k = make(*lead, KV_HEADS, head_dim, dtype=DTYPES[variant.dtype])
        plan = PackPlan(
            cu_seqlens=make(SEQUENCES + 1, dtype=torch.int32),
            max_seqlen=longest,
            lengths=(longest,) * SEQUENCES,
        )
        flags = make(SEQUENCES, dtype=torch.bool)
        call = make_call(
            q,
            k,
            k,
            plan=None if variant.dense else plan,
            is_causal=flags if variant.mask == "mixed" else variant.mask == "causal",
            window=longest // 2 if variant.windowed else None,
            softcap=30.0 if variant.softcapped else None,
            scale=head_dim**-0.5,
            table=_table_around(entry),
        )
        log_total = make(heads, rows, dtype=torch.float32)
        launches = [
            *forward_launches(call, q, k, k, q, log_total),
            *backward_launches(call, q, k, k, q, log_total, q, (q, k, k)),
        ]
        return next(launch for launch in launches if launch.tiles == entry)


def cases_of(
    architecture: str, head_dims: Iterable[int] = HEAD_DIMS, scope: Scope = "all"
) -> list[Case]:
    """What is compiled of an architecture: its own table, and, of all, that of float32."""
    slow, found = replace(FULL[0], dtype="fp32"), list[Case]()
    for head_dim in head_dims:
        for entry in (entry for entry in read_table(architecture) if entry.head_dim == head_dim):
            required = required_cases(architecture, entry)
            found += required[:1]
            if scope == "all":
                found += [*required[1:], *_special_cases(architecture, entry)]
        if scope == "all":
            own = [entry for entry in read_table(FLOAT32) if entry.head_dim == head_dim]
            found += [_case(architecture, entry, slow, GROUP) for entry in own]
    return found


def required_cases(architecture: str, entry: Tiles) -> list[Case]:
    """What an entry must compile to without a fault to be in a table.

    The hardest comes first: most candidates that fail at all fail there.
    """
    if entry.kernel.startswith("single"):
        rest: tuple[Variant, ...] = () if entry.plain else FULL[:1]
        pairs = [(variant, entry.group) for variant in (*rest, *PLAIN)]
        if entry.stack < entry.group:
            # The smaller group is done in one turn, and the compiler drops the loop.
            pairs += [(variant, entry.stack) for variant in PLAIN]
    else:
        rest = () if entry.plain else (*FULL, SOFTCAPPED)
        pairs = [(variant, GROUP) for variant in (*rest, *PLAIN)]
        pairs += [(PLAIN[0], 1)] if entry.kernel == "backward_keys" else []
    return [_case(architecture, entry, variant, group) for variant, group in pairs]


def _special_cases(architecture: str, entry: Tiles) -> list[Case]:
    """Rarer variants, for head dim 128 only: of sentences up to 64 tokens, M, and descriptors."""
    sentences = entry.group == GROUP and entry.longest <= 64
    if entry.head_dim != 128 or not (sentences or entry.longest == MEDIUM or entry.described):
        return []
    return [_case(architecture, entry, variant, entry.group or GROUP) for variant in SPECIAL]


def _case(architecture: str, entry: Tiles, variant: Variant, group: int) -> Case:
    return Case(architecture=architecture, entry=entry, variant=variant, group=group)


def _table_around(entry: Tiles) -> tuple[Tiles, ...]:
    """A table that has the entry, and one for each kernel that a call of its regime looks up."""
    single = entry.kernel.startswith("single")
    regime = [name for name in KERNELS if name.startswith("single") == single]
    return tuple(replace(entry, kernel=name) for name in regime)
