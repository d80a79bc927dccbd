"""Layers' small operations by one ``LayerOps`` on made-up rows, to be compared with another."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lmsl.fused_ops import PLAIN, LayerOps
from lmsl_kernels.testing import compare, faults, lay_out, poisoned_memory

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Compute = Callable[[LayerOps, dict[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """How many rows of which tensors, in what dtype and layout."""

    dtype: torch.dtype = torch.float32
    strides: str = "fused"

    def random(self, *shape: int, seed: int = 0) -> Tensor:
        """Normal numbers, with nan in memory between the rows."""
        generator = torch.Generator().manual_seed(seed + 7 * len(shape))
        x = torch.randn(shape, generator=generator).to(DEVICE, self.dtype)
        if x.dim() == 1:
            return x
        if x.dim() == 2:
            return lay_out(x.unsqueeze(1), self.strides, 1 + seed).squeeze(1)
        return lay_out(x, self.strides, 1 + seed)

    def angles(self, rows: int, head_dim: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine [rows, head_dim], both halves the same."""
        angles = torch.randn(rows, head_dim // 2, generator=torch.Generator().manual_seed(9))
        angles = angles.repeat(1, 2).to(DEVICE)
        return angles.cos().to(self.dtype), angles.sin().to(self.dtype)


def check(compute: Compute, ops: LayerOps, tensors: dict[str, Tensor]) -> None:
    """What ``ops`` compute is as near to float64 as the error rule asks.

    Args:
        compute: named results; it works on copies where an operation writes over its input.
    """
    with poisoned_memory():
        ours = compute(ops, tensors)
    truth = compute(PLAIN, {name: x.double() for name, x in tensors.items()})
    plain = compute(PLAIN, tensors)
    for name, x in ours.items():
        assert x.shape == plain[name].shape and x.dtype == plain[name].dtype, name
    values = (list(found.values()) for found in (ours, truth, plain))
    found = list(compare(*values, names=list(ours)))
    assert not faults(found), faults(found)
