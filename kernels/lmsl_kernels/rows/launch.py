"""From tensors to launches of ``kernels``: grids, arguments, tile sizes.

Tile sizes follow from the features of a row alone, so nothing is tuned and nothing compiled again
for another number of rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from lmsl_kernels.rows import kernels as row_kernels

# Decided when the kernels were defined, by TRITON_INTERPRET.
INTERPRETED = not isinstance(row_kernels.norm_forward, triton.JITFunction)
# A thread holds 16 elements of a row that is summed over: two loads of 16 bytes in flight for each
# tensor of 16 bits, and registers for three tensors (with 32 elements, 16384 features in 16 warps,
# some spilled). Narrow rows share a program of 4 warps.
_ELEMENTS, _WARP, _FEW_WARPS = 16, 32, 4
_SHARED_BLOCK = _FEW_WARPS * _WARP * _ELEMENTS
# Without a sum over the row, programs have 8 elements a thread, one load of 16 bytes, of a part of
# a row or of some narrow ones: a batch of short sentences has few rows, and all of a GPU should
# have something of them.
_PART = _FEW_WARPS * _WARP * 8


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


def norm_forward_launch(
    inputs: Tensor,
    weight: Tensor,
    epsilon: float,
    normed: Tensor,
    scale: Tensor,
    added: tuple[Tensor, Tensor] | None = None,
) -> RowLaunch:
    """Into ``normed`` and ``scale``; ``added``: what to add first, and where the sums go."""
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
    """Into ``out``."""
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
    warps = max(block // (_ELEMENTS * _WARP), _FEW_WARPS)
    return RowLaunch(
        kernel=kernel,
        grid=(triton.cdiv(rows, together),),
        arguments={**arguments, "rows": rows},
        constants={"HEADS": heads, "WIDTH": width, "ROWS": together, "BLOCK": block},
        warps=warps,
        device=inputs.device,
    )


def swiglu_forward_launch(gate_up: Tensor, outputs: Tensor) -> RowLaunch:
    """Into ``outputs``."""
    arguments = {
        "gate_up": gate_up,
        "gate_up_row_stride": gate_up.stride(0),
        "outputs": outputs,
    }
    return _swiglu_launch(row_kernels.swiglu_forward, gate_up, arguments)


def swiglu_backward_launch(grad: Tensor, gate_up: Tensor) -> RowLaunch:
    """Over ``gate_up``."""
    arguments = {
        "grad": grad,
        "grad_row_stride": grad.stride(0),
        "gate_up": gate_up,
        "gate_up_row_stride": gate_up.stride(0),
    }
    return _swiglu_launch(row_kernels.swiglu_backward, gate_up, arguments)


def _swiglu_launch(kernel: Any, gate_up: Tensor, arguments: dict[str, Any]) -> RowLaunch:
    rows, width = len(gate_up), gate_up.shape[1] // 2
    block = min(_PART, triton.next_power_of_2(width))
    together = _PART // block
    return RowLaunch(
        kernel=kernel,
        grid=(triton.cdiv(rows, together), triton.cdiv(width, block)),
        arguments={**arguments, "rows": rows},
        constants={"WIDTH": width, "ROWS": together, "BLOCK": block},
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
    """Into ``targets``: like ``sources`` those of queries and keys, or with values three."""
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
    # Pairs of elements, as many as elements in a part of a SwiGLU.
    together = _PART // block
    programs = [triton.cdiv(rows * x.shape[1], together) for x in sources]
    return RowLaunch(
        kernel=row_kernels.rotate,
        grid=(sum(programs),),
        arguments={**arguments, "rows": rows},
        constants={
            "QUERY_HEADS": query_heads,
            "KEY_HEADS": key_heads,
            "HALF": half,
            "ROWS": together,
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
