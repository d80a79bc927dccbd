"""Part a: output and gradients of every case against the reference in float64.

The cases and the rule of exactness are those of the test suite
(``lmsl_kernels.proof.tolerances``), in the dtypes that a GPU is for.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.gpu_check.scope import Scope
from lmsl_kernels.proof.cases import Case, pairwise_cases
from lmsl_kernels.proof.tolerances import faults, measure

pytestmark = pytest.mark.gpu


def cases(scope: Scope) -> list[Case]:
    """All cases of the suite in both 16-bit dtypes, and in float32 what it has in float32."""
    known = pairwise_cases()
    if scope.toy:
        small = [case for case in known if sum(case.lengths) <= 33 and case.head_dim <= 64]
        return small[: 6 if scope.cuda else 2]
    half = [
        replace(case, dtype=dtype) for dtype in (torch.bfloat16, torch.float16) for case in known
    ]
    return half + [case for case in known if case.dtype == torch.float32]


def test_against_float64(case: Case, scope: Scope, figures: dict[str, Any]) -> None:
    errors = measure(case, scope.device)
    ratio = max((error.ours / error.allowed for error in errors if error.allowed > 0), default=0.0)
    # A NaN is a fault and no ratio.
    if ratio == ratio and ratio < float("inf"):
        figures["of_allowed"] = ratio
    wrong = faults(errors)
    assert not wrong, wrong
