"""Which tile sizes a kernel runs with: tables by architecture, made offline, read once.

Nothing is tuned on the user's time. ``python -m benchmarks.tune`` writes the tables beside this
file; every entry is compiled for its architecture by ``python -m benchmarks.compile_report``,
which refuses spilled registers and too much shared memory.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import torch

Kernel = Literal[
    "single_forward", "single_backward", "tiled_forward", "backward_rows", "backward_keys"
]
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
    """Regime S: query heads per kv head, one of ``GROUPS``; other groups take the next entry."""
    rows: int
    """Rows of a tile; in regime S ``stack * longest``."""
    keys: int
    """Keys of a tile."""
    warps: int
    stages: int
    described: bool = False
    """Regimes M and L: tiles come through descriptors (Hopper and later); there is always an entry
    without, for tensors that do not lie at multiples of 16 bytes."""
    swapped: bool = False
    """Regime S, backward: dk and dv are held with the head dim as rows."""

    @property
    def stack(self) -> int:
        """Regime S: how many query heads share a tile."""
        return self.rows // self.longest


def split_head_dim(head_dim: int) -> tuple[int, int, int]:
    """The class of a head dim and its two parts: the largest power of two inside, and the rest."""
    known = next(size for size in HEAD_DIMS if head_dim <= size)
    first = 1 << (known.bit_length() - 1)
    return known, first, known - first


def too_old(device: torch.device) -> str | None:
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


@cache
def _capability(index: int) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)


@cache
def read_table(name: str) -> tuple[Tiles, ...]:
    """All entries of an architecture."""
    file = resources.files("lmsl_kernels") / "tables" / f"{name}.json"
    entries: list[dict[str, Any]] = json.loads(file.read_text())
    return tuple(Tiles(**entry) for entry in entries)


@cache
def longest_single(name: str, head_dim: int) -> int:
    """The longest sequence of regime S for a head dim class."""
    return max(
        (
            t.longest
            for t in read_table(name)
            if t.kernel[:6] == "single" and t.head_dim == head_dim
        ),
        default=0,
    )


@cache
def choose_tiles(
    name: str, kernel: Kernel, head_dim: int, max_seqlen: int, group: int, described: bool
) -> Tiles:
    """The entry for sequences up to ``max_seqlen`` and ``group`` query heads per kv head.

    ``described`` allows entries with descriptors, which then come first.
    """
    single = kernel.startswith("single")
    options = [
        entry
        for entry in read_table(name)
        if entry.kernel == kernel and entry.head_dim == head_dim
        if entry.longest >= max_seqlen or entry.longest == 0
        if described or not entry.described
    ]
    nearest = min(group, GROUPS[-1])
    if single:
        options = [entry for entry in options if entry.group >= nearest]
    return min(options, key=_nearest)


def _nearest(entry: Tiles) -> tuple[int, int, bool]:
    return entry.longest or 1 << 62, entry.group, not entry.described
