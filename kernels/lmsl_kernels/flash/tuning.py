"""Which tile sizes a kernel runs with: tables by architecture, made offline, read once.

Nothing is tuned on the user's time. ``python -m benchmarks.tune`` writes the tables in
``lmsl_kernels/tables``; those of architectures with less shared memory follow from the one of
sm_80 by a rule, and that of float32 from nothing but the head dims. Every entry is compiled for
its architecture by ``python -m benchmarks.compile_report``, which refuses spilled registers and
too much shared memory.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Literal, get_args

import torch

Kernel = Literal[
    "single_forward", "single_backward", "tiled_forward", "backward_rows", "backward_keys"
]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)
# Those with a table, and those that have what is left of one in 99 KB of shared memory.
TUNED = ("sm_80", "sm_90", "sm_100")
DERIVED = ("sm_86", "sm_89", "sm_120")
FLOAT32 = "float32"
ARCHITECTURES = (*TUNED, *DERIVED)
HEAD_DIMS = (32, 64, 80, 96, 128, 256)
SINGLE_TILES = (16, 32, 64, 128)
GROUPS = (1, 2, 4, 8)
MEDIUM = 1024
"""Longest sequence of regime M; longer ones are regime L."""


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """One entry of a table. A field that a kernel does not have is 0.

    Who looks for entries begins with one that has no tiles yet.
    """

    kernel: Kernel
    head_dim: int
    """Of the class, one of ``HEAD_DIMS``; other head dims are padded to the next."""
    longest: int
    """Longest sequence: the tile of regime S, ``MEDIUM``, or 0 for any length (regime L)."""
    group: int = 0
    """Regime S: most query heads per kv head that it is for, one of ``GROUPS``, else 0. A group
    that has no entry takes the next, one of more than 8 the last, in several turns. A group above
    all entries of a length has no regime S there."""
    rows: int = 0
    """Rows of a tile; in regime S those of a turn, a multiple or a part of ``longest``."""
    keys: int = 0
    """Keys of a tile."""
    warps: int = 0
    stages: int = 0
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
    if device.type == "cuda" and (found := _capability(device.index or 0)) < (8, 0):
        return f"it needs compute capability 8.0 or later, got {found[0]}.{found[1]}"
    return None


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
        return FLOAT32
    return architecture(device)


@cache
def _capability(index: int) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)


# The name of an architecture, or entries to use in place of a table.
Table = str | tuple[Tiles, ...]


@cache
def read_table(table: Table) -> tuple[Tiles, ...]:
    """All entries of a table."""
    if not isinstance(table, str):
        return table
    if table == FLOAT32:
        return tuple(_float32_entries())
    file = _table_file(table)
    entries = parse_table(file.read_text()) if file.is_file() else ()
    if table in DERIVED:
        measured = {entry.head_dim for entry in entries}
        derived = derived_entries(read_table("sm_80"))
        entries += tuple(entry for entry in derived if entry.head_dim not in measured)
    return entries


# The longest sentence in one tile of a derived table whose query heads may be stacked.
LONGEST_STACK = {32: 64, 64: 64, 80: 0, 96: 0, 128: 64, 256: 16}


def derived_entries(entries: Iterable[Tiles]) -> Iterator[Tiles]:
    """What of the entries of sm_80 is left where shared memory is 99 KB, the registers the same.

    Beside the operands that then lie in registers there is room for less of everything: stacks of
    query heads are lower and end sooner, above all where a head dim is held in two parts, more
    warps share a tile, and there are no larger tiles for long sequences. Coarser than a search
    for each of these architectures; ``kernels/README.md`` says what of it was compiled.
    """
    found: dict[tuple[Any, ...], Tiles] = {}
    for entry in entries:
        tiled = not entry.kernel.startswith("single")
        if tiled and entry.longest == 0:
            continue
        smaller = _smaller_tiled(entry) if tiled else _smaller_single(entry)
        if smaller is not None:
            found.setdefault((smaller.kernel, smaller.head_dim, *_nearest(smaller)), smaller)
    yield from found.values()


def _smaller_tiled(entry: Tiles) -> Tiles:
    """The tiles of regime M, for any length."""
    if entry.rows * entry.head_dim > 64 * 128:
        return replace(entry, longest=0, rows=32, keys=32, warps=4, stages=1)
    rows, keys = entry.rows, entry.keys
    if entry.kernel == "backward_keys" and entry.head_dim > 64:
        rows = 32
    if split_head_dim(entry.head_dim)[2] and entry.kernel != "tiled_forward":
        keys = 32
    many = rows * keys > 32 * 32 and (entry.head_dim > 32 or entry.kernel == "backward_keys")
    warps = 8 if many else entry.warps
    return replace(entry, longest=0, rows=rows, keys=keys, warps=warps)


def _smaller_single(entry: Tiles) -> Tiles | None:
    group, rows = entry.group, min(entry.rows, 64 * 256 // entry.head_dim)
    if entry.longest > LONGEST_STACK[entry.head_dim]:
        if entry.stack > 1:
            return None
        group = 1
    elif entry.kernel == "single_backward" and entry.longest == 64 and group > 1:
        rows = min(rows, 32)
    warps = 8 if entry.longest >= 64 else entry.warps
    return replace(entry, group=group, rows=rows, warps=warps)


def _float32_entries() -> Iterator[Tiles]:
    """Products of float32 are sums in registers, which spill with any larger tile."""
    for kernel in KERNELS:
        for head_dim in HEAD_DIMS if not kernel.startswith("single") else ():
            yield Tiles(
                kernel=kernel,
                head_dim=head_dim,
                longest=0,
                rows=16,
                keys=16,
                warps=4,
                stages=1,
            )


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
