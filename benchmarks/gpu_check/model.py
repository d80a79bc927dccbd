"""Part of ``benchmarks.gpu_check`` about models: ``lmsl.unmask`` on a decoder of transformers.

A small random Llama in bfloat16 runs a pack through the kernels. The truth is the same model in
float64 through eager attention; the yardstick is the same model in bfloat16 through eager
attention, of whose error ours may be twice as much (and a rounding): a model rounds in many more
places than attention, alike in both.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_check.scope import Scope
from lmsl.mask.attention import no_mask, pack_attention
from lmsl.mask.unmasking import unmask
from lmsl_kernels import attention

STRING = "0011"


def models(scope: Scope) -> dict[str, Any]:
    """Packed, with gradient checkpointing, and compiled."""
    answer: dict[str, Any] = {"faults": [], "errors": {}}
    dtype = torch.float32 if scope.toy else torch.bfloat16
    exact = _llama(scope).to(scope.device)
    inputs = _inputs(scope, exact.config.hidden_size)
    double = copy.deepcopy(exact).double()
    truth = _run(unmask(double, STRING, attention="eager"), inputs, torch.float64)
    plain = _run(unmask(copy.deepcopy(exact).to(dtype), STRING, attention="eager"), inputs, dtype)
    ours = unmask(copy.deepcopy(exact).to(dtype), STRING, attention="triton")
    found = _run(ours, inputs, dtype)
    _compare("packed", found, plain, truth, answer)
    causal = _run(
        unmask(copy.deepcopy(exact).to(dtype), "0000", attention="triton"), inputs, dtype
    )
    if _error(causal[0], truth[0]) < 10 * _error(found[0], truth[0]):
        answer["faults"].append("0000 is as near to 0011 as 0011 itself: the test sees no mask")
    scope.note(answer)
    ours.gradient_checkpointing_enable({"use_reentrant": False})
    ours.train()
    _compare("checkpointed", _run(ours, inputs, dtype), plain, truth, answer)
    ours.gradient_checkpointing_disable()
    ours.eval()
    scope.note(answer)
    compiled = torch.compile(ours, backend=_backend(scope))
    _compare("compiled", _run(compiled, inputs, dtype), plain, truth, answer)
    scope.note(answer)
    _operator(scope, answer)
    return answer


def _backend(scope: Scope) -> str:
    """Who compiles. The interpreter's kernels are compiled by nobody, only traced around."""
    return "inductor" if scope.device.type == "cuda" else "aot_eager"


def _llama(scope: Scope) -> Any:
    from transformers import AutoModel, LlamaConfig

    torch.manual_seed(0)
    hidden, layers = (32, 4) if scope.toy else (512, 4)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        # Far from uniform attention, so that a wrong mask shows.
        initializer_range=0.25 if scope.toy else 0.06,
    )
    return AutoModel.from_config(config, dtype=torch.float32).eval()


def _inputs(scope: Scope, hidden: int) -> dict[str, Any]:
    lengths = [5, 1, 9] if scope.toy else [5, 1, 90, 33, 128, 64]
    generator = torch.Generator().manual_seed(7)
    embeddings = torch.randn(1, sum(lengths), hidden, generator=generator).to(scope.device)
    weights = torch.randn(1, sum(lengths), hidden, generator=generator).to(scope.device)
    positions = torch.cat([torch.arange(n) for n in lengths])[None].to(scope.device)
    packed = pack_attention(lengths, scope.device)
    return {"x": embeddings, "weights": weights, "positions": positions, "packed": packed}


def _run(model: Any, inputs: dict[str, Any], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Last hidden states, and the gradient of the embeddings."""
    embeddings = inputs["x"].to(dtype).requires_grad_()
    states = model(
        inputs_embeds=embeddings,
        position_ids=inputs["positions"],
        attention_mask=no_mask(embeddings.device),
        use_cache=False,
        packed=inputs["packed"],
    ).last_hidden_state
    (gradient,) = torch.autograd.grad(states, embeddings, inputs["weights"].to(dtype))
    return states.detach().double(), gradient.double()


def _error(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).norm() / truth.norm())


def _compare(
    what: str,
    found: tuple[Tensor, ...],
    plain: tuple[Tensor, ...],
    truth: tuple[Tensor, ...],
    answer: dict[str, Any],
) -> None:
    names = ("states", "gradient")
    for name, ours, same, true in zip(names, found, plain, truth, strict=True):
        error, yardstick = _error(ours, true), _error(same, true)
        # transformers computes norms in float32 whatever the model's dtype is.
        allowed = 2 * yardstick + 8 * torch.finfo(torch.float32).eps
        answer["errors"][f"{what}: {name}"] = [error, allowed]
        # Written so that a NaN does not pass.
        if not error <= allowed:
            answer["faults"].append(f"{what}: {name} is off by {error:.1e}, {allowed:.1e} allowed")


def _operator(scope: Scope, answer: dict[str, Any]) -> None:
    """The bare operator in one compiled graph, of packs whose lengths the graph does not know."""
    dtype = torch.float32 if scope.toy else torch.bfloat16
    head_dim = 16 if scope.toy else 128

    def call(q: Tensor, k: Tensor, v: Tensor, starts: Tensor) -> Tensor:
        return 2 * attention(
            q, k, v, is_causal=False, cu_seqlens=starts, max_seqlen=64, impl="triton"
        )

    compiled = torch.compile(call, fullgraph=True, backend=_backend(scope))
    for lengths in ([3, 8], [9, 2], [5, 1]) if scope.toy else ([3, 64], [50, 9], [17, 1]):
        starts = torch.tensor([0, lengths[0], sum(lengths)], dtype=torch.int32)
        starts = starts.to(scope.device)
        q, k, v = (
            torch.randn(sum(lengths), heads, head_dim, device=scope.device, dtype=dtype)
            for heads in (4, 2, 2)
        )
        leaves = [x.requires_grad_() for x in (q, k, v)]
        outputs = [function(q, k, v, starts) for function in (call, compiled)]
        gradients = [torch.autograd.grad(out.square().sum(), leaves) for out in outputs]
        pairs = zip((outputs[0], *gradients[0]), (outputs[1], *gradients[1]), strict=True)
        worst = max(_error(y.detach().float(), x.detach().float()) for x, y in pairs)
        name = f"compiled operator, lengths {lengths}"
        answer["errors"][name] = [worst, 1e-2]
        if not worst <= 1e-2:
            answer["faults"].append(f"{name}: off by {worst:.1e}")
