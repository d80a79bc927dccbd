"""The gate of the attention benchmark: no time is shown for wrong numbers.

Output, dq, dk and dv of every contender are compared with the eager reference in float32 on the
same device. The bound is coarse on purpose: it lets every honest 16-bit computation pass (they
differ in what they round) and stops a wrong mask, a lost head or an unwritten row, which are off
by about as much as the values themselves. How exact the kernels are is another program's question
(``benchmarks.gpu_check``).
"""

import torch
from torch import Tensor

from benchmarks.attention.batch import Batch, gather
from benchmarks.attention.peers import Peer
from lmsl_kernels import reference_attention

PARTS = ("out", "dq", "dk", "dv")
TOLERANCE = {"bfloat16": 2e-2, "float16": 4e-3, "float32": 1e-4}
# Bytes that the reference may take for scores, and how many copies of them autograd keeps.
_SCORES, _COPIES = 16e9, 8


def passes(peer: Peer, batch: Batch, derived: object) -> tuple[Tensor, ...]:
    """Output, dq, dk and dv, in the layout of the batch."""
    return batch.passes(peer.call(batch, derived))


def reference_passes(batch: Batch) -> tuple[Tensor, ...]:
    """The same of the reference in float32, for a packed batch, packed."""
    cell = batch.cell
    group = cell.heads // cell.kv_heads
    fitting = int(_SCORES / (_COPIES * 4 * group * sum(n * n for n in batch.lengths)))
    at_once = min(max(fitting, 1), cell.kv_heads)
    parts: list[tuple[Tensor, ...]] = []
    for first in range(0, cell.kv_heads, at_once):
        queries = slice(first * group, (first + at_once) * group)
        keys = slice(first, first + at_once)
        leaves = [
            x[:, heads].detach().float().requires_grad_()
            for x, heads in ((batch.q, queries), (batch.k, keys), (batch.v, keys))
        ]
        out = reference_attention(
            leaves[0], leaves[1], leaves[2], is_causal=cell.is_causal, cu_seqlens=batch.bounds
        )
        gradients = torch.autograd.grad(out, leaves, batch.dout[:, queries].float())
        parts.append((out.detach(), *gradients))
    return tuple(torch.cat(part, dim=1) for part in zip(*parts, strict=True))


def errors(peer: Peer, batch: Batch, truth: tuple[Tensor, ...]) -> dict[str, float]:
    """Relative error (in the L2 norm) of each part; ``batch`` in the layout of the peer."""
    found = passes(peer, batch, peer.derive(batch))
    return {
        name: float((gather(x.detach(), batch).float() - true).norm() / true.norm())
        for name, x, true in zip(PARTS, found, truth, strict=True)
    }


def fault(errors: dict[str, float], dtype: str) -> str | None:
    """What is wrong about such errors, or ``None``."""
    # Written so that a NaN does not pass.
    wrong = {name: error for name, error in errors.items() if not error <= TOLERANCE[dtype]}
    if not wrong:
        return None
    shown = ", ".join(f"{name} {error:.1e}" for name, error in wrong.items())
    return f"off by {shown} (allowed {TOLERANCE[dtype]:.0e})"
