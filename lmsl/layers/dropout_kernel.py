"""Dropout masks drawn on the GPU that uses them: bit by bit those that ``dropout`` draws on a CPU.

Drawn on the host, the masks of a large model would take longer to make and to send than its step.
And a CUDA graph replays a launch with the arguments of its capture, so what moves from one
micro-batch to the next, step and offsets, is read from memory when the kernel runs.

Shapes: R runs, T rows of each run, F features; a block of Philox gives 16 elements of 16 bits.
"""

from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCKS = 128


def draw(
    place: Tensor,
    *,
    column: int,
    site: int,
    tokens: int,
    features: int,
    threshold: int,
    scale: float,
) -> Tensor:
    """Factors [R, T, F] float32: 0 where the 16 bits are below ``threshold``, else ``scale``.

    Args:
        place: int64 [R, 4] as from ``DropoutClock.place``, on the device.
        column: the column of ``place`` with the number of the first row.
        site: of the drawing module, below 2**63.
    """
    assert place.dtype == torch.int64 and place.stride() == (4, 1) and 0 <= threshold < 1 << 16
    factors = torch.empty(len(place), tokens, features, device=place.device)
    if not factors.numel():
        return factors
    items = tokens * triton.cdiv(features, 16)
    with torch.cuda.device(place.device) if place.is_cuda else nullcontext():
        _draw[(triton.cdiv(items, _BLOCKS), len(place))](
            factors,
            place,
            site,
            tokens,
            threshold,
            scale,
            COLUMN=column,
            FEATURES=features,
            BLOCKS=_BLOCKS,
        )
    return factors


@triton.jit(do_not_specialize=["site", "tokens", "threshold"])
def _draw(
    factors,
    place,
    site,
    tokens,
    threshold,
    scale,
    COLUMN: tl.constexpr,
    FEATURES: tl.constexpr,
    BLOCKS: tl.constexpr,
) -> Any:
    """Program (i, run) draws ``BLOCKS`` blocks of a run; a row is a whole number of blocks."""
    PER_ROW: tl.constexpr = (FEATURES + 15) // 16
    run = tl.program_id(1).to(tl.int64)
    item = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)
    row = item // PER_ROW
    seed = tl.load(place + 4 * run)
    step = tl.load(place + 4 * run + 1)
    first = tl.load(place + 4 * run + COLUMN)
    nothing = tl.zeros([BLOCKS], tl.int64)
    # numpy raises the counter before it draws.
    counter = first * PER_ROW + item + 1
    words = tl.philox(seed, counter, nothing + step, nothing + site, nothing)
    lane = tl.arange(0, 4)
    for number in tl.static_range(4):
        # [BLOCKS, 4]: the four elements of a word, its lowest bits first.
        bits = (words[number][:, None] >> (16 * lane).to(tl.uint64)[None, :]) & 0xFFFF
        feature = (item % PER_ROW * 16)[:, None] + (4 * number + lane)[None, :]
        values = tl.where(bits.to(tl.int32) >= threshold, scale, 0.0)
        target = factors + (run * tokens + row[:, None]) * FEATURES + feature
        tl.store(target, values, mask=(row[:, None] < tokens) & (feature < FEATURES))
