"""The small operations of a Llama-shaped layer on a GPU: RMS norm, SwiGLU, rotary embedding.

In torch each is two to twelve launches, every one a pass over memory; here each is one. These are
functions on tensors without gradients of their own: who composes a layer knows what it keeps for
the backward, and calls the backward functions itself. What varies from batch to batch, the number
of rows, is an argument that nothing is compiled for, and nothing is read back from the device, so
calls can be captured in a CUDA graph.

bfloat16, float16 and float32; any number of rows, 0 included; rows may lie apart, the last
dimension is contiguous (where a gradient's is not, it is copied).

Shapes: N rows of H features; heads of head_dim features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lmsl_kernels.rows.launch import (
    INTERPRETED,
    norm_backward_launch,
    norm_forward_launch,
    rotate_launch,
    swiglu_backward_launch,
    swiglu_forward_launch,
)

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
MOST_FEATURES = 16384
"""Of a norm, whose row is held in the registers of one program of at most 32 warps."""
MOST_HEAD_DIM = 256


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
    rotate_launch([_rows(x) for x in sources], turned, _rows(cos), _rows(sin)).run()
    return turned[0], turned[1]


def rotate_backward(
    grads: Sequence[Tensor], cos: Tensor, sin: Tensor, out: Sequence[Tensor]
) -> None:
    """Rotate the gradients of queries and keys back into ``out``, and copy that of the values.

    Args:
        grads, out: of queries, keys and values, each [N, heads, head_dim].
    """
    rotate_launch([_rows(x) for x in grads], out, _rows(cos), _rows(sin), back=True).run()


def _rows(x: Tensor) -> Tensor:
    """Itself, or a copy where the last dimension is not contiguous, as of an expanded gradient."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _empty(shape: Sequence[int], like: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=like.device)
