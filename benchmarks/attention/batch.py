"""Batches of the attention benchmark, in the layouts its contenders live in."""

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from benchmarks.attention.cells import DTYPES, Cell

Layout = Literal["packed", "padded"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """Queries, keys, values and the gradient of the output, in one of the layouts.

    packed: [tokens, heads, head_dim]; padded: [sentences, longest, heads, head_dim].
    """

    cell: Cell
    lengths: tuple[int, ...]
    q: Tensor
    k: Tensor
    v: Tensor
    dout: Tensor

    @property
    def leaves(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.q, self.k, self.v

    @property
    def bounds(self) -> list[int]:
        """Where sentences of a pack begin, and where the last ends."""
        return list(accumulate(self.lengths, initial=0))

    def passes(self, out: Tensor) -> tuple[Tensor, ...]:
        """An output, and the gradients of queries, keys and values."""
        return out, *torch.autograd.grad(out, self.leaves, self.dout)

    @property
    def longest(self) -> int:
        return max(self.lengths)

    @property
    def ragged(self) -> bool:
        """Some sentences are shorter than others, so a rectangle has padding."""
        return min(self.lengths) < self.longest

    def headed(self) -> tuple[Tensor, Tensor, Tensor]:
        """A padded batch as [sentences, heads, longest, head_dim], without copies."""
        return self.q.transpose(1, 2), self.k.transpose(1, 2), self.v.transpose(1, 2)


def make_batch(
    cell: Cell, device: torch.device, seed: int, lengths: tuple[int, ...] | None = None
) -> Batch:
    """A packed batch of random values; equal seeds give equal batches.

    Args:
        lengths: by default those of the cell.
    """
    lengths = lengths or cell.lengths(seed)
    generator = torch.Generator(device).manual_seed(seed)
    heads = (cell.heads, cell.kv_heads, cell.kv_heads, cell.heads)
    q, k, v, dout = (
        torch.randn(sum(lengths), count, cell.head_dim, generator=generator, device=device).to(
            DTYPES[cell.dtype]
        )
        for count in heads
    )
    return Batch(cell=cell, lengths=lengths, q=q, k=k, v=v, dout=dout)


def lay_out(batch: Batch, layout: Layout, dtype: torch.dtype | None = None) -> Batch:
    """A packed batch in another layout, padding 0, its inputs leaves that want gradients."""
    tensors = (batch.q, batch.k, batch.v, batch.dout)
    if layout == "padded":
        rows = padded_rows(batch)
        tensors = tuple(_pad(x, rows, batch) for x in tensors)  # type: ignore[assignment]
    q, k, v, dout = (x.detach().clone().to(dtype or x.dtype) for x in tensors)
    for x in (q, k, v):
        x.requires_grad_()
    return replace(batch, q=q, k=k, v=v, dout=dout)


def padded_rows(batch: Batch) -> Tensor:
    """Where each token of the pack lies in the flattened rectangle."""
    starts = [number * batch.longest for number in range(len(batch.lengths))]
    parts = [torch.arange(s, s + n) for s, n in zip(starts, batch.lengths, strict=True)]
    return torch.cat(parts).to(batch.q.device)


def _pad(x: Tensor, rows: Tensor, batch: Batch) -> Tensor:
    full = x.new_zeros(len(batch.lengths) * batch.longest, *x.shape[1:])
    return full.index_copy(0, rows, x).unflatten(0, (len(batch.lengths), batch.longest))


def gather(x: Tensor, batch: Batch) -> Tensor:
    """The rows of the real tokens, packed."""
    return x if x.dim() == 3 else x.flatten(0, 1).index_select(0, padded_rows(batch))
