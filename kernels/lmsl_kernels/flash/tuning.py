"""Which tile sizes a kernel runs with: tables by architecture, made offline, read once.

Nothing is tuned on the user's time. ``python -m benchmarks.tune`` writes the tables beside this
file; every entry is compiled for its architecture by ``python -m benchmarks.compile_report``,
which refuses spilled registers and too much shared memory.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Literal, get_args

import torch

Kernel = Literal[
    "single_forward", "single_backward", "tiled_forward", "backward_rows", "backward_keys"
]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
HEAD_DIMS = (32, 64, 80, 96, 128, 256)
SINGLE_TILES = (16, 32, 64, 128)
GROUPS = (1, 2, 4, 8)
MEDIUM = 1024
"""Longest sequence of regime M; longer ones are regime L."""


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """One entry of a table. A field that a kernel does not have is 0."""

    kernel: Kernel
    head_dim: int
    """Of the class, one of ``HEAD_DIMS``; other head dims are padded to the next."""
    longest: int
    """Longest sequence: the tile of regime S, ``MEDIUM``, or 0 for any length (regime L)."""
    group: int
    """Regime S: most query heads per kv head that it is for, one of ``GROUPS``, else 0. A group
    that has no entry takes the next, one of more than 8 the last, in several turns. A group above
    all entries of a length has no regime S there."""
    rows: int
    """Rows of a tile; in regime S those of a turn, a multiple or a part of ``longest``."""
    keys: int
    """Keys of a tile."""
    warps: int
    stages: int
    plain: bool = False
    """Only for calls without window and softcap, which then prefer it; there is always an entry
    for all calls too, or regime S ends earlier for the others."""
    described: bool = False
    """Regimes M and L: tiles come through descriptors (Hopper and later); there is always an entry
    without, for tensors that do not lie at multiples of 16 bytes."""
    swapped: bool = False
    """Regime S, backward: dk and dv are held with the head dim as rows."""

    @property
    def stack(self) -> int:
        """Regime S: how many query heads have rows in a turn."""
        return max(1, self.rows // self.longest)


def split_head_dim(head_dim: int) -> tuple[int, int, int]:
    """The class of a head dim and its two parts: the largest power of two inside, and the rest."""
    known = next(size for size in HEAD_DIMS if head_dim <= size)
    first = 1 << (known.bit_length() - 1)
    return known, first, known - first


def no_table(device: torch.device) -> str | None:
    """Why a device has no table, or ``None``."""
    if device.type != "cuda":
        return None
    if (found := _capability(device.index or 0)) < (8, 0):
        return f"it needs compute capability 8.0 or later, got {found[0]}.{found[1]}"
    name = architecture(device)
    return None if has_table(name) else f"this version has no table for {name}"


def has_table(name: str) -> bool:
    """Whether there is a table for an architecture."""
    return _table_file(name).is_file()


def architecture(device: torch.device) -> str:
    """The table of a device: its own, or that of the nearest that asks for no more."""
    if device.type != "cuda":
        # The interpreter computes what the kernel computes on the architecture it was made for.
        return "sm_90"
    major, minor = _capability(device.index or 0)
    if major == 8:
        return {0: "sm_80", 9: "sm_89"}.get(minor, "sm_86")
    return {9: "sm_90", 10: "sm_100"}.get(major, "sm_120")


def table_of(device: torch.device, dtype: torch.dtype) -> str:
    """The name of the table for a device and dtype.

    float32 is computed without matrix units, in tiles as small as the registers then hold: it has
    one table for all architectures.
    """
    if dtype == torch.float32 and device.type == "cuda":
        return "float32"
    return architecture(device)


@cache
def _capability(index: int) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)


# The name of an architecture, or entries to use in place of a table.
Table = str | tuple[Tiles, ...]


@cache
def read_table(table: Table) -> tuple[Tiles, ...]:
    """All entries of a table."""
    if isinstance(table, str):
        return parse_table(_table_file(table).read_text())
    return table


@cache
def head_dims_of(table: Table) -> tuple[int, ...]:
    """The head dims that a table has entries for: all, or those that were tuned."""
    return tuple(sorted({entry.head_dim for entry in read_table(table)}))


def _table_file(name: str) -> Traversable:
    return resources.files("lmsl_kernels") / "tables" / f"{name}.json"


def parse_table(text: str) -> tuple[Tiles, ...]:
    """The entries that ``format_table`` wrote."""
    entries: list[dict[str, Any]] = json.loads(text)
    return tuple(Tiles(**entry) for entry in entries)


def format_table(entries: Iterable[Tiles]) -> str:
    """JSON with one entry a line, in a fixed order, so that changes show as changed lines."""
    ordered = sorted(entries, key=lambda t: (t.head_dim, KERNELS.index(t.kernel), *_nearest(t)))
    return "[\n" + ",\n".join(json.dumps(asdict(entry)) for entry in ordered) + "\n]\n"


@cache
def longest_single(table: Table, head_dim: int, group: int, plain: bool) -> int:
    """The longest sequence of regime S for a head dim class; the others as in ``choose_tiles``."""
    lengths = {
        kernel: [
            entry.longest
            for entry in read_table(table)
            if (entry.kernel, entry.head_dim) == (kernel, head_dim)
            if entry.group >= min(group, GROUPS[-1]) and (plain or not entry.plain)
        ]
        for kernel in KERNELS
        if kernel.startswith("single")
    }
    return min(max(of_kernel, default=0) for of_kernel in lengths.values())


@cache
def choose_tiles(
    table: Table,
    kernel: Kernel,
    head_dim: int,
    max_seqlen: int,
    group: int,
    *,
    plain: bool,
    described: bool,
) -> Tiles:
    """The entry for sequences up to ``max_seqlen`` and ``group`` query heads per kv head.

    ``plain`` calls have neither window nor softcap; ``described`` ones have tensors that lie as
    descriptors want them. Both allow entries that then come first.
    """
    options = [
        entry
        for entry in read_table(table)
        if entry.kernel == kernel and entry.head_dim == head_dim
        if entry.longest >= max_seqlen or entry.longest == 0
        if (plain or not entry.plain) and (described or not entry.described)
    ]
    if kernel.startswith("single"):
        nearest = min(group, GROUPS[-1])
        options = [entry for entry in options if entry.group >= nearest]
    return min(options, key=_nearest)


def _nearest(entry: Tiles) -> tuple[int, bool, bool, int]:
    return entry.longest or 1 << 62, not entry.described, not entry.plain, entry.group
