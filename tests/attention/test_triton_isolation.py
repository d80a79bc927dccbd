"""Who hears whom, and that nothing else is heard: neighbours, later tokens, memory, layout.

Every property holds in each regime, which a bound on the longest sequence selects.
"""

from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsl_kernels import PackPlan, attention, plan_pack
from lmsl_kernels.proof.tolerances import poisoned_memory
from tests.attention.attention_tools import assert_equal, assert_near, random_heads, starts_of

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
REGIMES = {"single": 40, "medium": 300, "long": 2000}
HALF_AND_HALF = "half and half"
# What the interpreter says of poison, and of scores that a mask throws away afterwards.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")
FEW = settings(derandomize=True, max_examples=3)


def _inputs(tokens, heads=2, kv_heads=1, size=32, seed=0):
    """q, k, v and dout."""
    made = random_heads(tokens, heads=(heads, kv_heads, kv_heads, heads), size=size, seed=seed)
    return [x.to(DEVICE) for x in made]


def _run(inputs, is_causal, plan=None, **arguments):
    """o, dq, dk and dv."""
    q, k, v = (x.detach().requires_grad_() for x in inputs[:3])
    out = attention(q, k, v, is_causal=is_causal, plan=plan, impl="triton", **arguments)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), inputs[3])]


def _plan(lengths, regime, known=True):
    if known:
        return plan_pack(starts_of(lengths), REGIMES[regime], device=DEVICE)
    return PackPlan(cu_seqlens=starts_of(lengths, DEVICE), max_seqlen=REGIMES[regime])


def _flags(mask, sequences):
    if mask != HALF_AND_HALF:
        return mask == "causal"
    return torch.arange(sequences, device=DEVICE) % 2 == 0


@pytest.mark.parametrize("mask", ["causal", "bidirectional", HALF_AND_HALF])
@pytest.mark.parametrize("regime", REGIMES)
def test_a_poisoned_sentence_stays_alone(regime, mask):
    lengths = [9, 14, 3]
    others = torch.ones(26, dtype=torch.bool)
    others[9:23] = False
    arguments = {"window": 4} if mask == "causal" else {}
    plan = _plan(lengths, regime, known=mask != "bidirectional")
    clean = _run(_inputs(26), _flags(mask, 3), plan, **arguments)
    assert all(x.isfinite().all() for x in clean)
    dirty = _inputs(26)
    for x in dirty:
        x[9:23] = float("nan") if mask == HALF_AND_HALF else float("inf")
    got = _run(dirty, _flags(mask, 3), plan, **arguments)
    assert_equal(got, clean, others)
    assert not any(x[9:23].isfinite().all() for x in got)


@pytest.mark.parametrize("regime", REGIMES)
def test_what_memory_held_before_does_not_matter(regime):
    """Nor does anything else: results repeat bit for bit."""
    inputs = _inputs(31)
    for x in inputs:
        x[28:] = float("nan")
    results = []
    for poison in (float("nan"), 7.0):
        with poisoned_memory(poison):
            plan = _plan([0, 17, 11], regime, known=poison != poison)
            results.append(_run(inputs, False, plan, window=6, softcap=3.0))
    assert all(x.isfinite().all() and not x[28:].any() for x in results[0])
    for again in results[1:]:
        assert_equal(again, results[0])


@pytest.mark.parametrize("regime", REGIMES)
def test_flags_and_starts_of_any_strides(regime):
    """Kernels read both by address: a view that skips elements must not lead them astray; and
    flags that are all alike are the one flag."""
    inputs, plan = _inputs(20), _plan([12, 8], regime)
    expected = _run(inputs, torch.tensor([True, False], device=DEVICE), plan)
    table = torch.tensor([[True, True], [False, True]], device=DEVICE)
    assert_equal(_run(inputs, table[:, 0], plan), expected)
    alike = {causal: _run(inputs, causal, plan) for causal in (True, False)}
    for causal, one in alike.items():
        once = torch.tensor(causal, device=DEVICE).expand(2)
        assert_equal(_run(inputs, once, plan), one)
    starts = torch.tensor([0, 99, 12, 99, 20], dtype=torch.int32, device=DEVICE)[::2]
    apart = plan_pack(starts, plan.max_seqlen)
    assert_equal(_run(inputs, True, apart), alike[True])


@pytest.mark.parametrize("regime", REGIMES)
@FEW
@given(length=st.integers(2, 40), data=st.data())
def test_a_causal_prefix_never_changes(regime, length, data):
    cut = data.draw(st.integers(1, length - 1))
    window = data.draw(st.sampled_from([None, 7]))
    inputs, plan = _inputs(length), _plan([length], regime)
    noisy = [torch.cat([x[:cut], torch.randn_like(x[cut:]) * 9]) for x in inputs]
    # Nothing of the loss lies behind the cut, so no gradient of it may either.
    for x in (inputs[3], noisy[3]):
        x[cut:] = 0.0
    before = _run(inputs, True, plan, window=window)
    after = _run(noisy, True, plan, window=window)
    assert_equal(after, before, slice(0, cut))
    assert not any(x[cut:].any() for x in before[1:])
    full = [_run(x, False, plan)[0][:cut] for x in (inputs, noisy)]
    assert not torch.equal(*full)


@pytest.mark.parametrize("regime", REGIMES)
@FEW
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=3),
    tail=st.integers(0, 3),
    mask=st.sampled_from(["causal", "bidirectional"]),
)
def test_a_pack_equals_its_sentences_one_by_one(regime, lengths, tail, mask):
    inputs = _inputs(sum(lengths) + tail)
    packed = _run(inputs, mask == "causal", _plan(lengths, regime, known=bool(tail % 2)))
    for start, end in pairwise(accumulate(lengths, initial=0)):
        alone = [x[start:end] for x in inputs]
        expected = _run(alone, mask == "causal", _plan([end - start], regime))
        assert_equal([x[start:end] for x in packed], expected)
    assert not any(x[sum(lengths) :].any() for x in packed)


@pytest.mark.parametrize(
    ("batch", "length", "mask"),
    [(3, 1, "causal"), (2, 31, HALF_AND_HALF), (1, 140, "bidirectional")],
)
def test_dense_equals_packed(batch, length, mask):
    inputs, flags = _inputs(batch * length), _flags(mask, batch)
    plan = plan_pack(list(range(0, batch * length + 1, length)), device=DEVICE)
    dense = _run([x.unflatten(0, (batch, length)) for x in inputs], flags)
    assert_equal([x.flatten(0, 1) for x in dense], _run(inputs, flags, plan))


def test_padding_behind_causal_rows_is_not_heard():
    """Dense rows padded on the right, as causal models take them, are the packed sentences."""
    lengths = [5, 16, 9]
    inputs = _inputs(sum(lengths))
    padded = [x.new_full((3, 16, *x.shape[1:]), 3.0) for x in inputs]
    real = torch.arange(16)[None, :] < torch.tensor(lengths)[:, None]
    for one, other in zip(padded, inputs, strict=True):
        one[real] = other
    padded[3][~real] = 0.0
    packed = _run(inputs, True, plan_pack([0, 5, 21, 30], 16, device=DEVICE))
    assert_equal([x[real] for x in _run(padded, True)], packed)


@pytest.mark.parametrize(("regime", "group"), [("single", 3), ("medium", 2), ("long", 3)])
def test_grouped_heads_are_repeated_ones(regime, group):
    q, k, v, dout = _inputs(20, heads=2 * group, kv_heads=2)
    plan = _plan([13, 7], regime)
    o, dq, dk, dv = _run([q, k, v, dout], True, plan)
    repeated = [x.repeat_interleave(group, 1) for x in (k, v)]
    expected = _run([q, *repeated, dout], True, plan)
    summed = [x.unflatten(1, (2, group)).sum(2) for x in expected[2:]]
    assert_near([o, dq, dk, dv], [*expected[:2], *summed], 1e-5)


@pytest.mark.parametrize("mask", ["causal", "bidirectional"])
@pytest.mark.parametrize("regime", REGIMES)
def test_a_window_that_all_fit_in_is_none(regime, mask):
    """Smaller than the bound, so that the kernel with a window is what runs."""
    inputs, plan = _inputs(33), _plan([20, 13], regime)
    arguments = (inputs, mask == "causal", plan)
    plain = _run(*arguments)
    assert_near(_run(*arguments, window=20), plain, 1e-5)
    assert_equal(_run(*arguments, window=REGIMES[regime]), plain)
    narrower = _run(*arguments, window=19)
    assert not torch.equal(narrower[0], plain[0])
