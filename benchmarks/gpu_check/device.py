"""Parts of ``benchmarks.gpu_check`` about the device: graphs, launches, waiting, compiling."""

from collections.abc import Callable
from itertools import accumulate
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.attention.batch import Batch, lay_out, make_batch
from benchmarks.attention.cells import Cell
from benchmarks.attention.gate import PARTS, TOLERANCE
from benchmarks.gpu_check.scope import Scope, Skipped
from lmsl_kernels import PackPlan, attention, plan_pack, reference_attention
from lmsl_kernels.flash import launch as launch_module
from lmsl_kernels.flash.launch import Launch
from lmsl_kernels.plan import plan_lengths

KERNELS = (
    "single_forward",
    "single_backward",
    "tiled_forward",
    "backward_rows",
    "backward_keys",
)
# Launches of the forward and of the backward that each regime may make.
MOST_LAUNCHES = {"sentences": (1, 1), "paragraphs": (1, 2), "documents": (1, 3)}


def graphs(scope: Scope) -> dict[str, Any]:
    """A captured step is replayed with other lengths in the same buffers, plan included."""
    # Bound of the longest, rows of the buffers, lengths at capture and at each replay after it.
    sets: list[tuple[int, int, list[list[int]]]] = [
        (64, 160, [[60, 7, 33, 0], [1, 64, 2, 3], [0, 0, 0, 0], [40, 40, 40, 40]]),
        (600, 1300, [[600, 3, 129, 400], [1, 64, 200, 600], [0, 0, 0, 1], [300, 300, 300, 300]]),
        (3000, 3000, [[700, 1, 60, 0], [2000, 900, 1, 5], [3, 0, 1400, 1400], [1, 1, 1, 2900]]),
    ]
    if scope.toy:
        sets = [(16, 40, [[9, 3, 0, 5], [1, 16, 2, 3]])]
    answer: dict[str, Any] = {"faults": [], "replays": 0, "captured": scope.device.type == "cuda"}
    for bound, rows, lengths in sets:
        for is_causal in (False, True):
            answer["faults"] += _replays(scope, bound, rows, lengths, is_causal)
            answer["replays"] += len(lengths)
            scope.note(answer)
    return answer


def _replays(
    scope: Scope, bound: int, rows: int, sets: list[list[int]], is_causal: bool
) -> list[str]:
    """Capture with the first lengths, replay with all; what differs from a fresh call."""
    size = {"heads": 2, "kv_heads": 1, "head_dim": 16, "dtype": "float32"} if scope.toy else {}
    cell = Cell(sentences=1, mean_length=rows, is_causal=is_causal, equal=True, **size)  # type: ignore[arg-type]
    batch = lay_out(make_batch(cell, scope.device, 5), "packed")
    starts = torch.zeros(len(sets[0]) + 1, dtype=torch.int32, device=scope.device)

    def step() -> tuple[Tensor, ...]:
        if scope.device.type == "cuda":
            plan = plan_pack(starts, bound, capacity=rows)
        else:
            plan = PackPlan(cu_seqlens=starts, max_seqlen=bound, capacity=rows)
        out = attention(*batch.leaves, is_causal=is_causal, plan=plan, impl="triton")
        return out, *torch.autograd.grad(out, batch.leaves, batch.dout)

    starts.copy_(torch.tensor([0, *accumulate(sets[0])]))
    replay = _captured(step, scope.device)
    wrong = []
    for number, lengths in enumerate(sets):
        bounds = [0, *accumulate(lengths)]
        starts.copy_(torch.tensor(bounds))
        # New values too: what a replay left from before must not pass.
        with torch.no_grad():
            for x in (*batch.leaves, batch.dout):
                x.copy_(torch.randn_like(x))
        found = [x.detach().clone() for x in replay()]
        fresh = step()
        truth = _reference(batch.leaves, batch.dout, bounds, is_causal)
        what = f"{cell.name}, bound {bound}, lengths {lengths}"
        for name, x, y, true in zip(PARTS, found, fresh, truth, strict=True):
            if not torch.equal(x, y):
                wrong.append(f"{what}: {name} of replay {number} is not that of a fresh call")
            error = float((x.float() - true).norm())
            if not error <= TOLERANCE[cell.dtype] * float(true.norm()):
                wrong.append(f"{what}: {name} of replay {number} is off by {error:.1e}")
            if bool(x[bounds[-1] :].count_nonzero()):
                wrong.append(f"{what}: {name} of replay {number} is not 0 behind the pack")
    return wrong


def _reference(
    leaves: tuple[Tensor, ...], dout: Tensor, bounds: list[int], is_causal: bool
) -> tuple[Tensor, ...]:
    q, k, v = (x.detach().float().requires_grad_() for x in leaves)
    out = reference_attention(q, k, v, is_causal=is_causal, cu_seqlens=bounds)
    return out.detach(), *torch.autograd.grad(out, (q, k, v), dout.float())


def _captured(step: Callable[[], tuple[Tensor, ...]], device: torch.device) -> Callable[[], Any]:
    """``step`` as a CUDA graph; elsewhere the step itself."""
    if device.type != "cuda":
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


def launches(scope: Scope) -> dict[str, Any]:
    """How many kernels a step with a ready plan launches, and that nothing waits."""
    answer: dict[str, Any] = {"faults": [], "ours": {}, "all_kernels": {}}
    regimes = {"sentences": 32, "paragraphs": 400, "documents": 3000}
    size = {"heads": 2, "kv_heads": 1, "head_dim": 16, "dtype": "float32"} if scope.toy else {}
    for regime, length in {"sentences": 8}.items() if scope.toy else regimes.items():
        cell = Cell(sentences=3, mean_length=length, is_causal=True, **size)  # type: ignore[arg-type]
        _launches_of(scope, regime, lay_out(make_batch(cell, scope.device, 5), "packed"), answer)
        scope.note(answer)
    return answer


def _launches_of(scope: Scope, regime: str, batch: Batch, answer: dict[str, Any]) -> None:
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
    for name, step in steps.items():
        if (waited := waits(scope, step)) is not None:
            answer["faults"].append(f"{regime}, {name}: waits for the device: {waited:.200}")
    ours = (_own(forward), _own(backward))
    answer["ours"][regime] = ours
    most = MOST_LAUNCHES[regime]
    if ours[0] > most[0] or ours[1] > most[1]:
        answer["faults"].append(f"{regime}: {ours} launches forward, backward; {most} at most")
    if scope.device.type == "cuda":
        ran = (_all(forward), _all(backward))
        answer["all_kernels"][regime] = ran
        if any(one is not None and one > own for one, own in zip(ran, ours, strict=True)):
            answer["faults"].append(f"{regime}: {ran} kernels ran where we launch {ours}")


def waits(scope: Scope, step: Callable[[], object]) -> str | None:
    """What torch says of a step that makes the host wait, or ``None``."""
    if scope.device.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        return str(error)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return None


def _own(call: Callable[[], object]) -> int:
    """How many of our kernels a call launches."""
    count = 0
    run = Launch.run

    def counted(launch: Launch) -> None:
        nonlocal count
        count += 1
        run(launch)

    with patch.object(Launch, "run", counted):
        call()
    return count


def _all(call: Callable[[], object]) -> int | None:
    """How many kernels the device runs for a call; None where no profiler can tell."""
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    events = profiler.events() or []
    on_device = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    return len(on_device) or None


def compiles(scope: Scope) -> dict[str, Any]:
    """Random batches of one class of lengths compile every kernel once, whatever their totals."""
    if launch_module.INTERPRETED:
        raise Skipped("Triton's interpreter compiles nothing")
    scope.need_cuda()
    answer: dict[str, Any] = {"faults": [], "batches": 0, "compiled": {}}
    for longest, kernels in ((64, KERNELS[:2]), (900, KERNELS[2:])):
        for is_causal in (False, True):
            before = _compiled(scope.device)
            for number in range(50):
                _one_batch(scope.device, longest, number, is_causal)
                answer["batches"] += 1
            after = _compiled(scope.device)
            grown = {name: after[name] - before[name] for name in KERNELS}
            answer["compiled"][f"longest {longest}, {'causal' if is_causal else 'full'}"] = grown
            expected = {name: int(name in kernels) for name in KERNELS}
            if grown != expected:
                answer["faults"].append(f"longest {longest}: compiled {grown}, not {expected}")
            scope.note(answer)
    return answer


def _one_batch(device: torch.device, longest: int, number: int, is_causal: bool) -> None:
    """Random lengths up to ``longest``; odd ones out first: single, tiny, multiples of 16."""
    generator = torch.Generator().manual_seed(number)
    lengths = torch.randint(1, longest + 1, (number % 7 + 1,), generator=generator).tolist()
    special = {1: [longest], 2: [longest, 1], 3: [longest] * 16, 4: [longest - 15, longest - 1]}
    lengths = special.get(number, [*lengths, longest - number % 3])
    q, k, v = (
        torch.randn(sum(lengths), heads, 128, device=device, dtype=torch.bfloat16).requires_grad_()
        for heads in (8, 2, 2)
    )
    plan = plan_lengths(lengths, device)
    out = attention(q, k, v, is_causal=is_causal, plan=plan, impl="triton")
    out.backward(torch.ones_like(out))


def _compiled(device: torch.device) -> dict[str, int]:
    """How many versions of each kernel this process holds."""
    index = torch.cuda.current_device() if device.index is None else device.index
    return {name: len(getattr(launch_module, name).device_caches[index][0]) for name in KERNELS}
