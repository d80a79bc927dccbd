"""The frozen weights of linear layers over one input, as one matrix.

``lay_side_by_side`` moves weights that are in memory next to each other, once; each stays the
property of its layer, which from then on holds a view of the joint matrix, and nothing is kept
twice. A ``FrozenGroup`` replaces nothing: it multiplies with the joint matrix for as long as its
layers lie there, and joins their weights at every use where they do not, or are dequantised then:
same numbers, one more copy.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lmsl.layers.products import frozen_back, frozen_product
from lmsl.layers.quantize import NF4Linear

Linear = NF4Linear | nn.Linear


def lay_side_by_side(layers: Sequence[nn.Module]) -> None:
    """Replace the weights of some layers, in place, by views of one matrix that holds them all.

    Nothing happens where they lie so already, are not all in memory, or differ in dtype or device.
    """
    linears = _linears(layers)
    parts = _in_memory_all(linears)
    if parts is None or len(parts) < 2 or _neighbours(parts) is not None:
        return
    joint = torch.cat(parts)
    for layer, own in zip(linears, joint.split([len(part) for part in parts]), strict=True):
        if isinstance(layer, NF4Linear):
            layer.resident = own
        else:
            layer.weight.data = own


class FrozenGroup:
    """One or more frozen layers multiplied at once.

    Args:
        layers: ``NF4Linear`` or ``nn.Linear``, all of one kind, device and dtype; best after
            ``lay_side_by_side``.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        assert len({type(layer) for layer in layers}) == 1, "linear layers of several kinds"
        self._layers = _linears(layers)
        self.sizes = tuple(layer.out_features for layer in self._layers)
        parts = _in_memory_all(self._layers)
        self._joint = _neighbours(parts) if parts is not None and len(parts) > 1 else None
        self._biased = any(layer.bias is not None for layer in self._layers)
        self.quantised = isinstance(layers[0], NF4Linear)

    def product(self, inputs: Tensor) -> Tensor:
        """[N, in_features] to [N, sum of sizes], in the input's dtype or autocast's."""
        return frozen_product(inputs, self)

    def back(self, grad: Tensor) -> Tensor:
        """The gradient of the input from that of the output, in what the product is computed."""
        return frozen_back(grad, self)

    def weight_in(self, dtype: torch.dtype) -> Tensor:
        """[sum of sizes, in_features]."""
        if self._joint is not None and self._joint.dtype == dtype and self._still_joined():
            return self._joint
        parts = [_in_dtype(layer, dtype) for layer in self._layers]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def bias_in(self, dtype: torch.dtype) -> Tensor | None:
        """[sum of sizes], 0 where a layer has none; None where no layer has one."""
        if not self._biased:
            return None
        biases = [layer.bias for layer in self._layers]
        device = next(bias.device for bias in biases if bias is not None)
        parts = [
            torch.zeros(size, dtype=dtype, device=device) if bias is None else bias.to(dtype)
            for bias, size in zip(biases, self.sizes, strict=True)
        ]
        return torch.cat(parts)

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


def _linears(layers: Sequence[nn.Module]) -> list[Linear]:
    found = [layer for layer in layers if isinstance(layer, (NF4Linear, nn.Linear))]
    assert len(found) == len(layers)
    return found


def _in_memory_all(layers: Sequence[Linear]) -> list[Tensor] | None:
    """The weights in memory; None where one is not, or they differ in dtype or device."""
    parts = [weight for weight in map(_in_memory, layers) if weight is not None]
    alike = len({(part.dtype, part.device) for part in parts}) == 1
    return parts if alike and len(parts) == len(layers) else None


def _neighbours(parts: Sequence[Tensor]) -> Tensor | None:
    """One matrix over parts that lie side by side, without a copy; None where they do not."""
    place, width = parts[0].data_ptr(), parts[0].shape[1]
    for part in parts:
        if part.data_ptr() != place or not part.is_contiguous():
            return None
        place += part.nbytes
    if len({part.untyped_storage().data_ptr() for part in parts}) > 1:
        return None
    rows = sum(len(part) for part in parts)
    return parts[0].as_strided((rows, width), (width, 1))


def _in_memory(layer: Linear) -> Tensor | None:
    return layer.resident if isinstance(layer, NF4Linear) else layer.weight.detach()


def _in_dtype(layer: Linear, dtype: torch.dtype) -> Tensor:
    return layer.weight_in(dtype) if isinstance(layer, NF4Linear) else layer.weight.to(dtype)
