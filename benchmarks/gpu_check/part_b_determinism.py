"""Part b: the same call many times, beside other work on the device, is equal in every bit."""

import pytest
import torch

from benchmarks.attention.batch import lay_out, make_batch
from benchmarks.attention.cells import Cell
from benchmarks.attention.gate import PARTS, passes
from benchmarks.attention.peers import peers
from benchmarks.gpu_check.scope import Scope
from lmsl_kernels.plan import plan_lengths

pytestmark = pytest.mark.gpu


def cases(scope: Scope) -> list[Cell]:
    """Ragged packs of sentences, paragraphs and documents, with either mask."""
    sizes = [(2, 7)] if scope.toy else [(32, 32), (16, 300), (3, 2500)]
    return [
        scope.cell(sentences=sentences, mean_length=length, is_causal=is_causal)
        for is_causal in (False, True)
        for sentences, length in sizes
    ]


def test_repeats_are_equal(case: Cell, scope: Scope) -> None:
    batch = lay_out(make_batch(case, scope.device, 3), "packed")
    ours, plan = peers()[0], plan_lengths(batch.lengths, scope.device)
    first = passes(ours, batch, plan)
    for repeat in range(1, 2 if scope.toy else 200):
        _load(scope)
        again = passes(ours, batch, plan)
        different = [
            name for name, x, y in zip(PARTS, first, again, strict=True) if not torch.equal(x, y)
        ]
        assert not different, f"repeat {repeat} differs in {', '.join(different)}"


def _load(scope: Scope) -> None:
    """Work of somebody else, so that programs are scheduled differently each time."""
    if scope.cuda:
        with torch.cuda.stream(torch.cuda.Stream()):
            x = torch.randn(1024, 1024, device=scope.device)
            x @ x
