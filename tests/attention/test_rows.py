"""The kernels of norms, rotation and SwiGLU against torch and float64.

Without a GPU Triton's interpreter runs them (``conftest.py`` switches it on).
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmarks.gpu_check.layer_ops import EPSILON, add_norm, gated, norm, rotated
from lmsl.layers.fused.ops import PLAIN, LayerOps
from lmsl.layers.fused.triton_ops import triton_ops
from tests.row_tools import DEVICE, check, rows_of

pytest.importorskip("triton")
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# Rows and features: one row, not powers of two, more rows than a program, a row of many warps.
NORMS = [(1, 5), (5, 3), (33, 100), (40, 128), (2, 4100)]


@pytest.fixture(scope="module")
def ops() -> LayerOps:
    return triton_ops()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", NORMS, ids=str)
def test_norms(ops: LayerOps, dtype: torch.dtype, shape: tuple[int, int]) -> None:
    rows = rows_of(dtype=dtype)
    tensors = rows.of_norm(*shape)
    check(norm, ops, tensors)
    # The interpreter cuts bfloat16 off where a GPU rounds: a sum would be of other numbers.
    if dtype != torch.bfloat16 or DEVICE == "cuda":
        check(add_norm, ops, tensors)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_norms_of_heads(ops: LayerOps, dtype: torch.dtype) -> None:
    """[N, heads, head_dim] out of a wider row, the gradient into one."""
    rows = rows_of(dtype=dtype)
    tensors = {"inputs": rows.random(7, 3, 20), "grad": rows.random(7, 3, 20, seed=1)}
    check(norm, ops, tensors | {"weight": rows.random(20)})
    weight = rows.random(20)
    _, scale = ops.norm_forward(tensors["inputs"], weight, EPSILON)
    joint = torch.full((7, 5, 20), 3.0, dtype=dtype, device=DEVICE)
    arguments = (tensors["grad"], tensors["inputs"], weight, scale)
    given = ops.norm_backward(*arguments, out=joint[:, 1:4])
    assert given.data_ptr() == joint[:, 1:4].data_ptr()
    assert torch.equal(given, ops.norm_backward(*arguments))
    assert bool((joint[:, 0] == 3).all() and (joint[:, 4] == 3).all()), "neighbours"


def test_norms_of_two_dtypes(ops: LayerOps) -> None:
    """A weight or a residual in float32 beside rows of 16 bits: results as torch promotes them."""
    half, full = rows_of(dtype=torch.float16), rows_of()
    tensors = {"inputs": half.random(5, 24), "weight": full.random(24)}
    tensors |= {"grad": full.random(5, 24, seed=1)}
    check(norm, ops, tensors)
    tensors |= {"other": full.random(5, 24, seed=2), "grad of sums": full.random(5, 24, seed=3)}
    check(add_norm, ops, tensors)


def test_a_sum_takes_the_memory_of_what_is_fresh(ops: LayerOps) -> None:
    for fresh in (torch.ones(3, 8, device=DEVICE), torch.ones(3, 9, device=DEVICE)[:, :8]):
        other, weight = torch.ones_like(fresh), torch.ones(8, device=DEVICE)
        sums, _, _ = ops.add_norm_forward(fresh, other, weight, EPSILON)
        assert (sums.data_ptr() == fresh.data_ptr()) == fresh.is_contiguous()
        assert bool((sums == 2).all() and (other == 1).all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (6, 7), (3, 1030)])
def test_swiglu(ops: LayerOps, dtype: torch.dtype, rows: int, width: int) -> None:
    made = rows_of(dtype=dtype)
    check(gated, ops, made.of_swiglu(rows, width))


def test_swiglu_far_from_zero(ops: LayerOps) -> None:
    """Where an exponential overflows or vanishes there is still an answer."""
    gate = torch.tensor([[-1e4, -100.0, -20.0, -0.0, 0.0, 20.0, 100.0, 1e4]], device=DEVICE)
    inputs, grad = torch.cat((gate, gate.flip(1).clamp(-3, 3)), 1), torch.ones_like(gate)
    check(gated, ops, {"inputs": inputs, "grad": grad})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("heads", "head_dim"), [((1, 1), 2), ((5, 1), 6), ((4, 2), 80), ((3, 20), 256)], ids=str
)
def test_rotation(
    ops: LayerOps, dtype: torch.dtype, heads: tuple[int, int], head_dim: int
) -> None:
    rows = rows_of(dtype=dtype)
    queries, keys = heads
    parts = rows.of_rotation(3, queries, keys, head_dim)
    check(rotated, ops, parts)
    turned = ops.rotate(*(parts[name] for name in ("queries", "keys", "cos", "sin")))
    assert all(x.is_contiguous() for x in turned)


def test_gradients_of_values_are_copied_bit_by_bit(ops: LayerOps) -> None:
    """Also where they are not finite."""
    rows = rows_of()
    grads = [rows.random(2, heads, 6, seed=heads) for heads in (4, 2, 2)]
    grads[2][0, 0] = torch.tensor([torch.inf, 1, torch.nan, -torch.inf, 2, 3], device=DEVICE)
    out = [torch.empty_like(x) for x in grads]
    ops.rotate_backward(grads, *rows.angles(2, 6), out)
    assert torch.equal(out[2].view(torch.int32), grads[2].contiguous().view(torch.int32))


@pytest.mark.parametrize("strides", ["contiguous", "transposed", "last dim apart", "fused odd"])
def test_gradients_of_any_strides(ops: LayerOps, strides: str) -> None:
    rows = rows_of(strides=strides)
    tensors = {"queries": rows.random(5, 4, 6), "keys": rows.random(5, 2, 6, seed=1)}
    cos, sin = rows.angles(5, 6)
    check(
        rotated, ops, {**tensors, "values": rows.random(5, 2, 6, seed=2), "cos": cos, "sin": sin}
    )
    tensors = {"inputs": rows.random(5, 4, 6), "grad": rows.random(5, 4, 6, seed=1)}
    check(norm, ops, tensors | {"weight": rows.random(6)})


def test_an_expanded_gradient(ops: LayerOps) -> None:
    """Of a plain sum: one number in memory."""
    rows = rows_of(strides="contiguous")
    tensors = {"inputs": rows.random(5, 24), "weight": rows.random(24)}
    check(norm, ops, tensors | {"grad": torch.ones(1, device=DEVICE).expand(5, 24)})
    one = torch.ones(1, device=DEVICE).expand(5, 12)
    check(gated, ops, {"inputs": tensors["inputs"], "grad": one})


def overwritten(ops: LayerOps, gate_up: Tensor) -> Tensor:
    grads = gate_up.clone()
    ops.swiglu_backward_(gate_up[:, : gate_up.shape[1] // 2], grads)
    return grads


OPERATIONS: dict[str, Callable[[LayerOps, Tensor], tuple[Tensor, ...]]] = {
    "norm": lambda ops, x: ops.norm_forward(x, x.new_ones(48), EPSILON),
    "norm of a sum": lambda ops, x: ops.add_norm_forward(
        x.clone(), torch.ones_like(x), x.new_ones(48), EPSILON
    ),
    "norm back": lambda ops, x: (
        ops.norm_backward(x, x, x.new_ones(48), torch.ones_like(x[:, :1]), added=x),
    ),
    "SwiGLU": lambda ops, x: (ops.swiglu_forward(x),),
    "SwiGLU back": lambda ops, x: (overwritten(ops, x),),
    "rotation": lambda ops, x: ops.rotate(x.view(-1, 6, 8), x.view(-1, 6, 8), x[:, :8], x[:, :8]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_not_finite_stays_in_its_row(ops: LayerOps, name: str) -> None:
    rows = rows_of(strides="contiguous").random(70, 48)
    broken = rows.clone()
    broken[3, 5], broken[40] = torch.nan, torch.inf
    others = [row for row in range(70) if row not in (3, 40)]
    for mine, its in zip(OPERATIONS[name](ops, broken), OPERATIONS[name](ops, rows), strict=True):
        assert torch.equal(mine[others], its[others])
        assert bool(mine[3].isnan().any()) and its.isfinite().all()


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_rows(ops: LayerOps, name: str) -> None:
    empty = torch.empty(0, 48, device=DEVICE)
    found = [x.shape for x in OPERATIONS[name](ops, empty)]
    assert found == [x.shape for x in OPERATIONS[name](PLAIN, empty)] and found[0][0] == 0


def test_rows_more_than_2_31_elements_apart(ops: LayerOps) -> None:
    """Only the pages that are written are there: three rows of a few elements."""
    apart = 2**30
    memory = torch.empty(2 * apart + 64, dtype=torch.float16, device=DEVICE)
    far = memory.as_strided((3, 24), (apart, 1)).copy_(rows_of().random(3, 24))
    near, weight = far.contiguous(), torch.ones(24, dtype=torch.float16, device=DEVICE)
    normed, scale = ops.norm_forward(far, weight, EPSILON)
    assert torch.equal(normed, ops.norm_forward(near, weight, EPSILON)[0])
    given = ops.norm_backward(near, near, weight, scale)
    assert torch.equal(given, ops.norm_backward(far, far, weight, scale))
    assert torch.equal(ops.swiglu_forward(far), ops.swiglu_forward(near))
    by_head = [x.unflatten(1, (3, 8)) for x in (far, near)]
    angles = rows_of(dtype=torch.float16).angles(3, 8)
    turned, expected = (ops.rotate(x, x, *angles)[0] for x in by_head)
    assert torch.equal(turned, expected)
    ops.rotate_backward([expected] * 3, *angles, [by_head[0]] * 3)
    assert torch.equal(far.unflatten(1, (3, 8)), expected)
    far.copy_(near)
    for x in (far, near):
        ops.swiglu_backward_(weight[:12].expand(3, 12), x)
    assert torch.equal(far, near)
