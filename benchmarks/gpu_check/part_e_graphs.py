"""Part e: a captured step is replayed with other lengths in the same buffers, plan included."""

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.attention.batch import lay_out, make_batch
from benchmarks.attention.gate import PARTS, TOLERANCE, passes, reference_passes
from benchmarks.attention.peers import peers
from benchmarks.gpu_check.scope import Scope, agree
from lmsl_kernels import PackPlan, plan_pack

pytestmark = pytest.mark.gpu
Lengths = list[list[int]]


def cases(scope: Scope) -> list[tuple[int, int, Lengths]]:
    """Bound of the longest, rows of the buffers, lengths at capture and at each replay after."""
    if scope.toy:
        return [(16, 40, [[9, 3, 0, 5], [1, 16, 2, 3]])]
    return [
        (64, 160, [[60, 7, 33, 0], [1, 64, 2, 3], [0, 0, 0, 0], [40, 40, 40, 40]]),
        (600, 1300, [[600, 3, 129, 400], [1, 64, 200, 600], [0, 0, 0, 1], [300, 300, 300, 300]]),
        (3000, 3000, [[700, 1, 60, 0], [2000, 900, 1, 5], [3, 0, 1400, 1400], [1, 1, 1, 2900]]),
    ]


@pytest.mark.parametrize("is_causal", [False, True], ids=["full", "causal"])
def test_replays_are_fresh_calls(
    case: tuple[int, int, Lengths], is_causal: bool, scope: Scope
) -> None:
    """The first lengths are captured, all are replayed; nothing may differ from a fresh call."""
    bound, rows, sets = case
    cell = scope.cell(sentences=1, mean_length=rows, is_causal=is_causal, equal=True)
    batch = lay_out(make_batch(cell, scope.device, 5), "packed")
    starts = torch.zeros(len(sets[0]) + 1, dtype=torch.int32, device=scope.device)

    def step() -> tuple[Tensor, ...]:
        if scope.cuda:
            plan = plan_pack(starts, bound, capacity=rows)
        else:
            plan = PackPlan(cu_seqlens=starts, max_seqlen=bound, capacity=rows)
        return passes(peers()[0], batch, plan)

    starts.copy_(torch.tensor([0, *accumulate(sets[0])]))
    replay = _captured(step, scope)
    wrong = []
    for number, lengths in enumerate(sets):
        starts.copy_(torch.tensor([0, *accumulate(lengths)]))
        # New values too: what a replay left from before must not pass.
        with torch.no_grad():
            for x in (*batch.leaves, batch.dout):
                x.copy_(torch.randn_like(x))
        found = [x.detach().clone() for x in replay()]
        truth = reference_passes(replace(batch, lengths=tuple(lengths)))
        for name, x, y, true in zip(PARTS, found, step(), truth, strict=True):
            what = f"lengths {lengths}, {name} of replay {number}"
            if not torch.equal(x, y):
                wrong.append(f"{what} is not that of a fresh call")
            error = float((x.float() - true).norm())
            # Written so that a NaN does not pass.
            if not error <= TOLERANCE[cell.dtype] * float(true.norm()):
                wrong.append(f"{what} is off by {error:.1e}")
            if bool(x[sum(lengths) :].count_nonzero()):
                wrong.append(f"{what} is not 0 behind the pack")
    agree(wrong)


def _captured(step: Callable[[], tuple[Tensor, ...]], scope: Scope) -> Callable[[], Any]:
    """``step`` as a CUDA graph; elsewhere the step itself."""
    if not scope.cuda:
        return step
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        results = step()

    def replay() -> tuple[Tensor, ...]:
        graph.replay()
        torch.cuda.synchronize()
        return results

    return replay
