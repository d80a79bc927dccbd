"""The kernels under ``torch.compile``, ``torch.export`` and gradient checkpointing."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

import lmsl_kernels.flash.operator
from lmsl_kernels import attention, plan_pack
from tests.attention.attention_tools import assert_equal, random_heads

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FORWARD = torch.ops.lmsl.attention_forward.default
BACKWARD = torch.ops.lmsl.attention_backward.default


def _inputs(*shape):
    made = random_heads(*shape, heads=(2, 1, 1), size=16)
    return [x.to(DEVICE).requires_grad_() for x in made]


def _gradients(function, inputs, *more):
    out = function(*inputs, *more)
    return out, *torch.autograd.grad(out.square().sum(), inputs)


def _block(q, k, v, plan, is_causal=True):
    """Attention with something before and after it."""
    out = attention(q * 2, k, v.sin(), is_causal=is_causal, plan=plan, window=6, impl="triton")
    return out.cos()


def _compiled(function, **options):
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager", **options)


@pytest.mark.parametrize("bound", [9, 500], ids=["single", "medium"])
def test_opcheck_packed(bound):
    # No rows behind the last sequence: nobody reads what a softmax's total would be there.
    starts = torch.tensor([0, 5, 9], dtype=torch.int32, device=DEVICE)
    flags = torch.tensor([True, False], device=DEVICE)
    torch.library.opcheck(FORWARD, (*_inputs(9), starts, flags, bound, False, 3, None, 0.25))


def test_opcheck_dense_and_backward():
    q, k, v = _inputs(2, 7)
    numbers = (7, True, None, 5.0, 0.25)
    torch.library.opcheck(FORWARD, (q, k, v, None, None, *numbers))
    q, k, v = (x.detach() for x in (q, k, v))
    torch.library.opcheck(BACKWARD, (q, k, v, None, None, None, None, q.sin(), *numbers))


def test_compiled_equals_eager():
    inputs, plan = _inputs(13), plan_pack([0, 5, 5, 11], 500, device=DEVICE)
    assert_equal(_gradients(_compiled(_block), inputs, plan), _gradients(_block, inputs, plan))


def test_one_graph_serves_other_packs():
    """Neither lengths nor their number nor a bound are burnt in once they were seen to vary."""
    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    compiled = torch.compile(_block, fullgraph=True, backend=counter)
    for starts in [[0, 5, 9], [0, 2, 8, 12], [0, 3, 3, 7, 15], [0, 9, 13]]:
        inputs, plan = _inputs(starts[-1] + 2), plan_pack(starts, device=DEVICE)
        assert_equal(_gradients(compiled, inputs, plan), _gradients(_block, inputs, plan))
    assert counter.frame_count <= 3, counter.frame_count


def test_flags_and_dense_calls_compile():
    inputs = _inputs(2, 7)
    flags = torch.tensor([True, False], device=DEVICE)
    assert_equal(
        _gradients(_compiled(_block), inputs, None, flags), _gradients(_block, inputs, None, flags)
    )


def test_starts_alone_compile_and_are_not_read():
    def block(q, k, v, starts):
        return attention(q, k, v, is_causal=False, cu_seqlens=starts, max_seqlen=6, impl="triton")

    inputs, starts = _inputs(9), torch.tensor([0, 3, 9], dtype=torch.int32, device=DEVICE)
    assert_equal(_gradients(_compiled(block), inputs, starts), _gradients(block, inputs, starts))


def test_exported():
    class Block(torch.nn.Module):
        def forward(self, q, k, v, starts):
            return attention(
                q, k, v, is_causal=True, cu_seqlens=starts, max_seqlen=6, impl="triton"
            )

    inputs = [x.detach() for x in _inputs(9)]
    starts = torch.tensor([0, 3, 9], dtype=torch.int32, device=DEVICE)
    program = torch.export.export(Block(), (*inputs, starts))
    assert any(node.target is FORWARD for node in program.graph.nodes)
    other = torch.tensor([0, 6, 8], dtype=torch.int32, device=DEVICE)
    assert torch.equal(program.module()(*inputs, other), Block()(*inputs, other))


@pytest.mark.parametrize("bound", [None, 500], ids=["single", "medium"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_checkpointed_equals_plain(bound, compiled):
    inputs, plan = _inputs(13), plan_pack([0, 5, 11], bound, device=DEVICE)

    def recomputed(*tensors):
        return checkpoint(_block, *tensors, plan, use_reentrant=False)

    function = _compiled(recomputed) if compiled else recomputed
    assert_equal(_gradients(function, inputs), _gradients(_block, inputs, plan))


def test_no_second_derivative():
    inputs, plan = _inputs(5), plan_pack([0, 5], device=DEVICE)
    for function in (_block, _compiled(_block)):
        out = function(*inputs, plan)
        (first,) = torch.autograd.grad(out.sum(), inputs[0], create_graph=True)
        with pytest.raises(RuntimeError):
            torch.autograd.grad(first.sum(), inputs[0])


def test_by_default_a_compiled_call_is_served_as_an_eager_one(monkeypatch):
    """On a CPU that is not the interpreter, whatever it could do."""
    called = []
    monkeypatch.setattr(lmsl_kernels.flash.operator, "attention_forward", called.append)
    inputs, plan = _inputs(5), plan_pack([0, 5], device=DEVICE)

    def block(q, k, v):
        return attention(q, k, v, is_causal=True, plan=plan)

    if DEVICE == "cpu":
        torch.testing.assert_close(torch.compile(block, backend="eager")(*inputs), block(*inputs))
        assert not called
