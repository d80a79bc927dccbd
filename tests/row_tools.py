"""The device of the tests of a layer's small operations, and their error rule as an assertion."""

import torch

from benchmarks.gpu_check.layer_ops import Compute, Named, Rows, wrong
from lmsl.layers.fused.ops import LayerOps

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def rows_of(dtype: torch.dtype = torch.float32, strides: str = "fused") -> Rows:
    """On the device of the tests."""
    return Rows(device=torch.device(DEVICE), dtype=dtype, strides=strides)


def check(compute: Compute, ops: LayerOps, tensors: Named) -> None:
    """What ``ops`` compute is as near to float64 as the error rule asks."""
    found = wrong(compute, ops, tensors)
    assert not found, found
