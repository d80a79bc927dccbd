"""Proof of the kernels: which cases are computed and how far from exact they may be.

The same cases and the same rule serve the tests, where Triton's interpreter runs the kernels on a
CPU, and ``python -m benchmarks.gpu_check`` on a GPU.

The rule is FlashAttention's: against the reference in float64, the kernel may err twice as much as
plain PyTorch code in the kernel's own dtype, plus one rounding of the largest value. So tolerances
are derived from each case; none is chosen.

Every tensor lies in storage full of nan, and so does all memory that a kernel gets: whoever reads
what is not his, or leaves unwritten what is, cannot stay near the truth.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from lmsl_kernels.api import attention
from lmsl_kernels.plan import PackPlan, plan_pack
from lmsl_kernels.proof.cases import LEVELS, QUICK_LEVELS, Case, all_cases, pairwise_cases
from lmsl_kernels.reference import reference_attention

__all__ = [
    "LEVELS",
    "QUICK_LEVELS",
    "Case",
    "Error",
    "all_cases",
    "compare",
    "faults",
    "make_plan",
    "make_tensors",
    "measure",
    "pairwise_cases",
    "poisoned_memory",
]

NAMES = ("o", "dq", "dk", "dv")
BEHIND = 5
"""Rows behind the last sequence of a pack."""


@dataclass(frozen=True, kw_only=True)
class Error:
    """How far one tensor of a case is from the truth, as the largest absolute difference."""

    name: str
    ours: float
    plain: float
    """Of plain PyTorch code in the same dtype."""
    allowed: float

    @property
    def ok(self) -> bool:
        """False for nan too."""
        return self.ours <= self.allowed

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "TOO FAR"
        return (
            f"{self.name}: error {self.ours:.2e}, plain PyTorch {self.plain:.2e}, "
            f"allowed {self.allowed:.2e}: {verdict}"
        )


def measure(
    case: Case,
    device: torch.device | str = "cpu",
    attend: Callable[..., Tensor] = attention,
    impl: str = "triton",
) -> list[Error]:
    """Compute a case and compare: an ``Error`` for o, dq, dk, dv, and one for rows of no sequence.

    ``attend`` is called as ``attention`` is.
    """
    inputs = make_tensors(case, device)
    arguments = case.arguments(device)
    with poisoned_memory():
        ours = _run(attend, *inputs, **arguments, plan=make_plan(case, device), impl=impl)
    starts = None if case.plan == "dense" else list(accumulate(case.lengths, initial=0))
    exact = [x.detach().double() for x in inputs]
    truth = _run(reference_attention, *exact, **arguments, cu_seqlens=starts)
    plain = _run(reference_attention, *inputs, **arguments, cu_seqlens=starts, upcast=False)
    errors = list(compare(ours, truth, plain))
    if starts is not None:
        behind = sum(int(x[starts[-1] :].count_nonzero()) for x in ours)
        errors.append(Error(name="rows of no sequence", ours=behind, plain=0.0, allowed=0.0))
    return errors


def compare(
    ours: Sequence[Tensor],
    truth: Sequence[Tensor],
    plain: Sequence[Tensor],
    names: Sequence[str] = NAMES,
) -> Iterator[Error]:
    """The rule. ``truth`` is float64, ``plain`` plain code in the dtype of ``ours``."""
    for name, got, true, same in zip(names, ours, truth, plain, strict=True):
        error = _largest(same.double() - true)
        band = torch.finfo(got.dtype).eps * _largest(true)
        if got.dtype == torch.float32:
            # Then both round alike, only in another order, in sums of head_dim products.
            band *= got.shape[-1] ** 0.5
        yield Error(
            name=name,
            ours=_largest(got.double() - true),
            plain=error,
            allowed=2 * error + band,
        )


def make_tensors(case: Case, device: torch.device | str = "cpu") -> tuple[Tensor, ...]:
    """q, k, v and dout of a case, surrounded by nan, random but the same at every call."""
    generator = torch.Generator().manual_seed(1)
    rows = (len(case.sequences), max(case.lengths)) if case.plan == "dense" else (_rows(case),)
    tensors = []
    for heads in (case.group, 1, 1, case.group):
        shape = (*rows, heads * case.kv_heads, case.head_dim)
        x = torch.randn(shape, generator=generator).to(device, case.dtype)
        if case.plan != "dense":
            x[sum(case.lengths) :] = float("nan")
        tensors.append(x)
    if case.strides == "expanded dout":
        row = tensors[3][..., :1, :, :]
        return *(lay_out(x, "contiguous") for x in tensors[:3]), row.expand_as(tensors[3])
    return tuple(lay_out(x, case.strides, gap) for gap, x in enumerate(tensors, start=1))


def make_plan(case: Case, device: torch.device | str = "cpu") -> PackPlan | None:
    """The plan of a case, ``None`` for dense calls."""
    if case.plan == "dense":
        return None
    longest = max(case.lengths) if case.bound is None else case.bound
    starts = list(accumulate(case.lengths, initial=0))
    if case.plan == "host":
        return plan_pack(starts, longest, device=device)
    bounds = torch.tensor(starts, dtype=torch.int32, device=device)
    return PackPlan(cu_seqlens=bounds, max_seqlen=longest)


def lay_out(x: Tensor, strides: str, gap: int = 1) -> Tensor:
    """A copy of [..., tokens, heads, head_dim] with these strides and nan all around it.

    Other gaps give other strides, so that those of one tensor do not do for another.
    """
    *batch, tokens, heads, size = x.shape
    if strides == "contiguous":
        view = _nan(x, x.numel() + 64)[32:-32].view(x.shape)
    elif strides == "transposed":
        view = _nan(x, *batch, heads, tokens + gap, size)[..., :-gap, :].transpose(-3, -2)
    elif strides == "last dim apart":
        view = _nan(x, *batch, tokens, heads, 2 * size)[..., ::2]
    else:
        # A slice of a wider row, as of one projection to queries, keys and values.
        ahead, after = (8, 24 * gap) if strides == "fused" else (1, 2 * gap)
        rows = _nan(x, *batch, tokens, ahead + heads * size + after)
        view = rows[..., ahead:-after].unflatten(-1, (heads, size))
    return view.copy_(x)


@contextmanager
def poisoned_memory(poison: float = float("nan")) -> Iterator[None]:
    """Meanwhile ``torch.empty`` and ``torch.empty_like`` give poison, not whatever lies there."""
    empty, empty_like = _filled(torch.empty, poison), _filled(torch.empty_like, poison)
    with patch.object(torch, "empty", empty), patch.object(torch, "empty_like", empty_like):
        yield


def _filled(make: Callable[..., Tensor], poison: float) -> Callable[..., Tensor]:
    def make_filled(*shape: Any, **options: Any) -> Tensor:
        x = make(*shape, **options)
        return x.fill_(poison) if x.is_floating_point() else x

    return make_filled


def _run(function: Callable[..., Tensor], *inputs: Tensor, **arguments: Any) -> list[Tensor]:
    """o, dq, dk and dv."""
    q, k, v, dout = inputs
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    out = function(*leaves, **arguments)
    return [out.detach(), *torch.autograd.grad(out, leaves, dout.to(out.dtype))]


def _rows(case: Case) -> int:
    return sum(case.lengths) + BEHIND


def _nan(like: Tensor, *shape: int) -> Tensor:
    return torch.full(shape, float("nan"), dtype=like.dtype, device=like.device)


def _largest(x: Tensor) -> float:
    return float(x.abs().max()) if x.numel() else 0.0


def faults(errors: Iterable[Error]) -> str:
    """All errors of a case, a line each, when one of them is too far; else nothing."""
    errors = list(errors)
    return "" if all(error.ok for error in errors) else "\n".join(map(str, errors))
