"""The plan of a pack: what every layer, forward and backward, needs to know about its sentences.

A pack is sentences laid end to end; ``cu_seqlens`` holds where each starts and, last, where the
pack ends. Whoever builds the pack knows the lengths on the host, so the plan keeps them there:
no layer then has to ask the device for them. The plan is built once per batch; an implementation
keeps what it derives from it (indices, masks) in ``PackPlan.cache``, so that it lives exactly as
long as the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class PackPlan:
    """Where the sentences of one pack lie, on the device and, where known, on the host."""

    cu_seqlens: Tensor
    """int32 [sequences + 1] on the device of the pack: where sequences start, then the end."""
    max_seqlen: int
    """Tokens of the longest sequence, or an upper bound of it."""
    capacity: int | None = None
    """Most token rows that a call under this plan may hold; ``None`` is no limit."""
    lengths: tuple[int, ...] | None = None
    """Tokens of each sequence when the host knows them, else ``None``."""
    cache: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What implementations derived from this plan. Only they read and write it."""

    def __post_init__(self) -> None:
        # Kernels read it by its address alone.
        assert self.cu_seqlens.dtype == torch.int32 and self.cu_seqlens.is_contiguous()

    @property
    def sequences(self) -> int:
        """Number of sequences, empty ones included."""
        return self.cu_seqlens.numel() - 1

    def work_list(self, rows: int, block: int, *, last_first: bool) -> Tensor:
        """(sequence, tile) of all tiles of ``block`` tokens: int32 [items, 2], on the device.

        Made on first use. With lengths known the longest sequences come first; without, from
        device arithmetic alone, there are as many items as ``rows`` tokens can need, and those
        that are not needed have sequence -1. ``last_first`` counts the tiles of a sequence down.

        A captured CUDA graph makes its own list: one made before would not follow the lengths.
        """
        captured = self.lengths is None and _capturing(self.cu_seqlens)
        key = ("work", rows, block, last_first, captured)
        if key not in self.cache:
            make = _device_work if self.lengths is None else _host_work
            self.cache[key] = make(self, rows, block, last_first)
        work: Tensor = self.cache[key]
        return work


def plan_pack(
    cu_seqlens: Tensor | Sequence[int],
    max_seqlen: int | None = None,
    capacity: int | None = None,
    *,
    device: torch.device | str | None = None,
    check: bool = False,
) -> PackPlan:
    """Plan a pack from ``cu_seqlens`` (int32 [sequences + 1]).

    A list or a tensor on the CPU is read and checked here, and ``max_seqlen`` may then be left
    out. A tensor elsewhere is not read, so ``max_seqlen`` is needed and what is in it is trusted;
    ``check``, for finding mistakes, reads and checks it all the same and makes the host wait.
    ``device`` is where the pack lives, by default where ``cu_seqlens`` is.

    In a captured CUDA graph make the plan inside the capture, from a tensor on the device, with
    bounds as ``max_seqlen`` and ``capacity``: replays then follow what the tensor holds.
    """
    if not isinstance(cu_seqlens, Tensor):
        cu_seqlens = torch.tensor(list(cu_seqlens), dtype=torch.int32)
    if cu_seqlens.dim() != 1 or cu_seqlens.numel() < 1:
        raise ValueError(
            f"cu_seqlens must be one-dimensional with sequences + 1 entries, "
            f"got shape {tuple(cu_seqlens.shape)}"
        )
    if cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"cu_seqlens must be int32, got {cu_seqlens.dtype}")
    lengths = None
    # What a compiler traces holds for every pack, so it reads none.
    compiling = torch.compiler.is_compiling()
    if check or (cu_seqlens.device.type == "cpu" and not compiling):
        lengths = _host_lengths(cu_seqlens.tolist())
        longest = max(lengths, default=0)
        if max_seqlen is not None and max_seqlen < longest:
            raise ValueError(
                f"max_seqlen must be at least the longest, {longest}, got {max_seqlen}"
            )
        max_seqlen = longest if max_seqlen is None else max_seqlen
        if capacity is not None and capacity < sum(lengths):
            raise ValueError(f"capacity must hold {sum(lengths)} tokens, got {capacity}")
    if max_seqlen is None:
        raise ValueError(
            f"max_seqlen is needed with cu_seqlens on {cu_seqlens.device}: reading it from the "
            "device would make every batch wait; pass the longest length, known where the pack "
            "was built"
        )
    if max_seqlen < 0:
        raise ValueError(f"max_seqlen must be at least 0, got {max_seqlen}")
    on_host = cu_seqlens.device.type == "cpu"
    # A copy of its own: the caller may write to the tensor again.
    source = cu_seqlens.to(torch.int32, copy=True) if on_host else cu_seqlens
    if on_host and device is not None and not compiling:
        source = sent(source, torch.device(device))
    return PackPlan(
        cu_seqlens=source.to(device, torch.int32, non_blocking=on_host).contiguous(),
        max_seqlen=int(max_seqlen),
        capacity=capacity,
        lengths=lengths,
    )


def plan_lengths(lengths: Sequence[int], device: torch.device | str | None = None) -> PackPlan:
    """Plan a pack from the lengths of its sequences, known on the host."""
    return plan_pack(list(accumulate(lengths, initial=0)), device=device)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """What was made on the host, on the device of the pack; nobody waits for what that does.

    A copy from memory that is not pinned waits, or is taken aside first.
    """
    # lmsl.device has these lines too: the kernels stand alone, and only attention and the fused
    # layers of lmsl may ask them for something.
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _capturing(tensor: Tensor) -> bool:
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


def _host_lengths(starts: list[int]) -> tuple[int, ...]:
    if starts[0] != 0:
        raise ValueError(f"cu_seqlens must start with 0, got {starts[0]}")
    lengths = tuple(end - start for start, end in pairwise(starts))
    if any(length < 0 for length in lengths):
        raise ValueError(f"cu_seqlens must not decrease, got {starts[:8]}...")
    return lengths


def _host_work(plan: PackPlan, rows: int, block: int, last_first: bool) -> Tensor:
    assert plan.lengths is not None
    lengths = np.array(plan.lengths, dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    tiles = -(-lengths[order] // block)
    sequence = np.repeat(order, tiles)
    tile = np.arange(len(sequence)) - np.repeat(tiles.cumsum() - tiles, tiles)
    if last_first:
        tile = np.repeat(tiles, tiles) - 1 - tile
    work = torch.from_numpy(np.stack([sequence, tile], axis=1).astype(np.int32))
    return sent(work, plan.cu_seqlens.device)


def _device_work(plan: PackPlan, rows: int, block: int, last_first: bool) -> Tensor:
    if plan.sequences == 0:
        return plan.cu_seqlens.new_empty(0, 2)
    lengths = plan.cu_seqlens[1:] - plan.cu_seqlens[:-1]
    tiles = (lengths + block - 1) // block
    ends = tiles.cumsum(0)
    most = rows // block + plan.sequences
    item = torch.arange(most, device=lengths.device)
    sequence = torch.searchsorted(ends, item, right=True)
    used = sequence < plan.sequences
    sequence = sequence.clamp(max=plan.sequences - 1)
    tile = item - (ends - tiles)[sequence]
    if last_first:
        tile = tiles[sequence] - 1 - tile
    work = torch.stack([torch.where(used, sequence, -1), tile], dim=1)
    return work.to(torch.int32)
