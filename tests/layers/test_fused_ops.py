"""The steps that a layer of ours is made of, against their definitions in float64."""

import pytest
import torch

from lmsl.layers.fused.ops import PLAIN, rms_norm, rotate, swiglu
from tests.layers.block_tools import random_tail


def test_gradients() -> None:
    torch.manual_seed(0)
    rows = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: rms_norm(x, weight, 1e-2, PLAIN), rows)
    assert torch.autograd.gradcheck(lambda x: swiglu(x, PLAIN), rows)


def test_rotation_backwards_undoes_it() -> None:
    """A rotation's gradient is the rotation back, which is its inverse."""
    torch.manual_seed(0)
    heads = torch.randn(5, 3, 6, dtype=torch.float64)
    angles = torch.randn(5, 3, dtype=torch.float64).repeat(1, 2)
    cos, sin = angles.cos(), angles.sin()
    turned = rotate(heads, cos, sin)
    torch.testing.assert_close(rotate(turned, cos, sin, back=True), heads)
    pairs = torch.complex(heads[..., :3], heads[..., 3:])
    expected = pairs * torch.complex(cos, sin)[:, None, :3]
    torch.testing.assert_close(turned, torch.cat((expected.real, expected.imag), -1))


@pytest.mark.parametrize("rows", [0, 1, 33])
def test_the_tail(rows: int) -> None:
    tail, (out, gate, up, down) = random_tail(dtype=torch.float64)
    context = torch.randn(rows, 24, dtype=torch.float64, requires_grad=True)
    hidden = torch.randn(rows, 40, dtype=torch.float64, requires_grad=True)
    middle = hidden + out(context)
    normed = tail.norm(middle)
    expected = middle + down(torch.nn.functional.silu(gate(normed)) * up(normed))
    direction = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, (context, hidden), direction)
    found = tail(context, hidden)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    grads = torch.autograd.grad(found, (context, hidden), direction, retain_graph=True)
    torch.testing.assert_close(grads, wanted, rtol=1e-12, atol=1e-12)
    # Its backward overwrites what it kept: again would be wrong, and is refused.
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(found, (context, hidden), direction)
