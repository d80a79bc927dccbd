"""The Triton kernels against the float64 reference, forward and backward.

Without a GPU Triton's interpreter runs them (``conftest.py`` switches it on). Cases and tolerance
are those of ``lmsl_kernels.proof.tolerances``; a GPU checks the same ones in bfloat16.
"""

from dataclasses import replace
from itertools import combinations, product
from typing import Any

import pytest
import torch

from lmsl_kernels.flash import call, operator
from lmsl_kernels.flash.call import make_call
from lmsl_kernels.flash.tuning import FLOAT32, TUNED
from lmsl_kernels.proof.tolerances import (
    LEVELS,
    QUICK_LEVELS,
    Case,
    all_cases,
    compare,
    faults,
    make_plan,
    make_tensors,
    measure,
    pairwise_cases,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# The derived tables are one.
TABLES = (*TUNED, "sm_120", FLOAT32)
QUICK = pairwise_cases(levels=QUICK_LEVELS)
# More rows and keys than a tile of regime L has, and a group that a tile of regime S may not hold.
TABLE_CASES = {
    "wide": Case(lengths=(33, 3), group=3, head_dim=256),
    "long": Case(lengths=(130, 3), group=2, head_dim=80, window="wide", bound=2000),
    "short": Case(lengths=(70, 3), group=4, head_dim=128, mask="bidirectional", softcap=5.0),
}


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_pairwise(case):
    errors = measure(case, DEVICE)
    assert not faults(errors), faults(errors)


@pytest.mark.slow
@pytest.mark.parametrize("case", pairwise_cases(), ids=lambda case: case.name)
def test_all_pairs(case):
    errors = measure(case, DEVICE)
    assert not faults(errors), faults(errors)


def _each_table() -> list[Any]:
    """Every table with every case; one each, in turns, outside of slow tests."""
    return [
        pytest.param(table, name, marks=[] if turn == index % 3 else [pytest.mark.slow])
        for index, table in enumerate(TABLES)
        for turn, name in enumerate(TABLE_CASES)
    ]


@pytest.mark.parametrize(("table", "case"), _each_table())
def test_tables(table, case, monkeypatch):
    """The tiles of other architectures; what they compute does not depend on where."""
    for module in (call, operator):
        monkeypatch.setattr(module, "table_of", lambda device, dtype: table)
    # Of float32 the tiles have 16 rows and keys.
    fewer = {"lengths": (40, 3)} if (table, case) == (FLOAT32, "long") else {}
    errors = measure(replace(TABLE_CASES[case], **fewer), DEVICE)
    assert not faults(errors), faults(errors)


@pytest.mark.slow
@pytest.mark.parametrize("head_dim", LEVELS["head_dim"])
@pytest.mark.parametrize("group", LEVELS["group"])
def test_full_product(head_dim, group):
    wrong = []
    for case in all_cases(head_dim, group):
        found = faults(measure(case, DEVICE))
        if found:
            wrong.append(f"{case.name}\n{found}")
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("levels", [QUICK_LEVELS, LEVELS], ids=["quick", "all"])
def test_the_cases_meet_in_pairs(levels):
    cases = pairwise_cases(levels=levels)
    most = len(levels["head_dim"]) ** 2
    assert most <= len(cases) <= most + 11 and cases == pairwise_cases(levels=levels)
    missing = set()
    for one, other in combinations(levels, 2):
        met = {(getattr(case, one), getattr(case, other)) for case in cases}
        missing |= set(product(levels[one], levels[other])) - met
    impossible = {("dense", 500), ("dense", 2000), ((129,), 16), ((203,), 16)}
    assert missing <= impossible and (levels is QUICK_LEVELS or missing == impossible)


def test_every_regime_is_among_the_cases():
    met = set()
    for case in QUICK:
        q, k, v, _ = make_tensors(case)
        made = make_call(q, k, v, plan=make_plan(case), **case.arguments("cpu"))
        met.add((made.regime, made.described))
    assert met == set(product(("single", "medium", "long"), (False, True)))


def test_the_full_product_is_full():
    crossed = ("lengths", "mask", "window", "softcap")
    cases = list(all_cases(64, 2))
    assert cases == list(all_cases(64, 2))
    met = [tuple(getattr(case, name) for name in crossed) for case in cases]
    assert len(met) == len(set(met)) == 7 * 3 * 4 * 2
    for name in set(LEVELS) - {"head_dim", "group"}:
        assert {getattr(case, name) for case in cases} == set(LEVELS[name]), name


def test_the_rule():
    """Twice the error of plain code and one rounding are allowed; more, or nan, is not."""
    truth = [torch.tensor([1.0, -2.0], dtype=torch.float64)] * 4
    plain = [x.half() + 0.25 for x in truth]
    band = torch.finfo(torch.float16).eps * 2
    for off, ok in ((0.5, True), (0.51, False), (float("nan"), False)):
        errors = list(compare([x.half() + off for x in truth], truth, plain))
        assert [error.name for error in errors] == ["o", "dq", "dk", "dv"]
        assert {error.ok for error in errors} == {ok}
        assert errors[0].plain == 0.25 and errors[0].allowed == 0.5 + band
        assert bool(faults(errors)) is not ok


def test_poison_surrounds_every_tensor():
    for strides in LEVELS["strides"]:
        case = Case(lengths=(3, 2), strides=strides, head_dim=40)
        for x in make_tensors(case):
            everything = x.new_empty(0).set_(x.untyped_storage())
            assert (x[:5].isfinite().all() and not x[5:].isfinite().any()) or x.stride(0) == 0
            assert everything.isfinite().sum() == x[:5].numel() < everything.numel()
