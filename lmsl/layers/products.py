"""The arithmetic of frozen weights and of adapters: what is computed in which dtype, said once.

Single layers (``quantize``, ``lora``) leave the backward to autograd; those of several layers at
once (``fused.linear``, ``fused.frozen``) have one of their own. Both compute here.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import nn


class Frozen(Protocol):
    """What frozen products multiply with: one layer, or several side by side."""

    quantised: bool
    """Whether it is NF4, which on a CPU computes in float32."""

    def weight_in(self, dtype: torch.dtype) -> torch.Tensor:
        """``[out_features, in_features]``."""
        ...

    def bias_in(self, dtype: torch.dtype) -> torch.Tensor | None:
        """``[out_features]``."""
        ...


def frozen_product(inputs: torch.Tensor, frozen: Frozen) -> torch.Tensor:
    """``[..., in_features]`` to ``[..., out_features]``, in the input's dtype or autocast's."""
    device, result = inputs.device.type, inputs.dtype
    in_float32 = _in_float32(frozen, device)
    if not in_float32:
        result = autocast_dtype(device, result)
    compute = torch.float32 if in_float32 else result
    with without_autocast(device):
        outputs = nn.functional.linear(
            inputs.to(compute), frozen.weight_in(compute), frozen.bias_in(compute)
        )
    return outputs.to(result)


def frozen_back(grad: torch.Tensor, frozen: Frozen) -> torch.Tensor:
    """The gradient of the input from that of the output, in what the product was computed in."""
    device = grad.device.type
    compute = torch.float32 if _in_float32(frozen, device) else grad.dtype
    with without_autocast(device):
        return grad.to(compute) @ frozen.weight_in(compute)


def _in_float32(frozen: Frozen, device: str) -> bool:
    return frozen.quantised and device == "cpu"


def add_adapter(
    outputs: torch.Tensor,
    rows: torch.Tensor,
    factors: torch.Tensor | None,
    a: torch.Tensor,
    b: torch.Tensor,
    scaling: float,
    *,
    in_place: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``outputs + scaling * B A (factors * rows)`` of every run.

    Computed in autocast's dtype where that is on, else in that of the parameters; outputs of
    another dtype are widened for the sum and rounded once.

    Args:
        outputs: ``[runs, tokens, out_features]``.
        rows: ``[runs, tokens, in_features]``.
        factors: of dropout, in the shape of the rows.
        a, b: ``[runs, rank, in_features]``, ``[runs, out_features, rank]``.
        in_place: over the outputs, which autograd must not be looking at.

    Returns:
        The sum; for a backward of one's own also the rows as A multiplied them, and what came out.
    """
    device = rows.device.type
    dtype = autocast_dtype(device, a.dtype)
    with without_autocast(device):
        rows = (rows if factors is None else rows * factors).to(dtype)
        inner = torch.bmm(rows, a.to(dtype).transpose(1, 2))
        right, wide = b.to(dtype).transpose(1, 2), outputs.to(dtype)
        if in_place:
            wide.baddbmm_(inner, right, alpha=scaling)
            total = outputs if wide is outputs else outputs.copy_(wide)
        else:
            total = torch.baddbmm(wide, inner, right, alpha=scaling).to(outputs.dtype)
    return total, rows, inner


def autocast_dtype(device: str, otherwise: torch.dtype) -> torch.dtype:
    """Autocast's dtype where that is on."""
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return otherwise


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Arithmetic as written."""
    enabled = torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if enabled else nullcontext()
