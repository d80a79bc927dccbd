"""Packs by their lengths, tensors for them, and comparison of outputs and gradients by name."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

NAMES = ("o", "dq", "dk", "dv")


def starts_of(lengths: Sequence[int], device: Any = None) -> Tensor:
    values = list(accumulate(lengths, initial=0))
    return torch.tensor(values, dtype=torch.int32, device=device)


def random_heads(
    *shape: int, heads: Sequence[int], size: int, seed: int = 0, **more: Any
) -> list[Tensor]:
    """[*shape, heads, size] for each number of heads, on the host."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, h, size, generator=generator, **more) for h in heads]


def assert_equal(
    got: Sequence[Tensor], expected: Sequence[Tensor], where: Any = slice(None)
) -> None:
    for name, one, other in zip(NAMES, got, expected, strict=True):
        assert torch.equal(one[where], other[where]), name


def assert_near(got: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    for name, one, other in zip(NAMES, got, expected, strict=True):
        assert one.shape == other.shape, name
        error = (one - other).abs().max().item() if one.numel() else 0.0
        assert error <= tolerance, f"{name}: {error:.2e}"
