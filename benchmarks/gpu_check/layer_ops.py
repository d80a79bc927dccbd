"""Norms, SwiGLU and rotation of a layer by one ``LayerOps`` on made-up rows, held against another.

Shared by the tests of the Triton kernels and by the part of ``benchmarks.gpu_check`` about them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lmsl.layers.fused.ops import PLAIN, LayerOps
from lmsl_kernels.proof.tolerances import compare, faults, lay_out, poisoned_memory

EPSILON = 1e-5
Named = dict[str, Tensor]
Compute = Callable[[LayerOps, Named], Named]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """How many rows of which tensors, in what dtype and layout."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    strides: str = "fused"

    def random(self, *shape: int, seed: int = 0) -> Tensor:
        """Normal numbers, with nan in memory between the rows."""
        generator = torch.Generator().manual_seed(seed + 7 * len(shape))
        x = torch.randn(shape, generator=generator).to(self.device, self.dtype)
        if x.dim() == 1:
            return x
        if x.dim() == 2:
            return lay_out(x.unsqueeze(1), self.strides, 1 + seed).squeeze(1)
        return lay_out(x, self.strides, 1 + seed)

    def angles(self, rows: int, head_dim: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine [rows, head_dim], both halves the same."""
        angles = torch.randn(rows, head_dim // 2, generator=torch.Generator().manual_seed(9))
        angles = angles.repeat(1, 2).to(self.device)
        return angles.cos().to(self.dtype), angles.sin().to(self.dtype)

    def of_norm(self, *shape: int) -> Named:
        """What ``norm`` takes, and ``add_norm`` with rows [N, H]."""
        named = {"inputs": self.random(*shape), "weight": self.random(shape[-1])}
        others = ("grad", "other", "grad of sums")
        return named | {name: self.random(*shape, seed=n) for n, name in enumerate(others, 1)}

    def of_swiglu(self, rows: int, width: int) -> Named:
        """What ``gated`` takes."""
        return {"inputs": self.random(rows, 2 * width), "grad": self.random(rows, width)}

    def of_rotation(self, rows: int, queries: int, keys: int, head_dim: int) -> Named:
        """What ``rotated`` takes: heads of queries, keys and values as views of one product."""
        joint = self.random(rows, queries + 2 * keys, head_dim)
        parts = joint.split((queries, keys, keys), 1)
        cos, sin = self.angles(rows, head_dim)
        return dict(zip(("queries", "keys", "values"), parts, strict=True)) | {
            "cos": cos,
            "sin": sin,
        }


def norm(ops: LayerOps, x: Named) -> Named:
    normed, scale = ops.norm_forward(x["inputs"], x["weight"], EPSILON)
    back = ops.norm_backward(x["grad"], x["inputs"], x["weight"], scale)
    return {"normed": normed, "scale": scale, "grad of inputs": back}


def add_norm(ops: LayerOps, x: Named) -> Named:
    fresh = x["inputs"].clone()
    sums, normed, scale = ops.add_norm_forward(fresh, x["other"], x["weight"], EPSILON)
    back = ops.norm_backward(x["grad"], sums, x["weight"], scale, added=x["grad of sums"])
    return {"sums": sums, "normed": normed, "scale": scale, "grad of sums": back}


def gated(ops: LayerOps, x: Named) -> Named:
    outputs, grads = ops.swiglu_forward(x["inputs"]), x["inputs"].clone()
    ops.swiglu_backward_(x["grad"], grads)
    gate, up = grads.chunk(2, dim=1)
    return {"outputs": outputs, "grad of gate": gate, "grad of up": up}


def rotated(ops: LayerOps, x: Named) -> Named:
    """Forward out of views of a joint product, backward into views of a joint gradient."""
    heads = [len(x[name][0]) for name in ("queries", "keys", "values")]
    queries, keys = ops.rotate(x["queries"], x["keys"], x["cos"], x["sin"])
    rows, _, head_dim = queries.shape
    joint = queries.new_full((rows, sum(heads), head_dim), torch.nan)
    grads = [x["queries"], x["keys"], x["values"]]
    ops.rotate_backward(grads, x["cos"], x["sin"], joint.split(heads, dim=1))
    return {"queries": queries, "keys": keys, "grads": joint}


def wrong(compute: Compute, ops: LayerOps, tensors: Named) -> str:
    """What of the results of ``ops`` is further from float64 than the error rule allows.

    Args:
        compute: named results; it works on copies where an operation writes over its input.
    """
    with poisoned_memory():
        ours = compute(ops, tensors)
    truth = compute(PLAIN, {name: x.double() for name, x in tensors.items()})
    plain = compute(PLAIN, tensors)
    for name, x in ours.items():
        if x.shape != plain[name].shape or x.dtype != plain[name].dtype:
            return f"{name}: {x.dtype} {tuple(x.shape)}, not {plain[name].dtype} of torch's shape"
    found = compare(list(ours.values()), list(truth.values()), list(plain.values()), list(ours))
    return faults(found)
