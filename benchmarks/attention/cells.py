"""What is measured of attention: shapes, lengths, and what the hardware could do at best.

A cell is one shape with one set of sentence lengths. Work is counted for the real tokens and the
pairs of tokens that see each other, whatever a contender computes beside them, so all contenders
of a cell are held against the same figures.

- Arithmetic: the forward has two matrix products, the backward five; each costs
  ``2 * head_dim`` operations for every visible pair of every query head. The softmax is not
  counted. Visible pairs of a sentence: ``n * n``, or ``n * (n + 1) / 2`` where it is causal.
- Memory: every input is read once and every result written once. The forward reads q, k and v and
  writes the output; the backward reads q, k, v and the output's gradient and writes dq, dk, dv.
- Floor: the longest of what arithmetic takes at the tensor cores' rate, what memory takes at its
  bandwidth and, in the forward, what the exponentials take; forward and backward add up. Caches
  may hold a whole small cell, so that memory's share of the floor can be undercut.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch

Direction = Literal["forward", "backward", "both"]
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward", "both")
# Sentences vary as those of CoNLL-2000 do: a deviation of 0.47 of the mean, the longest 3.3 times.
LOG_DEVIATION, LONGEST = 0.45, 3.5
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One shape with its lengths."""

    sentences: int
    mean_length: int
    is_causal: bool
    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 128
    equal: bool = False
    """All sentences are ``mean_length`` long; otherwise they vary as in real text."""
    dtype: str = "bfloat16"

    @property
    def name(self) -> str:
        """Short and unique."""
        group = self.heads // self.kv_heads
        shape = "MHA" if group == 1 else f"GQA{group}"
        lengths = f"{'=' if self.equal else '~'}{self.mean_length}"
        mask = "causal" if self.is_causal else "full"
        return f"{self.sentences}x{lengths} H{self.heads} {shape} D{self.head_dim} {mask}"

    def lengths(self, seed: int) -> tuple[int, ...]:
        """Tokens of each sentence; equal seeds give equal lengths."""
        if self.equal:
            return (self.mean_length,) * self.sentences
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.empty(self.sentences).log_normal_(
            math.log(self.mean_length) - LOG_DEVIATION**2 / 2, LOG_DEVIATION, generator=generator
        )
        longest = int(LONGEST * self.mean_length)
        return tuple(drawn.round().clamp(1, longest).int().tolist())


def visible_pairs(lengths: tuple[int, ...], is_causal: bool) -> int:
    """Pairs of a query and a key that it sees, of one head."""
    return sum(n * (n + 1) // 2 if is_causal else n * n for n in lengths)


def operations(cell: Cell, lengths: tuple[int, ...], direction: Direction) -> int:
    """Floating-point operations of the matrix products."""
    products = {"forward": 2, "backward": 5, "both": 7}[direction]
    pairs = visible_pairs(lengths, cell.is_causal)
    return products * 2 * cell.head_dim * cell.heads * pairs


def moved_bytes(cell: Cell, lengths: tuple[int, ...], direction: Direction) -> int:
    """The fewest bytes that have to move through the device's memory."""
    rows = {
        "forward": 2 * cell.heads + 2 * cell.kv_heads,
        "backward": 3 * cell.heads + 4 * cell.kv_heads,
    }
    rows["both"] = rows["forward"] + rows["backward"]
    return rows[direction] * sum(lengths) * cell.head_dim * DTYPES[cell.dtype].itemsize


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a device does at best, by its data sheet."""

    operations: float
    """16-bit matrix operations a second."""
    bytes: float
    """Bytes of memory a second."""
    exponentials: float
    """A second."""


# 16 exponentials a clock and multiprocessor, 132 multiprocessors, 1.83 GHz.
_HOPPER_EXPONENTIALS = 16 * 132 * 1.83e9
KNOWN_RATES = {
    "NVIDIA H200": Rates(operations=989.5e12, bytes=4.8e12, exponentials=_HOPPER_EXPONENTIALS),
    "NVIDIA H100 80GB HBM3": Rates(
        operations=989.5e12, bytes=3.35e12, exponentials=_HOPPER_EXPONENTIALS
    ),
}


def floor_seconds(
    cell: Cell, lengths: tuple[int, ...], direction: Direction, rates: Rates
) -> float:
    """The time below which only caches can help; see the head of this file."""
    if direction == "both":
        return sum(floor_seconds(cell, lengths, one, rates) for one in ("forward", "backward"))
    exponentials = cell.heads * visible_pairs(lengths, cell.is_causal)
    return max(
        operations(cell, lengths, direction) / rates.operations,
        moved_bytes(cell, lengths, direction) / rates.bytes,
        exponentials / rates.exponentials if direction == "forward" else 0.0,
    )


def headline_cells() -> list[Cell]:
    """The cells that goals are set for, the most telling first."""
    masks = (False, True)
    cells = [Cell(sentences=16, mean_length=32, is_causal=m, equal=True) for m in masks]
    for length in (32, 64, 128, 512, 16):
        cells += [Cell(sentences=64, mean_length=length, is_causal=m) for m in masks]
    # The longest and the shortest first: they set the scale.
    cells += [dense_cell(length, m) for length in (16384, 2048) for m in masks]
    for length in (32, 64, 128, 512, 16):
        cells += [Cell(sentences=64, mean_length=length, is_causal=m, kv_heads=32) for m in masks]
    return [*cells, *(dense_cell(length, m) for length in (8192, 4096) for m in masks)]


def other_cells() -> list[Cell]:
    """All further cells of the full table."""
    masks = (False, True)
    packed = [
        Cell(sentences=count, mean_length=length, is_causal=mask, kv_heads=kv_heads)
        for kv_heads in (8, 32)
        for count in (16, 256)
        for length in (16, 32, 64, 128, 512)
        for mask in masks
    ]
    return packed + [dense_cell(n, mask, kv_heads=4) for n in (2048, 16384) for mask in masks]


def dense_cell(length: int, is_causal: bool, kv_heads: int = 16) -> Cell:
    """Long sequences of equal length, 16k tokens in all."""
    return Cell(
        sentences=16384 // length,
        mean_length=length,
        is_causal=is_causal,
        heads=16,
        kv_heads=kv_heads,
        equal=True,
    )


def stream_cells() -> list[Cell]:
    """What streams of batches are drawn from."""
    return [
        Cell(sentences=count, mean_length=length, is_causal=mask)
        for length, count in ((32, 16), (64, 16), (16, 16), (32, 64), (64, 64), (128, 16))
        for mask in (False, True)
    ]


def quick_cells() -> list[Cell]:
    """Toy cells that any machine can do in seconds."""
    toy = {"sentences": 3, "mean_length": 6, "heads": 4, "kv_heads": 2, "head_dim": 16}
    return [Cell(**toy, is_causal=mask, dtype="float32") for mask in (False, True)]  # type: ignore[arg-type]
