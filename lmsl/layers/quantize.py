"""Frozen linear layers in bitsandbytes' NF4 format, with one arithmetic everywhere.

bitsandbytes quantises, stores and dequantises; its ``Linear4bit`` is not used, because on CPUs
with AVX512-BF16 the first forward without gradients in eval mode repacks the weights in place and
computes differently from then on. ``NF4Linear`` dequantises and multiplies in the same way in
train and eval mode, with and without gradients, in the forward and in the backward.

Weights are quantised as a flat list of 64-value blocks. That is bitsandbytes' own layout, but
its CPU kernel restarts the blocks at each row and so returns wrong values when the row length is
not a multiple of 64; handing it rows of exactly one block is right for every shape.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from lmsl.errors import InputError
from lmsl.layers.linears import decoder_matrices, replace_module
from lmsl.layers.products import frozen_back, frozen_product

_BLOCK = 64
_ABSMAX_BLOCK = 256
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)


class NF4Linear(nn.Module):
    """A frozen linear layer ``y = x W^T + b`` whose weight is stored in double-quantised NF4.

    On CPU it computes in float32 and returns the input's dtype; elsewhere it computes in the
    input's dtype, or autocast's where that is on. It has no parameters: its state is buffers,
    which ``.to(device)`` moves and no call to ``.to(dtype)`` rounds.

    Args:
        weight: ``[out_features, in_features]`` float32, bfloat16 or float16.
        bias: ``[out_features]`` or None; kept as it is.
        resident: keep the dequantised weight in memory. The numbers stay bitwise the same.
        dtype: what the weight is dequantised to.
        transposed: the layer it was made from held its weight as ``[in, out]`` (GPT-2).
    """

    quantised = True

    packed: torch.Tensor
    absmax: torch.Tensor
    absmax_code: torch.Tensor
    absmax_scale: torch.Tensor
    absmax_offset: torch.Tensor
    bias: torch.Tensor | None
    resident: torch.Tensor | None

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        *,
        resident: bool = False,
        dtype: torch.dtype = torch.float32,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.dtype = dtype
        self.transposed = transposed
        flat = weight.detach().flatten()
        # Zeros fill the last block: they change neither its largest value nor its codes.
        flat = nn.functional.pad(flat, (0, -flat.numel() % _BLOCK))
        packed, state = _bitsandbytes().quantize_4bit(
            flat.view(-1, _BLOCK), blocksize=_BLOCK, compress_statistics=True, quant_type="nf4"
        )
        self.register_buffer("packed", packed)
        self.register_buffer("absmax", state.absmax)
        # The code table is shared by all layers inside bitsandbytes; a buffer has to own its own.
        self.register_buffer("absmax_code", state.state2.code.clone())
        self.register_buffer("absmax_scale", state.state2.absmax)
        self.register_buffer("absmax_offset", state.offset)
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        self.register_buffer("resident", None, persistent=False)
        if resident:
            self.resident = self.dequantize()
        self.register_load_state_dict_post_hook(_refresh_resident)

    @classmethod
    def from_linear(
        cls, linear: nn.Linear | Conv1D, *, resident: bool, dtype: torch.dtype = torch.float32
    ) -> NF4Linear:
        """Quantise an ``nn.Linear``, or a ``Conv1D`` (GPT-2), whose weight is transposed first."""
        transposed = isinstance(linear, Conv1D)
        weight = linear.weight.detach().T.contiguous() if transposed else linear.weight
        return cls(weight, linear.bias, resident=resident, dtype=dtype, transposed=transposed)

    def dequantize(self) -> torch.Tensor:
        """The weight computed afresh from its codes: ``[out_features, in_features]``."""
        bnb = _bitsandbytes()
        scales = bnb.QuantState(
            absmax=self.absmax_scale,
            code=self.absmax_code,
            blocksize=_ABSMAX_BLOCK,
            dtype=torch.float32,
        )
        blocks = torch.Size((self.packed.numel() * 2 // _BLOCK, _BLOCK))
        state = bnb.QuantState(
            absmax=self.absmax,
            shape=blocks,
            dtype=self.dtype,
            blocksize=_BLOCK,
            quant_type="nf4",
            offset=self.absmax_offset,
            state2=scales,
        )
        values: torch.Tensor = bnb.dequantize_4bit(self.packed, state).view(-1)
        size = self.out_features * self.in_features
        return values[:size].view(self.out_features, self.in_features)

    def weight_in(self, dtype: torch.dtype) -> torch.Tensor:
        """The dequantised weight in ``dtype``, from memory where it is resident."""
        return (self.dequantize() if self.resident is None else self.resident).to(dtype)

    def bias_in(self, dtype: torch.dtype) -> torch.Tensor | None:
        """The bias in ``dtype``."""
        return None if self.bias is None else self.bias.to(dtype)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``[..., in_features]`` to ``[..., out_features]``; differentiable in the input alone."""
        outputs: torch.Tensor = _FrozenLinear.apply(inputs, self)
        return outputs

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, resident={self.resident is not None}"
        )

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        # model.to(bfloat16) and model.half() would round the quantisation state.
        dtypes = {name: buffer.dtype for name, buffer in self.named_buffers(recurse=False)}
        before = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, buffer in list(self.named_buffers(recurse=False)):
            if buffer.dtype != dtypes[name]:
                setattr(self, name, before[name].to(buffer.device))
        return self


@cache
def _bitsandbytes() -> ModuleType:
    """``bitsandbytes.functional``, imported on first use: it takes seconds."""
    # On some CPUs it asks in a warning for a package that only Linear4bit would use.
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return importlib.import_module("bitsandbytes.functional")
    finally:
        logger.setLevel(level)


def _refresh_resident(module: nn.Module, incompatible: object) -> None:
    """After ``load_state_dict``, the resident copy follows the codes."""
    assert isinstance(module, NF4Linear)
    if module.resident is not None:
        module.resident = module.dequantize()


class _FrozenLinear(torch.autograd.Function):
    """Multiply by a frozen weight that the backward asks for again instead of saving it."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, layer: NF4Linear) -> torch.Tensor:
        ctx.layer, ctx.input_dtype = layer, inputs.dtype
        return frozen_product(inputs, layer)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return frozen_back(grad, ctx.layer).to(ctx.input_dtype), None


@dataclass(frozen=True, kw_only=True)
class QuantizeReport:
    """What ``quantize_linears`` did, by module name."""

    quantised: list[str]
    """Layers that are NF4 now."""

    left: list[tuple[str, str]]
    """Modules with weight matrices that were left alone, and why."""

    bytes_before: int
    """Memory of the quantised layers before, in bytes."""

    bytes_after: int
    """Their memory now, resident copies included."""


def quantize_linears(
    model: nn.Module,
    *,
    resident: bool,
    dtype: torch.dtype = torch.float32,
) -> QuantizeReport:
    """Replace the linear layers inside the decoder layers by ``NF4Linear``, in place.

    Call it before LoRA is added. Embeddings, norms, output heads, routers and experts that are
    not ``nn.Linear`` stay as they are; the report names those that hold matrices.

    Args:
        resident: keep dequantised copies in memory.
        dtype: what the weights are dequantised to: float32 on CPU, the compute dtype elsewhere.

    Raises:
        InputError: a weight is not float32, bfloat16 or float16, or not finite.
    """
    quantised, left, before, after = [], [], 0, 0
    for name, module, reason in list(decoder_matrices(model, NF4Linear)):
        if reason is None and isinstance(module, NF4Linear):
            reason = "already NF4"
        if reason is not None:
            left.append((name, reason))
            continue
        _check_weight(name, module)
        layer = NF4Linear.from_linear(module, resident=resident, dtype=dtype)
        before += sum(p.nbytes for p in module.parameters())
        after += sum(b.nbytes for b in layer.buffers())
        replace_module(model, name, layer.train(module.training))
        quantised.append(name)
    return QuantizeReport(quantised=quantised, left=left, bytes_before=before, bytes_after=after)


def _check_weight(name: str, linear: nn.Module) -> None:
    weight = linear.weight
    assert isinstance(weight, torch.Tensor)
    if weight.dtype not in _FLOATS:
        raise InputError(
            f"{name}.weight: expected float32, bfloat16 or float16 to quantise, got "
            f"{weight.dtype}; load the model without its own quantisation"
        )
    if not bool(torch.isfinite(weight).all()):
        raise InputError(f"{name}.weight: expected finite values, got NaN or infinity")
