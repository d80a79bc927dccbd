"""Part f: how many kernels a step with a ready plan launches, and that nothing waits."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.attention.batch import lay_out, make_batch
from benchmarks.gpu_check.scope import Scope, agree
from lmsl_kernels import attention
from lmsl_kernels.flash.launch import Launch
from lmsl_kernels.plan import plan_lengths

pytestmark = pytest.mark.gpu
# Mean length of each regime, and launches that its forward and its backward may make.
REGIMES = {"sentences": (32, (1, 1)), "paragraphs": (400, (1, 2)), "documents": (3000, (1, 3))}


def cases(scope: Scope) -> list[str]:
    return list(REGIMES)[: 1 if scope.toy else None]


def test_few_launches_and_no_waiting(case: str, scope: Scope, figures: dict[str, Any]) -> None:
    length, most = REGIMES[case]
    cell = scope.cell(sentences=3, mean_length=8 if scope.toy else length, is_causal=True)
    batch = lay_out(make_batch(cell, scope.device, 5), "packed")
    plan = plan_lengths(batch.lengths, scope.device)

    def forward() -> Tensor:
        return attention(*batch.leaves, is_causal=True, plan=plan, impl="triton")

    # Compiled, and the work list made.
    out = forward()

    def backward() -> object:
        return torch.autograd.grad(out, batch.leaves, batch.dout, retain_graph=True)

    backward()
    steps: dict[str, Callable[[], object]] = {
        "forward": forward,
        "backward": backward,
        "making the plan": lambda: plan_lengths(batch.lengths, scope.device),
    }
    waited = {name: scope.waits(step) for name, step in steps.items()}
    wrong = [f"{name} waits for the device: {why:.200}" for name, why in waited.items() if why]
    ours = figures["ours"] = (_own(forward), _own(backward))
    if ours[0] > most[0] or ours[1] > most[1]:
        wrong.append(f"{ours} launches forward, backward; {most} at most")
    if scope.cuda:
        ran = figures["all_kernels"] = (_all(forward), _all(backward))
        if any(one is not None and one > own for one, own in zip(ran, ours, strict=True)):
            wrong.append(f"{ran} kernels ran where we launch {ours}")
    agree(wrong)


def _own(call: Callable[[], object]) -> int:
    """How many of our kernels a call launches."""
    with patch.object(Launch, "run", autospec=True, side_effect=Launch.run) as run:
        call()
    return run.call_count


def _all(call: Callable[[], object]) -> int | None:
    """How many kernels the device runs for a call; None where no profiler can tell."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    events = profiler.events() or []
    on_device = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    return len(on_device) or None
