"""Wrong calls of the operator: one ``ValueError`` with argument, expected and got."""

import pytest
import torch

from lmsl_kernels import attention, plan_pack

STARTS = torch.tensor([0, 4, 10], dtype=torch.int32)


def _tensor(*shape, **more):
    return torch.zeros(*shape, **more)


def _call(**changes):
    arguments = {
        "q": _tensor(10, 4, 8),
        "k": _tensor(10, 2, 8),
        "v": _tensor(10, 2, 8),
        "is_causal": True,
        "cu_seqlens": STARTS,
    }
    arguments |= changes
    tensors = [arguments.pop(name) for name in ("q", "k", "v")]
    return attention(*tensors, **arguments)


WRONG = {
    "rank": ({"q": _tensor(10, 8)}, r"q must be \[tokens.*\(10, 8\)"),
    "integers": ({"k": _tensor(10, 2, 8, dtype=torch.int32)}, "k must be a float"),
    "dtypes": ({"v": _tensor(10, 2, 8, dtype=torch.float64)}, "v must have the dtype of q"),
    "devices": ({"k": _tensor(10, 2, 8, device="meta")}, "k must be on the device of q"),
    "heads": ({"k": _tensor(10, 3, 8), "v": _tensor(10, 3, 8)}, r"divide heads \(4\), got 3"),
    "no kv heads": ({"k": _tensor(10, 0, 8), "v": _tensor(10, 0, 8)}, "got 0"),
    "head_dim": ({"k": _tensor(10, 2, 9), "v": _tensor(10, 2, 9)}, "head_dim of q, 8, got 9"),
    "k and v": ({"v": _tensor(10, 4, 8)}, "v must have the shape of k"),
    "cache": ({"k": _tensor(12, 2, 8), "v": _tensor(12, 2, 8)}, "no KV cache"),
    "window": ({"window": 0}, "window must be at least 1.*got 0"),
    "softcap": ({"softcap": 0.0}, "softcap must be positive"),
    "impl": ({"impl": "flash"}, "impl must be one of.*'flash'"),
    "window of half tokens": ({"window": 2.5}, "window must be an integer or None, got 2.5"),
    "no starts": ({"cu_seqlens": None}, "needs cu_seqlens or a plan"),
    "too long": ({"cu_seqlens": torch.tensor([0, 4, 11])}, "ends at 11, but q has 10"),
    "decreasing": ({"cu_seqlens": torch.tensor([0, 6, 4])}, "must not decrease"),
    "not from 0": ({"cu_seqlens": torch.tensor([1, 4])}, "start with 0, got 1"),
    "float starts": ({"cu_seqlens": torch.tensor([0.0, 4.0])}, "must be int32"),
    "matrix": ({"cu_seqlens": torch.tensor([[0, 4]])}, "one-dimensional"),
    "max_seqlen": ({"max_seqlen": 5}, "at least the longest, 6, got 5"),
    "negative": (
        {"cu_seqlens": STARTS.to("meta"), "max_seqlen": -1},
        "max_seqlen must be at least 0, got -1",
    ),
    "flag number": ({"is_causal": 1}, "is_causal must be a bool"),
    "flag floats": ({"is_causal": torch.ones(2)}, "is_causal must be a bool"),
    "flag length": ({"is_causal": torch.ones(3, dtype=torch.bool)}, "each of 2 sequences"),
    "flag device": (
        {"is_causal": torch.ones(2, dtype=torch.bool, device="meta")},
        "is_causal must be on cpu",
    ),
    "plan device": ({"plan": plan_pack(STARTS, device="meta")}, "must be on cpu"),
    "capacity": ({"plan": plan_pack([0, 4], capacity=8)}, "at most 8 tokens, got 10"),
    "dense and packed": (
        {"q": _tensor(2, 5, 4, 8), "k": _tensor(2, 5, 2, 8), "v": _tensor(2, 5, 2, 8)},
        "belong to packed",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(case):
    changes, words = WRONG[case]
    with pytest.raises(ValueError, match=words) as error:
        _call(**changes)
    assert "\n" not in str(error.value)


def test_the_right_call_passes():
    assert _call().shape == (10, 4, 8)
    assert _call(plan=plan_pack(STARTS, capacity=10), cu_seqlens=None).shape == (10, 4, 8)


def test_starts_off_the_host_need_a_length_and_are_never_read():
    starts = STARTS.to("meta")
    q, k, v = (_tensor(10, h, 8, device="meta") for h in (4, 2, 2))
    with pytest.raises(ValueError, match="max_seqlen is needed"):
        attention(q, k, v, is_causal=False, cu_seqlens=starts)
    out = attention(q, k, v, is_causal=False, cu_seqlens=starts, max_seqlen=6)
    assert out.shape == q.shape and out.is_meta
