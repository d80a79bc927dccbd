"""Parts of ``benchmarks.gpu_check`` about numbers: how exact, how repeatable, how large.

The cases and the rule of exactness are those of the test suite
(``lmsl_kernels.proof.tolerances``), in the dtypes that a GPU is for.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.attention.batch import Batch, lay_out, make_batch
from benchmarks.attention.cells import Cell
from benchmarks.attention.gate import PARTS, TOLERANCE
from benchmarks.gpu_check.scope import Scope, Skipped
from lmsl_kernels import PackPlan, attention, reference_attention
from lmsl_kernels.plan import plan_lengths
from lmsl_kernels.proof.cases import Case, pairwise_cases
from lmsl_kernels.proof.tolerances import faults, measure

BATCH_SEED = 3
LIMIT = 2**31
_HUGE_BYTES = 50e9


def numerics(scope: Scope) -> dict[str, Any]:
    """Output and gradients of every case against the reference in float64."""
    number, total = scope.share
    cases = numeric_cases(scope)[number::total]
    answer: dict[str, Any] = {"faults": [], "cases": 0, "not_reached": len(cases), "worst": None}
    for case in cases:
        if scope.left < 0:
            break
        errors = measure(case, scope.device)
        wrong = faults(errors)
        if wrong:
            answer["faults"].append(f"{case.name}\n{wrong}")
        answer["cases"] += 1
        answer["not_reached"] -= 1
        ratio = max((e.ours / e.allowed for e in errors if e.allowed > 0), default=0.0)
        # A NaN is a fault and no ratio.
        if ratio == ratio and ratio < float("inf"):
            answer["worst"] = max(answer["worst"] or [0.0, ""], [ratio, case.name])
        scope.note(answer)
    return answer


def numeric_cases(scope: Scope) -> list[Case]:
    """All cases of the suite in both 16-bit dtypes, and in float32 what it has in float32."""
    cases = pairwise_cases()
    if scope.toy:
        small = [case for case in cases if sum(case.lengths) <= 33 and case.head_dim <= 64]
        return small[:2] if scope.device.type != "cuda" else small[:6]
    half = [
        replace(case, dtype=dtype) for dtype in (torch.bfloat16, torch.float16) for case in cases
    ]
    return half + [case for case in cases if case.dtype == torch.float32]


def determinism(scope: Scope) -> dict[str, Any]:
    """The same call many times, beside other work on the device: equal in every bit."""
    repeats = 2 if scope.toy else 200
    answer: dict[str, Any] = {"faults": [], "repeats": repeats, "calls": 0}
    for cell in _regimes(scope):
        batch = lay_out(make_batch(cell, scope.device, BATCH_SEED), "packed")
        plan = plan_lengths(batch.lengths, scope.device)
        first = _passes(batch, plan)
        for repeat in range(1, repeats):
            _load(scope.device)
            again = _passes(batch, plan)
            answer["calls"] += 1
            different = [
                name
                for name, x, y in zip(PARTS, first, again, strict=True)
                if not torch.equal(x, y)
            ]
            if different:
                parts = ", ".join(different)
                answer["faults"].append(f"{cell.name}: repeat {repeat} differs in {parts}")
                break
        scope.note(answer)
    return answer


def _regimes(scope: Scope) -> Iterator[Cell]:
    """Ragged packs of sentences, paragraphs and documents, with either mask."""
    toy = {"sentences": 2, "heads": 2, "kv_heads": 1, "head_dim": 16, "dtype": "float32"}
    for is_causal in (False, True):
        if scope.toy:
            yield Cell(**toy, mean_length=7, is_causal=is_causal)  # type: ignore[arg-type]
            continue
        for sentences, length in ((32, 32), (16, 300), (3, 2500)):
            yield Cell(sentences=sentences, mean_length=length, is_causal=is_causal)


def _load(device: torch.device) -> None:
    """Work of somebody else, so that programs are scheduled differently each time."""
    if device.type == "cuda":
        with torch.cuda.stream(torch.cuda.Stream()):
            x = torch.randn(1024, 1024, device=device)
            x @ x


def _passes(batch: Batch, plan: PackPlan | None) -> tuple[Tensor, ...]:
    is_causal = batch.cell.is_causal
    out = attention(*batch.leaves, is_causal=is_causal, plan=plan, impl="triton")
    return out.detach(), *torch.autograd.grad(out, batch.leaves, batch.dout)


def huge(scope: Scope) -> dict[str, Any]:
    """More than 2**31 elements in q: one sentence over and over, so that all answers are known.

    The first copy is compared with the reference and every other with the first, bit by bit.
    """
    if scope.device.type == "cuda":
        free = torch.cuda.mem_get_info(scope.device)[0]
        if free < _HUGE_BYTES:
            gigabytes = f"{_HUGE_BYTES / 1e9:.0f} GB of free memory, got {free / 1e9:.0f}"
            raise Skipped(f"it takes {gigabytes}")
    answer: dict[str, Any] = {"faults": [], "calls": 0, "elements": 0}
    # Length, kv heads, dense: the three regimes, many kv heads, and batches instead of packs.
    calls = ((64, 32, False), (500, 8, False), (2500, 8, False), (64, 8, True))
    for length, kv_heads, dense in calls:
        cell = Cell(sentences=1, mean_length=length, is_causal=True, kv_heads=kv_heads, equal=True)
        if scope.toy:
            small = {"heads": 4, "kv_heads": kv_heads // 8, "head_dim": 16, "dtype": "float32"}
            cell = replace(cell, mean_length=length // 32, **small)  # type: ignore[arg-type]
        wanted = LIMIT if not scope.toy else 3 * cell.mean_length * cell.heads * cell.head_dim
        copies = wanted // (cell.mean_length * cell.heads * cell.head_dim) + 3
        answer["faults"] += _copies_differ(cell, copies, dense, scope)
        answer["elements"] = copies * cell.mean_length * cell.heads * cell.head_dim
        answer["calls"] += 1
        scope.note(answer)
    return answer


def _copies_differ(cell: Cell, copies: int, dense: bool, scope: Scope) -> list[str]:
    """What is wrong with ``copies`` copies of one sentence in one call."""
    one = lay_out(make_batch(cell, scope.device, BATCH_SEED), "packed")
    q, k, v, dout = (x.detach().repeat(copies, 1, 1) for x in (*one.leaves, one.dout))
    if dense:
        q, k, v, dout = (x.unflatten(0, (copies, -1)) for x in (q, k, v, dout))
    for x in (q, k, v):
        x.requires_grad_()
    many = replace(one, lengths=one.lengths * copies, q=q, k=k, v=v, dout=dout)
    plan = None if dense else plan_lengths(many.lengths, scope.device)
    leaves = [x.detach().float().requires_grad_() for x in one.leaves]
    out = reference_attention(
        leaves[0], leaves[1], leaves[2], is_causal=cell.is_causal, cu_seqlens=[0, *one.lengths]
    )
    truth = (out.detach(), *torch.autograd.grad(out, leaves, one.dout.float()))
    what = f"{'dense ' if dense else ''}{cell.name} x {copies}"
    wrong = []
    for name, x, true in zip(PARTS, _passes(many, plan), truth, strict=True):
        each = x if dense else x.unflatten(0, (copies, -1))
        error = float((each[0].float() - true).norm() / true.norm())
        if not error <= TOLERANCE[cell.dtype]:
            wrong.append(f"{what}: {name} is off by {error:.1e}")
        odd = [n for n, part in enumerate(each.split(4096)) if not bool((part == each[0]).all())]
        if odd:
            wrong.append(f"{what}: {name} of equal sentences differs, first near {odd[0] * 4096}")
    return wrong
