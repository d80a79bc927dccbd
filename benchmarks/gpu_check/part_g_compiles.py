"""Part g: random batches of one class of lengths compile each kernel once, whatever their sums."""

from typing import Any

import pytest
import torch

from benchmarks.gpu_check.scope import Scope
from lmsl_kernels import attention
from lmsl_kernels.flash import launch
from lmsl_kernels.plan import plan_lengths

pytestmark = pytest.mark.gpu
KERNELS = (
    "single_forward",
    "single_backward",
    "tiled_forward",
    "backward_rows",
    "backward_keys",
)


@pytest.mark.parametrize("is_causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize(("longest", "kernels"), [(64, KERNELS[:2]), (900, KERNELS[2:])])
def test_kernels_compile_once(
    longest: int,
    kernels: tuple[str, ...],
    is_causal: bool,
    scope: Scope,
    figures: dict[str, Any],
) -> None:
    scope.need_cuda()
    if launch.INTERPRETED:
        pytest.skip("Triton's interpreter compiles nothing")
    before = _compiled(scope.device)
    for number in range(50):
        _one_batch(scope.device, longest, number, is_causal)
    after = _compiled(scope.device)
    grown = figures["compiled"] = {name: after[name] - before[name] for name in KERNELS}
    assert grown == {name: int(name in kernels) for name in KERNELS}, f"compiled {grown}"


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
    return {name: len(getattr(launch, name).device_caches[index][0]) for name in KERNELS}
