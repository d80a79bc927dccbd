"""Part h: ``lmsl.unmask`` on a decoder of transformers; checkpointed and compiled too.

A small random Llama in bfloat16 runs a pack through the kernels. The truth is the same model in
float64 through eager attention; the yardstick is the same model in bfloat16 through eager
attention, of whose error ours may be twice as much (and a rounding): a model rounds in many more
places than attention, alike in both.
"""

import copy
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from benchmarks.gpu_check.scope import Scope, agree
from lmsl.mask.attention import no_mask, pack_attention
from lmsl.mask.unmasking import unmask
from lmsl_kernels import attention

pytestmark = pytest.mark.gpu
STRING = "0011"
Results = tuple[Tensor, Tensor]


@pytest.mark.parametrize("how", ["packed", "checkpointed", "compiled"])
def test_as_exact_as_eager_attention(how: str, scope: Scope, figures: dict[str, Any]) -> None:
    exact = _llama(scope).to(scope.device)
    half = torch.float32 if scope.toy else torch.bfloat16
    pack = _pack(scope, exact.config.hidden_size)

    def results(string: str, attention: Literal["triton", "eager"], dtype: torch.dtype) -> Results:
        model = unmask(copy.deepcopy(exact).to(dtype), string, attention=attention)
        if attention == "triton" and how == "checkpointed":
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.train()
        if attention == "triton" and how == "compiled":
            model = torch.compile(model, backend=_backend(scope))
        return _run(model, pack, dtype)

    truth, plain = (results(STRING, "eager", dtype) for dtype in (torch.float64, half))
    found, wrong = results(STRING, "triton", half), []
    for name, ours, same, true in zip(("states", "gradient"), found, plain, truth, strict=True):
        error, yardstick = _error(ours, true), _error(same, true)
        # transformers computes norms in float32 whatever the model's dtype is.
        allowed = 2 * yardstick + 8 * torch.finfo(torch.float32).eps
        figures[name] = [error, allowed]
        # Written so that a NaN does not pass.
        if not error <= allowed:
            wrong.append(f"{name} is off by {error:.1e}, {allowed:.1e} allowed")
    causal = results("0000", "triton", half)
    if _error(causal[0], truth[0]) < 10 * _error(found[0], truth[0]):
        wrong.append("0000 is as near to 0011 as 0011 itself: the test sees no mask")
    agree(wrong)


def _run(model: Any, pack: dict[str, Any], dtype: torch.dtype) -> Results:
    """Last hidden states, and the gradient of the embeddings."""
    embeddings = pack["x"].to(dtype).requires_grad_()
    states = model(
        inputs_embeds=embeddings,
        position_ids=pack["positions"],
        attention_mask=no_mask(embeddings.device),
        use_cache=False,
        packed=pack["packed"],
    ).last_hidden_state
    (gradient,) = torch.autograd.grad(states, embeddings, pack["weights"].to(dtype))
    return states.detach().double(), gradient.double()


def test_the_bare_operator_in_one_graph(scope: Scope, figures: dict[str, Any]) -> None:
    """Of packs whose lengths the graph does not know."""
    dtype, head_dim = (torch.float32, 16) if scope.toy else (torch.bfloat16, 128)

    def call(q: Tensor, k: Tensor, v: Tensor, starts: Tensor) -> Tensor:
        return 2 * attention(
            q, k, v, is_causal=False, cu_seqlens=starts, max_seqlen=64, impl="triton"
        )

    compiled, wrong = torch.compile(call, fullgraph=True, backend=_backend(scope)), []
    for lengths in ([3, 8], [9, 2], [5, 1]) if scope.toy else ([3, 64], [50, 9], [17, 1]):
        starts = torch.tensor([0, lengths[0], sum(lengths)], dtype=torch.int32).to(scope.device)
        leaves = [
            torch.randn(sum(lengths), heads, head_dim, device=scope.device, dtype=dtype)
            for heads in (4, 2, 2)
        ]
        q, k, v = (x.requires_grad_() for x in leaves)
        outputs = [function(q, k, v, starts) for function in (call, compiled)]
        gradients = [torch.autograd.grad(out.square().sum(), leaves) for out in outputs]
        pairs = zip((outputs[0], *gradients[0]), (outputs[1], *gradients[1]), strict=True)
        worst = max(_error(y.detach().float(), x.detach().float()) for x, y in pairs)
        figures[f"lengths {lengths}"] = [worst, 1e-2]
        if not worst <= 1e-2:
            wrong.append(f"lengths {lengths}: off by {worst:.1e}")
    agree(wrong)


def _backend(scope: Scope) -> str:
    """Who compiles. The interpreter's kernels are compiled by nobody, only traced around."""
    return "inductor" if scope.cuda else "aot_eager"


def _llama(scope: Scope) -> Any:
    from transformers import AutoModel, LlamaConfig

    torch.manual_seed(0)
    hidden = 32 if scope.toy else 512
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        # Far from uniform attention, so that a wrong mask shows.
        initializer_range=0.25 if scope.toy else 0.06,
    )
    return AutoModel.from_config(config, dtype=torch.float32).eval()


def _pack(scope: Scope, hidden: int) -> dict[str, Any]:
    lengths = [5, 1, 9] if scope.toy else [5, 1, 90, 33, 128, 64]
    generator = torch.Generator().manual_seed(7)
    x, weights = (
        torch.randn(1, sum(lengths), hidden, generator=generator).to(scope.device)
        for _ in range(2)
    )
    positions = torch.cat([torch.arange(n) for n in lengths])[None].to(scope.device)
    packed = pack_attention(lengths, scope.device)
    return {"x": x, "weights": weights, "positions": positions, "packed": packed}


def _error(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).norm() / truth.norm())
