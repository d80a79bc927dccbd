"""Part d: more than 2**31 elements in q, one sentence over and over: all answers are known.

The first copy is compared with the reference and every other with the first, bit by bit.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.attention.batch import lay_out, make_batch
from benchmarks.attention.gate import PARTS, TOLERANCE, passes, reference_passes
from benchmarks.attention.peers import peers
from benchmarks.gpu_check.scope import Scope, agree
from lmsl_kernels.plan import plan_lengths

pytestmark = pytest.mark.gpu
LIMIT, _BYTES = 2**31, 50e9


# The three regimes, many kv heads, and batches instead of packs.
@pytest.mark.parametrize(
    ("length", "kv_heads", "dense"),
    [(64, 32, False), (500, 8, False), (2500, 8, False), (64, 8, True)],
)
def test_copies_are_equal(
    length: int, kv_heads: int, dense: bool, scope: Scope, figures: dict[str, Any]
) -> None:
    if scope.cuda and (free := torch.cuda.mem_get_info(scope.device)[0]) < _BYTES:
        pytest.skip(f"it takes {_BYTES / 1e9:.0f} GB of free memory, got {free / 1e9:.0f}")
    size = {"mean_length": length, "kv_heads": kv_heads}
    if scope.toy:
        size = {"mean_length": length // 32, "kv_heads": kv_heads // 8, "heads": 4}
    cell = scope.cell(sentences=1, is_causal=True, equal=True, **size)
    one = lay_out(make_batch(cell, scope.device, 3), "packed")
    each = one.q.numel()
    copies = (3 if scope.toy else LIMIT // each) + 3
    figures["elements"] = copies * each
    q, k, v, dout = (x.detach().repeat(copies, 1, 1) for x in (*one.leaves, one.dout))
    for x in (q, k, v):
        x.requires_grad_()
    many = replace(one, lengths=one.lengths * copies, q=q, k=k, v=v, dout=dout)
    plan = None if dense else plan_lengths(many.lengths, scope.device)
    wrong = []
    for name, x, true in zip(
        PARTS, passes(peers()[0], many, plan), reference_passes(one), strict=True
    ):
        rows = x.detach().unflatten(0, (copies, -1))
        error = float((rows[0].float() - true).norm() / true.norm())
        # Written so that a NaN does not pass.
        if not error <= TOLERANCE[cell.dtype]:
            wrong.append(f"{name} is off by {error:.1e}")
        odd = [n for n, part in enumerate(rows.split(4096)) if not bool((part == rows[0]).all())]
        if odd:
            wrong.append(f"{name} of equal sentences differs, first near {odd[0] * 4096}")
    agree(wrong)
