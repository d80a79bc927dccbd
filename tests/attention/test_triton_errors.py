"""What the Triton kernels do not compute and where they do not run: a reason, no other way out."""

import os

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lmsl_kernels import attention, explain, plan_pack
from lmsl_kernels.api import why_not
from lmsl_kernels.flash.tuning import architecture
from tests.small_runs import fresh_process

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
on_cpu = pytest.mark.skipif(DEVICE != "cpu", reason="Triton's interpreter serves CPU tensors")


def _call(q, **arguments):
    plan = plan_pack([0, len(q)], device=q.device)
    return attention(q, q, q, is_causal=True, plan=plan, impl="triton", **arguments)


def _rows(size=32, dtype=torch.float32, device=DEVICE):
    return torch.randn(5, 2, size, device=device).to(dtype)


REFUSED = {
    "float64": ({"dtype": torch.float64}, {}, "float16 and float32, got torch.float64"),
    "head_dim": ({"size": 257}, {}, "head_dim must be from 1 to 256, got 257"),
    "scale 0": ({}, {"scale": 0.0}, "scale must be positive, got 0.0"),
    "negative scale": ({}, {"scale": -1.0}, "scale must be positive, got -1.0"),
    "nan": ({}, {"scale": float("nan")}, "scale must be positive, got nan"),
    "meta": ({"device": "meta"}, {}, "needs a CUDA device, got meta"),
}
if DEVICE == "cpu":
    words = "interpreter gets bfloat16 products wrong; use float16"
    REFUSED["bfloat16"] = ({"dtype": torch.bfloat16}, {}, words)


@pytest.mark.parametrize(("tensor", "arguments", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(tensor, arguments, words):
    with pytest.raises(ValueError, match=words) as error:
        _call(_rows(**tensor), **arguments)
    assert str(error.value).startswith("impl='triton' cannot serve this call, but 'sdpa' can: ")
    assert "\n" not in str(error.value)


def test_a_gpu_without_tiles(monkeypatch):
    """Attention goes to sdpa there, ``explain`` says why, and so does who is asked for triton."""
    monkeypatch.setattr("lmsl_kernels.flash.tuning._capability", lambda index: (7, 5))
    reason = "it needs compute capability 8.0 or later, got 7.5"
    # Tensors that are on a GPU as far as anybody can tell.
    with FakeTensorMode():
        q = _rows(size=64, dtype=torch.float16, device="cuda")
        assert explain(q) == f"attention by sdpa; not by triton: {reason}"
        starts = torch.zeros(2, dtype=torch.int32, device="cuda")
        with pytest.raises(ValueError, match="'sdpa' can: ") as error:
            attention(q, q, q, is_causal=True, cu_seqlens=starts, max_seqlen=5, impl="triton")
    assert str(error.value).endswith(reason)


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ((8, 0), "sm_80"),
        ((8, 6), "sm_86"),
        ((8, 7), "sm_86"),
        ((8, 9), "sm_89"),
        ((9, 0), "sm_90"),
        ((10, 0), "sm_100"),
        ((10, 3), "sm_100"),
        ((12, 0), "sm_120"),
        ((12, 1), "sm_120"),
    ],
)
def test_every_gpu_from_ampere_on_has_tiles(monkeypatch, capability, name):
    monkeypatch.setattr("lmsl_kernels.flash.tuning._capability", lambda index: capability)
    assert architecture(torch.device("cuda", 0)) == name
    with FakeTensorMode():
        for size in (8, 64, 96, 128, 256):
            q = _rows(size=size, dtype=torch.float16, device="cuda")
            assert explain(q) == "attention by triton"


@on_cpu
def test_a_cpu_without_the_interpreter(monkeypatch):
    monkeypatch.setattr("lmsl_kernels.flash.launch.INTERPRETED", False)
    with pytest.raises(ValueError, match=r"CUDA device, got cpu \(TRITON_INTERPRET=1 runs it on"):
        _call(_rows())


@on_cpu
def test_no_triton_at_all(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="triton is not installed"):
        _call(_rows())
    assert explain(_rows()) == "attention by sdpa; not by triton: triton is not installed"


@on_cpu
def test_the_interpreter_serves_only_who_asks():
    """A run on a CPU computes the same way with the variable set and without it."""
    q = _rows()
    assert why_not("triton", q, 0.1) is None
    plan = plan_pack([0, 5])
    default = attention(q, q, q, is_causal=True, plan=plan)
    assert torch.equal(default, attention(q, q, q, is_causal=True, plan=plan, impl="sdpa"))
    assert explain(q).startswith("attention by sdpa; not by triton: the interpreter is there to")


ALONE = """
import torch
from lmsl_kernels import attention, explain

q = torch.ones(2, 5, 2, 8)
print(explain(q))
print(attention(q, q, q, is_causal=True).shape)
try:
    attention(q, q, q, is_causal=True, impl="triton")
except ValueError as error:
    print(error)
"""


@on_cpu
def test_outside_of_tests_there_is_no_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    reason = "it needs a CUDA device, got cpu (TRITON_INTERPRET=1 runs it on the CPU)"
    assert fresh_process(ALONE).splitlines() == [
        f"attention by sdpa; not by triton: {reason}",
        "torch.Size([2, 5, 2, 8])",
        f"impl='triton' cannot serve this call, but 'sdpa' can: {reason}",
    ]
    assert "TRITON_INTERPRET" not in os.environ
