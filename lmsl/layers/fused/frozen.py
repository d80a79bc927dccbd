"""The frozen weights of linear layers over one input, as one matrix.

Weights that are in memory are laid side by side once and stay the property of their layers, which
from then on hold views of the joint matrix; nothing is kept twice. Weights that are dequantised at
every use are joined at every use.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lmsl.layers.quantize import NF4Linear


class FrozenGroup:
    """One or more frozen layers multiplied at once.

    Args:
        layers: ``NF4Linear`` or ``nn.Linear``, all of one kind, device and dtype. Their weights
            in memory become views of one matrix.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        assert len({type(layer) for layer in layers}) == 1, "linear layers of several kinds"
        self._layers = [layer for layer in layers if isinstance(layer, (NF4Linear, nn.Linear))]
        assert len(self._layers) == len(layers)
        self.sizes = tuple(layer.out_features for layer in self._layers)
        self._joint = _joined(self._layers) if len(layers) > 1 else None
        self._biased = any(layer.bias is not None for layer in self._layers)
        self._quantised = isinstance(layers[0], NF4Linear)

    def product(self, inputs: Tensor) -> Tensor:
        """[N, in_features] to [N, sum of sizes], in the input's dtype or autocast's."""
        device, result = inputs.device.type, inputs.dtype
        if self._in_float32(device):
            compute = torch.float32
        else:
            if torch.is_autocast_enabled(device):
                result = torch.get_autocast_dtype(device)
            compute = result
        with without_autocast(device):
            bias = self._bias(compute) if self._biased else None
            return nn.functional.linear(inputs.to(compute), self.weight(compute), bias).to(result)

    def back(self, grad: Tensor) -> Tensor:
        """The gradient of the input from that of the output, in what the product is computed."""
        device = grad.device.type
        compute = torch.float32 if self._in_float32(device) else grad.dtype
        with without_autocast(device):
            return grad.to(compute) @ self.weight(compute)

    def _in_float32(self, device: str) -> bool:
        return self._quantised and device == "cpu"

    def weight(self, dtype: torch.dtype) -> Tensor:
        """[sum of sizes, in_features]."""
        if self._joint is not None and self._joint.dtype == dtype and self._still_joined():
            return self._joint
        parts = [_in_dtype(layer, dtype) for layer in self._layers]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _still_joined(self) -> bool:
        """Whether the layers still hold the views: not after they were moved or loaded again."""
        assert self._joint is not None
        place, width = self._joint.data_ptr(), self._joint.stride(0) * self._joint.itemsize
        for layer, size in zip(self._layers, self.sizes, strict=True):
            held = _in_memory(layer)
            if held is None or held.data_ptr() != place:
                self._joint = None
                return False
            place += size * width
        return True

    def _bias(self, dtype: torch.dtype) -> Tensor:
        biases = [layer.bias for layer in self._layers]
        device = next(bias.device for bias in biases if bias is not None)
        parts = [
            torch.zeros(size, dtype=dtype, device=device) if bias is None else bias.to(dtype)
            for bias, size in zip(biases, self.sizes, strict=True)
        ]
        return torch.cat(parts)


def _joined(layers: Sequence[NF4Linear | nn.Linear]) -> Tensor | None:
    """One matrix of which the layers' weights are views; None where they are not in memory."""
    parts = [weight for weight in map(_in_memory, layers) if weight is not None]
    if len(parts) < len(layers) or len({(part.dtype, part.device) for part in parts}) > 1:
        return None
    joint = _neighbours(parts)
    joint = torch.cat(parts) if joint is None else joint
    for layer, own in zip(layers, joint.split([len(part) for part in parts]), strict=True):
        if isinstance(layer, NF4Linear):
            layer.resident = own
        else:
            layer.weight.data = own
    return joint


def _neighbours(parts: Sequence[Tensor]) -> Tensor | None:
    """One matrix over parts that an earlier group laid side by side, without a copy."""
    place, width = parts[0].data_ptr(), parts[0].shape[1]
    for part in parts:
        if part.data_ptr() != place or not part.is_contiguous():
            return None
        place += part.nbytes
    if len({part.untyped_storage().data_ptr() for part in parts}) > 1:
        return None
    rows = sum(len(part) for part in parts)
    return parts[0].as_strided((rows, width), (width, 1))


def _in_memory(layer: NF4Linear | nn.Linear) -> Tensor | None:
    return layer.resident if isinstance(layer, NF4Linear) else layer.weight.detach()


def _in_dtype(layer: NF4Linear | nn.Linear, dtype: torch.dtype) -> Tensor:
    return layer.weight_in(dtype) if isinstance(layer, NF4Linear) else layer.weight.to(dtype)


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Arithmetic as written, inside a function that has looked at autocast itself."""
    enabled = torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if enabled else nullcontext()
