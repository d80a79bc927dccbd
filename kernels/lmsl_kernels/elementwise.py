"""The small operations of a Llama-shaped layer on a GPU: RMS norm, SwiGLU, rotary embedding.

Written out in torch each is four to ten launches, every one a pass over memory; here each is one.
These are functions on tensors without gradients of their own: who composes a layer knows what it
keeps for the backward, and calls the backward functions itself. Everything that varies from batch
to batch, the number of rows, is an argument that nothing is compiled for, and nothing is read back
from the device, so calls can be captured in a CUDA graph.

bfloat16, float16 and float32; any number of rows, 0 included; rows may lie apart, the last
dimension is contiguous (where a gradient's is not, it is copied).

Shapes: N rows of H features; heads of head_dim features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from lmsl_kernels import row_kernels

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
MOST_FEATURES = 16384
"""Of a norm: a row is held in the registers of one program."""
MOST_HEAD_DIM = 256
# Decided when the kernels were defined, by TRITON_INTERPRET.
INTERPRETED = not isinstance(row_kernels.norm_forward, triton.JITFunction)
# A thread holds 16 elements of a row that is reduced: two loads of 16 bytes in flight for every
# tensor in 16 bits, and few enough registers with three tensors; 32 of the widest rows, since more
# warps would wait for each other longer. Narrow rows share a program of 4 warps.
_ELEMENTS, _WARP, _FEW_WARPS, _MOST_WARPS = 16, 32, 4, 16
_SHARED_BLOCK = _FEW_WARPS * _WARP * _ELEMENTS
# Without a sum over the row it is cut into parts of 8 elements a thread, one load of 16 bytes:
# a batch of short sentences has few rows, and all of a GPU should have something of them.
_PART = _FEW_WARPS * _WARP * 8


def unsupported(
    device: torch.device, dtype: torch.dtype, *, features: int, head_dim: int
) -> str | None:
    """Why these functions cannot serve a layer, or ``None``."""
    if device.type == "cuda":
        found = torch.cuda.get_device_capability(device)
        if found < (8, 0):
            return f"it needs compute capability 8.0 or later, got {found[0]}.{found[1]}"
    elif not (INTERPRETED and device.type == "cpu"):
        return f"it needs a CUDA device, got {device} (TRITON_INTERPRET=1 runs it on the CPU)"
    if dtype not in DTYPES:
        return f"it computes bfloat16, float16 and float32, got {dtype}"
    if features > MOST_FEATURES:
        return f"rows may have at most {MOST_FEATURES} features, got {features}"
    if head_dim > MOST_HEAD_DIM or head_dim % 2:
        return f"head_dim must be even and at most {MOST_HEAD_DIM}, got {head_dim}"
    return None


@dataclass(frozen=True, eq=False, kw_only=True)
class RowLaunch:
    """One kernel launch, not yet made: on ``meta`` tensors it says what would be compiled."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    constants: dict[str, int | bool]
    warps: int
    device: torch.device

    def run(self) -> None:
        """Start it on the device of its tensors, whichever is the current one."""
        if not math.prod(self.grid):
            return
        if self.device.type == "cuda" and self.device.index != torch.cuda.current_device():
            # Triton launches, and torch hands out streams, on the current device.
            with torch.cuda.device(self.device):
                self._start()
        else:
            self._start()

    def _start(self) -> None:
        self.kernel[self.grid](**self.arguments, **self.constants, num_warps=self.warps)


def norm_forward(inputs: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """``weight * inputs / rms(inputs)`` over the last dimension, and 1 / rms of every row.

    Args:
        inputs: [N, H] or [N, heads, H].
        weight: [H].

    Returns:
        contiguous, in the dtype to which input and weight promote; and float32 [..., 1].
    """
    normed = _empty(inputs.shape, inputs, torch.promote_types(inputs.dtype, weight.dtype))
    scale = _empty((*inputs.shape[:-1], 1), inputs, torch.float32)
    norm_forward_launch(_rows(inputs), weight, epsilon, normed, scale).run()
    return normed, scale


def add_norm_forward(
    fresh: Tensor, other: Tensor, weight: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``fresh + other`` [N, H], and ``norm_forward`` of that.

    The sum takes the memory of ``fresh`` where that is contiguous and has the sum's dtype.
    """
    dtype = torch.promote_types(fresh.dtype, other.dtype)
    fits = fresh.dtype == dtype and fresh.is_contiguous()
    sums = fresh if fits else _empty(fresh.shape, fresh, dtype)
    normed = _empty(fresh.shape, fresh, torch.promote_types(dtype, weight.dtype))
    scale = _empty((len(fresh), 1), fresh, torch.float32)
    added = (_rows(other), sums)
    norm_forward_launch(_rows(fresh), weight, epsilon, normed, scale, added).run()
    return sums, normed, scale


def norm_backward(
    grad: Tensor,
    inputs: Tensor,
    weight: Tensor,
    scale: Tensor,
    *,
    added: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The gradient of the input of ``norm_forward``; its weight is frozen.

    Args:
        grad, inputs: [N, H] or [N, heads, H].
        scale: 1 / rms of every row.
        added: [N, H], what the input's gradient is besides.
        out: where to write it; by default new memory in the dtype of ``inputs``.
    """
    out = _empty(inputs.shape, inputs, inputs.dtype) if out is None else out
    added = None if added is None else _rows(added)
    norm_backward_launch(_rows(grad), _rows(inputs), weight, scale, added, out).run()
    return out


def swiglu_forward(gate_up: Tensor) -> Tensor:
    """``silu(gate) * up`` of [N, 2 * H], the gate first: [N, H]."""
    outputs = _empty((len(gate_up), gate_up.shape[1] // 2), gate_up, gate_up.dtype)
    swiglu_forward_launch(_rows(gate_up), outputs).run()
    return outputs


def swiglu_backward_(grad: Tensor, gate_up: Tensor) -> None:
    """Write the gradient of ``gate_up`` [N, 2 * H] over it, given that of the output [N, H]."""
    swiglu_backward_launch(_rows(grad), gate_up).run()
    # Or autograd would not see that what it kept has changed, and let it be used again.
    torch.autograd.graph.increment_version(gate_up)


def rotate(queries: Tensor, keys: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Rotary position embedding of queries and keys [N, heads, head_dim], contiguous.

    Feature i is paired with feature ``i + head_dim / 2``: (x, y) becomes
    (x cos - y sin, y cos + x sin).

    Args:
        cos, sin: [N, head_dim], both halves the same.
    """
    sources = (queries, keys)
    turned = [_empty(x.shape, x, torch.promote_types(x.dtype, cos.dtype)) for x in sources]
    rotate_launch(sources, turned, cos, sin).run()
    return turned[0], turned[1]


def rotate_backward(
    grads: Sequence[Tensor], cos: Tensor, sin: Tensor, out: Sequence[Tensor]
) -> None:
    """Rotate the gradients of queries and keys back into ``out``, and copy that of the values.

    Args:
        grads, out: of queries, keys and values, each [N, heads, head_dim].
    """
    rotate_launch([_rows(grad) for grad in grads], out, cos, sin, back=True).run()


def norm_forward_launch(
    inputs: Tensor,
    weight: Tensor,
    epsilon: float,
    normed: Tensor,
    scale: Tensor,
    added: tuple[Tensor, Tensor] | None = None,
) -> RowLaunch:
    """``added``: what to add first, and where the sums go."""
    other, sums = (None, None) if added is None else added
    return _norm_launch(
        row_kernels.norm_forward,
        inputs,
        {
            **_strided(inputs=inputs),
            "added": other,
            "added_row_stride": 0 if other is None else other.stride(0),
            "weight": weight,
            "sums": sums,
            "outputs": normed,
            "inverse": scale,
            "epsilon": epsilon,
        },
    )


def norm_backward_launch(
    grad: Tensor,
    inputs: Tensor,
    weight: Tensor,
    scale: Tensor,
    added: Tensor | None,
    out: Tensor,
) -> RowLaunch:
    return _norm_launch(
        row_kernels.norm_backward,
        inputs,
        {
            **_strided(grad=grad, inputs=inputs),
            "weight": weight,
            "inverse": scale,
            "added": added,
            "added_row_stride": 0 if added is None else added.stride(0),
            **_strided(outputs=out),
        },
    )


def _norm_launch(kernel: Any, inputs: Tensor, arguments: dict[str, Any]) -> RowLaunch:
    width = inputs.shape[-1]
    heads = inputs.shape[1] if inputs.dim() == 3 else 1
    rows, block = len(inputs) * heads, triton.next_power_of_2(width)
    together = max(1, _SHARED_BLOCK // block)
    warps = min(max(block // (_ELEMENTS * _WARP), _FEW_WARPS), _MOST_WARPS)
    return RowLaunch(
        kernel=kernel,
        grid=(triton.cdiv(rows, together),),
        arguments={**arguments, "rows": rows},
        constants={"HEADS": heads, "WIDTH": width, "ROWS": together, "BLOCK": block},
        warps=warps,
        device=inputs.device,
    )


def swiglu_forward_launch(gate_up: Tensor, outputs: Tensor) -> RowLaunch:
    arguments = {
        "gate_up": gate_up,
        "gate_up_row_stride": gate_up.stride(0),
        "outputs": outputs,
    }
    return _swiglu_launch(row_kernels.swiglu_forward, gate_up, arguments)


def swiglu_backward_launch(grad: Tensor, gate_up: Tensor) -> RowLaunch:
    arguments = {
        "grad": grad,
        "grad_row_stride": grad.stride(0),
        "gate_up": gate_up,
        "gate_up_row_stride": gate_up.stride(0),
    }
    return _swiglu_launch(row_kernels.swiglu_backward, gate_up, arguments)


def _swiglu_launch(kernel: Any, gate_up: Tensor, arguments: dict[str, Any]) -> RowLaunch:
    width = gate_up.shape[1] // 2
    block = min(_PART, triton.next_power_of_2(width))
    return RowLaunch(
        kernel=kernel,
        grid=(len(gate_up), triton.cdiv(width, block)),
        arguments=arguments,
        constants={"WIDTH": width, "BLOCK": block},
        warps=_FEW_WARPS,
        device=gate_up.device,
    )


def rotate_launch(
    sources: Sequence[Tensor],
    targets: Sequence[Tensor],
    cos: Tensor,
    sin: Tensor,
    *,
    back: bool = False,
) -> RowLaunch:
    """``sources`` and ``targets``: of queries and keys, and of values where there are three."""
    names = ("queries", "keys", "values")[: len(sources)]
    arguments = {
        "values": None,
        "values_row_stride": 0,
        "values_head_stride": 0,
        "values_out": None,
        "values_out_row_stride": 0,
        "values_out_head_stride": 0,
        "cos": cos,
        "cos_row_stride": cos.stride(0),
        "sin": sin,
        "sin_row_stride": sin.stride(0),
        **_strided(**dict(zip(names, sources, strict=True))),
        **_strided(**{f"{name}_out": x for name, x in zip(names, targets, strict=True)}),
    }
    rows, query_heads, head_dim = sources[0].shape
    key_heads, half = sources[1].shape[1], head_dim // 2
    block = triton.next_power_of_2(half)
    # Pairs of elements: a part has as many of them as one of a SwiGLU.
    heads = min(_PART // block, triton.next_power_of_2(max(query_heads, key_heads)))
    parts = [triton.cdiv(x.shape[1], heads) for x in sources]
    return RowLaunch(
        kernel=row_kernels.rotate,
        grid=(rows, sum(parts)),
        arguments=arguments,
        constants={
            "QUERY_HEADS": query_heads,
            "KEY_HEADS": key_heads,
            "HALF": half,
            "HEADS": heads,
            "BLOCK": block,
            "BACK": back,
        },
        warps=_FEW_WARPS,
        device=sources[0].device,
    )


def _strided(**tensors: Tensor) -> dict[str, Any]:
    """Tensors [N, H] or [N, heads, head_dim] as arguments, with the strides of rows and heads."""
    arguments: dict[str, Any] = {}
    for name, x in tensors.items():
        arguments[name] = x
        arguments[f"{name}_row_stride"] = x.stride(0)
        arguments[f"{name}_head_stride"] = x.stride(1) if x.dim() == 3 else 0
    return arguments


def _rows(x: Tensor) -> Tensor:
    """Itself, or a copy where the last dimension is not contiguous, as of an expanded gradient."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _empty(shape: Sequence[int], like: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=like.device)
