"""Part of ``benchmarks.gpu_check`` about the Triton kernels of a layer's small operations."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from benchmarks.attention.timing import time_calls
from benchmarks.gpu_check.layer_ops import (
    Compute,
    Named,
    Rows,
    add_norm,
    gated,
    norm,
    rotated,
    wrong,
)
from benchmarks.gpu_check.scope import Scope, Skipped
from lmsl.layers.fused.ops import PLAIN
from lmsl.layers.fused.triton_ops import triton_ops
from lmsl_kernels.rows.elementwise import unsupported

_REPEATS = 20


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
TOY = (Shape(hidden=24, inner=20, queries=4, keys=2, head_dim=6),)


def small_operations(scope: Scope) -> dict[str, Any]:
    """Results against float64, the same bits again, and on a GPU the times beside torch's."""
    shapes, counts = (TOY, (5,)) if scope.toy else (SHAPES, (1, 37, 512, 4096))
    ops = triton_ops()
    answer: dict[str, Any] = {"faults": [], "cases": 0, "ms": {}}
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        reason = unsupported(scope.device, dtype, features=SHAPES[0].hidden, head_dim=128)
        if reason is not None:
            raise Skipped(reason)
        for shape in shapes:
            for count in counts:
                rows = Rows(device=scope.device, dtype=dtype)
                for name, compute, tensors in _cases(rows, shape, count):
                    what = f"{name}, {dtype}, {count} rows, {shape}"
                    answer["cases"] += 1
                    if found := wrong(compute, ops, tensors):
                        answer["faults"].append(f"{what}: {found}")
                    first = compute(ops, tensors)
                    for _ in range(1 if scope.toy else _REPEATS):
                        again = compute(ops, tensors)
                        if not all(torch.equal(x, again[key]) for key, x in first.items()):
                            answer["faults"].append(f"{what}: other bits when computed again")
                            break
        scope.note(answer)
    if scope.device.type == "cuda":
        answer["ms"] = _times(scope, shapes[0], counts[-2:])
    return answer


def _cases(rows: Rows, shape: Shape, count: int) -> Iterator[tuple[str, Compute, Named]]:
    yield "norm", norm, rows.of_norm(count, shape.hidden)
    # The interpreter cuts bfloat16 off where a GPU rounds: a sum would be of other numbers.
    if rows.dtype != torch.bfloat16 or rows.device.type == "cuda":
        yield "norm of a sum", add_norm, rows.of_norm(count, shape.hidden)
    yield "norm of heads", norm, rows.of_norm(count, shape.keys, shape.head_dim)
    yield "SwiGLU", gated, rows.of_swiglu(count, shape.inner)
    yield "rotation", rotated, rows.of_rotation(count, shape.queries, shape.keys, shape.head_dim)


def _times(scope: Scope, shape: Shape, counts: tuple[int, ...]) -> dict[str, Any]:
    """Milliseconds forward and backward by the kernels and by torch, copies of inputs included."""
    stream = torch.cuda.Stream(scope.device)
    found = {}
    for count in counts:
        rows = Rows(device=scope.device, dtype=torch.bfloat16)
        for name, compute, tensors in _cases(rows, shape, count):
            both = {
                who: 1e3 * time_calls(partial(compute, ops, tensors), stream).seconds
                for who, ops in (("triton", triton_ops()), ("torch", PLAIN))
            }
            found[f"{name}, {count} rows"] = both
    return found
