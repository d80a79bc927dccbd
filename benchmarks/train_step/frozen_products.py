"""The floor of an update where arithmetic decides: the products with the frozen weights alone.

Every row of an update is multiplied with the frozen weights of every layer once forward and once
back to the input, whoever trains and however many runs share a stack. What is left out makes the
floor lower, never higher: adapters, attention, all element-wise work, the optimizer, and of the
products those that a clever forward can do without, the way back into the first layer's input and
what stands behind the attention of the last layer.

Shapes: N rows.
"""

import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.shared.timing import wait
from lmsl.layers.fused.block import linear_groups
from lmsl.layers.fused.frozen import FrozenGroup
from lmsl.layers.fused.linear import frozen_part
from lmsl.layers.quantize import NF4Linear
from lmsl.tagger.tagger import Tagger
from lmsl.training.stack import Place


class FrozenProducts:
    """The products of one tagger whose layers are Llama-shaped.

    Args:
        tagger: with a forward of ours (``tagger.block``).
        place: where and in what it computes.
    """

    def __init__(self, tagger: Tagger, place: Place) -> None:
        assert tagger.block is not None, "only layers that the own forward knows are taken apart"
        decoder: Any = tagger.decoder
        groups = [_groups(layer) for layer in decoder.layers]
        self._forward = [one for layer in groups[:-1] for one in layer] + groups[-1][:1]
        self._back = self._forward[1:]
        self._place = place

    @torch.no_grad()
    def seconds(self, rows: int) -> tuple[float, float]:
        """Wall and processor seconds of all products of ``rows`` rows."""
        inputs = [
            self._rows(rows, one.weight_in(self._place.dtype).shape[1]) for one in self._forward
        ]
        grads = [self._rows(rows, sum(one.sizes)) for one in self._back]
        wait(self._place.device)
        wall, processor = time.perf_counter(), time.process_time()
        for one, states in zip(self._forward, inputs, strict=True):
            one.product(states)
        for one, grad in zip(self._back, grads, strict=True):
            one.back(grad)
        wait(self._place.device)
        return time.perf_counter() - wall, time.process_time() - processor

    def _rows(self, count: int, features: int) -> Tensor:
        return torch.randn(count, features, device=self._place.device, dtype=self._place.dtype)


def dequantisation_seconds(tagger: Tagger) -> float:
    """Wall seconds to dequantise every NF4 weight once, the best of three; 0 without any."""
    layers = [module for module in tagger.modules() if isinstance(module, NF4Linear)]
    times = []
    for _ in range(3):
        began = time.perf_counter()
        for layer in layers:
            layer.dequantize()
        if layers:
            wait(layers[0].packed.device)
        times.append(time.perf_counter() - began)
    return min(times)


def _groups(layer: Any) -> list[FrozenGroup]:
    return [FrozenGroup([frozen_part(one) for one in own]) for own in linear_groups(layer)]
