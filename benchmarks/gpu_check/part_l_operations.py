"""Part l: norms, SwiGLU and rotation by Triton against float64, and their times beside torch's."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch

from benchmarks.attention.timing import time_calls
from benchmarks.gpu_check import layer_ops
from benchmarks.gpu_check.layer_ops import Compute, Named, Rows
from benchmarks.gpu_check.scope import Scope
from lmsl.layers.fused.ops import PLAIN
from lmsl.layers.fused.triton_ops import triton_ops
from lmsl_kernels.rows.elementwise import unsupported

pytestmark = pytest.mark.gpu
OPERATIONS = ("norm", "norm of a sum", "norm of heads", "SwiGLU", "rotation")
DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Of a layer."""

    hidden: int
    inner: int
    queries: int
    keys: int
    head_dim: int


# Llama-2-7B; Qwen3-4B, where heads are normed too; and nothing that is a power of two.
SHAPES = (
    Shape(hidden=4096, inner=11008, queries=32, keys=32, head_dim=128),
    Shape(hidden=2560, inner=9728, queries=32, keys=8, head_dim=128),
    Shape(hidden=2100, inner=3000, queries=15, keys=5, head_dim=80),
)
TOY = Shape(hidden=24, inner=20, queries=4, keys=2, head_dim=6)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One operation on so many rows."""

    operation: str
    dtype: torch.dtype
    shape: Shape
    count: int

    @property
    def name(self) -> str:
        return f"{self.operation}, {self.dtype}, {self.count} rows of {self.shape.hidden}"

    def made(self, device: torch.device) -> tuple[Compute, Named]:
        """What computes it, and of what."""
        rows, shape, count = Rows(device=device, dtype=self.dtype), self.shape, self.count
        if self.operation == "norm":
            return layer_ops.norm, rows.of_norm(count, shape.hidden)
        if self.operation == "norm of a sum":
            return layer_ops.add_norm, rows.of_norm(count, shape.hidden)
        if self.operation == "norm of heads":
            return layer_ops.norm, rows.of_norm(count, shape.keys, shape.head_dim)
        if self.operation == "SwiGLU":
            return layer_ops.gated, rows.of_swiglu(count, shape.inner)
        heads = (shape.queries, shape.keys, shape.head_dim)
        return layer_ops.rotated, rows.of_rotation(count, *heads)


def cases(scope: Scope) -> list[Case]:
    found = [
        Case(operation=operation, dtype=dtype, shape=shape, count=count)
        for dtype in DTYPES
        for shape in ((TOY,) if scope.toy else SHAPES)
        for count in ((5,) if scope.toy else (1, 37, 512, 4096))
        for operation in OPERATIONS
    ]
    # The interpreter cuts bfloat16 off where a GPU rounds: a sum would be of other numbers.
    odd = {("norm of a sum", torch.bfloat16)} if not scope.cuda else set()
    return [case for case in found if (case.operation, case.dtype) not in odd]


def test_exact_and_the_same_bits_again(case: Case, scope: Scope) -> None:
    if reason := unsupported(scope.device, case.dtype, features=4096, head_dim=128):
        pytest.skip(reason)
    ops, (compute, tensors) = triton_ops(), case.made(scope.device)
    found = layer_ops.wrong(compute, ops, tensors)
    assert not found, found
    first = compute(ops, tensors)
    for _ in range(1 if scope.toy else 20):
        again = compute(ops, tensors)
        same = all(torch.equal(x, again[key]) for key, x in first.items())
        assert same, "other bits when computed again"


@pytest.mark.parametrize("count", [512, 4096])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_times(operation: str, count: int, scope: Scope, figures: dict[str, Any]) -> None:
    """Milliseconds forward and backward by the kernels and by torch, copies of inputs included."""
    scope.need_cuda()
    stream = torch.cuda.Stream(scope.device)
    case = Case(operation=operation, dtype=torch.bfloat16, shape=SHAPES[0], count=count)
    compute, tensors = case.made(scope.device)
    figures["ms"] = {
        who: 1e3 * time_calls(partial(compute, ops, tensors), stream).seconds
        for who, ops in (("triton", triton_ops()), ("torch", PLAIN))
    }
