"""The eager specification against torch, and the fast path against the specification."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsl_kernels import PackPlan, attention, plan_pack, reference_attention
from lmsl_kernels.sdpa import short as short_groups
from lmsl_kernels.sdpa.groups import cut_by_length, layout_of
from tests.attention.attention_tools import (
    NAMES,
    assert_equal,
    assert_near,
    random_heads,
    starts_of,
)

# Lengths, and rows behind the last sequence.
PACKS = {
    "mixed": ([5, 17, 1, 33, 0, 8, 40], 0),
    "equal": ([8, 8, 8], 3),
    "one token each, none in some": ([1, 0, 1, 1, 0], 3),
    "all empty": ([0, 0], 3),
    "long beside short": ([129, 2], 0),
}


def _qkv(tokens, heads=6, kv_heads=2, dim=16, dtype=torch.float64, seed=0):
    heads = (heads, kv_heads, kv_heads)
    made = random_heads(tokens, heads=heads, size=dim, dtype=dtype, seed=seed)
    return [x.requires_grad_() for x in made]


def _run(function, q, k, v, **arguments):
    """Output and the three gradients under a fixed, non-contiguous output gradient."""
    out = function(q, k, v, **arguments)
    generator = torch.Generator().manual_seed(9)
    grad = torch.randn(*out.shape[:-2], out.shape[-1], out.shape[-2], generator=generator)
    return out, *torch.autograd.grad(out, (q, k, v), grad.to(out.dtype).transpose(-1, -2))


@pytest.fixture(params=[10_000, 0], ids=["products", "torch"])
def products(request, monkeypatch):
    """Who computes packs on a CPU: batched products whatever the length, or torch's attention."""
    monkeypatch.setattr(short_groups, "LONGEST", request.param)


def _flags(causal, sequences):
    if causal != "each":
        return causal
    return torch.arange(sequences) % 2 == 0


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_reference_matches_torch(causal, kv_heads):
    q, k, v = (x.unsqueeze(0) for x in _qkv(13, kv_heads=kv_heads))

    def torch_attention(q, k, v):
        heads_first = [x.transpose(1, 2) for x in (q, k, v)]
        return F.scaled_dot_product_attention(
            *heads_first, is_causal=causal, enable_gqa=True
        ).transpose(1, 2)

    ours = _run(reference_attention, q, k, v, is_causal=causal)
    assert_near(ours, _run(torch_attention, q, k, v), 1e-12)


def test_reference_by_hand():
    """Two tokens, softcap after scale, a window that hides the other token."""
    q = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]])
    k = torch.tensor([[[3.0, 0.0]], [[0.0, 5.0]]])
    v = torch.tensor([[[1.0, 10.0]], [[2.0, 20.0]]])
    starts = torch.tensor([0, 2], dtype=torch.int32)
    out = reference_attention(q, k, v, is_causal=False, cu_seqlens=starts, scale=0.5, softcap=2.0)
    first = torch.softmax(torch.tensor([2 * torch.tanh(torch.tensor(0.75)), 0.0]), 0)
    second = torch.softmax(torch.tensor([0.0, 2 * torch.tanh(torch.tensor(2.5))]), 0)
    expected = torch.stack([first @ v[:, 0], second @ v[:, 0]])[:, None]
    torch.testing.assert_close(out, expected)
    alone = reference_attention(q, k, v, is_causal=False, cu_seqlens=starts, window=1)
    assert torch.equal(alone, v)


def test_reference_gradients():
    q, k, v = _qkv(7, heads=4, kv_heads=2, dim=3)
    for arguments in ({"is_causal": True}, {"is_causal": False, "window": 2, "softcap": 1.5}):
        assert torch.autograd.gradcheck(
            lambda q, k, v, a=arguments: reference_attention(
                q, k, v, cu_seqlens=[0, 2, 2, 6], **a
            ),
            (q, k, v),
        )


@pytest.mark.parametrize("softcap", [None, 3.0], ids=["plain", "softcap"])
@pytest.mark.parametrize("window", [None, 1, 4, 39])
@pytest.mark.parametrize("causal", [True, False, "each"])
@pytest.mark.parametrize("pack", PACKS)
def test_packed_matches_reference(pack, causal, window, softcap, products):
    lengths, tail = PACKS[pack]
    starts, flags = starts_of(lengths), _flags(causal, len(lengths))
    q, k, v = _qkv(sum(lengths) + tail)
    arguments = {"is_causal": flags, "window": window, "softcap": softcap, "scale": 0.4}
    expected = _run(reference_attention, q, k, v, cu_seqlens=starts, **arguments)
    # A plan made on the device knows no lengths and takes another way to its indices.
    blind = PackPlan(cu_seqlens=starts, max_seqlen=max(lengths) + 1)
    for plan in (plan_pack(starts), blind):
        got = _run(attention, q, k, v, plan=plan, impl="sdpa", **arguments)
        assert_near(got, expected, 1e-11)
        for name, tensor in zip(NAMES, got, strict=True):
            assert not tensor[sum(lengths) :].any(), f"{name} behind the last sequence"
    assert_near(
        _run(attention, q, k, v, cu_seqlens=starts, impl="eager", **arguments), expected, 0
    )


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
@pytest.mark.parametrize("causal", [True, False, "each"])
@pytest.mark.parametrize("window", [None, 3])
def test_dense_equals_packed(impl, causal, window):
    q, k, v = _qkv(33)
    flags = _flags(causal, 3)
    packed = _run(
        attention, q, k, v, is_causal=flags, cu_seqlens=starts_of([11] * 3), window=window
    )

    def dense(q, k, v):
        rows = [x.unflatten(0, (3, 11)) for x in (q, k, v)]
        return attention(*rows, is_causal=flags, window=window, impl=impl).flatten(0, 1)

    assert_near(_run(dense, q, k, v), packed, 1e-12)


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
@pytest.mark.parametrize("shape", [(0, 5), (2, 0)])
def test_dense_and_empty(impl, shape):
    q, k, v = (torch.randn(*shape, h, 8).requires_grad_() for h in (4, 2, 2))
    out = attention(q, k, v, is_causal=False, impl=impl)
    assert out.shape == q.shape
    assert [g.shape for g in torch.autograd.grad(out.sum(), (q, k, v))] == [
        x.shape for x in (q, k, v)
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_half_precision(dtype, softcap):
    """Error against float64 at most twice that of eager code in the same dtype, plus rounding."""
    lengths = [19, 3, 40]
    exact = [x.detach().to(dtype).double().requires_grad_() for x in _qkv(62)]
    half = [x.detach().to(dtype).requires_grad_() for x in exact]
    arguments = {"is_causal": False, "cu_seqlens": starts_of(lengths), "softcap": softcap}
    truth = _run(reference_attention, *exact, **arguments)
    plain = _run(reference_attention, *half, **arguments, upcast=False)
    ours = _run(attention, *half, **arguments)
    for name, true, same, got in zip(NAMES, truth, plain, ours, strict=True):
        band = torch.finfo(dtype).eps * true.abs().max()
        allowed = 2 * (same - true).abs().max() + band
        assert (got - true).abs().max() <= allowed, name


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("known", [True, False], ids=["host plan", "device plan"])
def test_a_poisoned_neighbour_stays_alone(causal, known, products):
    lengths = [9, 14, 3, 14]
    starts = starts_of(lengths)
    plan = plan_pack(starts) if known else PackPlan(cu_seqlens=starts, max_seqlen=16)
    clean = _qkv(40, dtype=torch.float32)
    dirty = [x.detach().clone() for x in clean]
    for x in dirty:
        x[9:23] = float("nan")
    dirty = [x.requires_grad_() for x in dirty]
    others = torch.ones(40, dtype=torch.bool)
    others[9:23] = False
    arguments = {"is_causal": causal, "plan": plan, "impl": "sdpa"}
    before, after = _run(attention, *clean, **arguments), _run(attention, *dirty, **arguments)
    assert_equal(before, after, others)


def test_transposed_views_are_taken_as_they_are():
    base = [torch.randn(1, h, 30, 8) for h in (4, 2, 2)]
    views = [x[0].transpose(0, 1) for x in base]
    arguments = {"is_causal": True, "cu_seqlens": starts_of([13, 17])}
    strided = attention(*views, **arguments)
    assert torch.equal(strided, attention(*(x.contiguous() for x in views), **arguments))


def test_heads_of_a_joint_product_are_taken_as_they_are(products):
    """Queries, keys and values side by side in memory, behind and before other features."""
    joint = torch.randn(31, 12, 8, dtype=torch.float64)
    views = [x.requires_grad_() for x in joint.split((1, 4, 2, 2, 3), 1)[1:4]]
    apart = [x.detach().contiguous().requires_grad_() for x in views]
    arguments = {"is_causal": False, "cu_seqlens": starts_of([13, 1, 17]), "impl": "sdpa"}
    found, expected = (_run(attention, *x, **arguments) for x in (views, apart))
    assert_near(found, expected, 0)
    # One token, whose stride says nothing.
    one = [x[:1] for x in views], [x[:1] for x in apart]
    arguments["cu_seqlens"] = starts_of([1])
    assert_near(*(_run(attention, *x, **arguments) for x in one), 0)


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=9),
    causal=st.booleans(),
    seed=st.integers(0, 99),
)
def test_packed_equals_one_by_one(lengths, causal, seed):
    q, k, v = _qkv(sum(lengths), dtype=torch.float32, seed=seed)
    packed = attention(q, k, v, is_causal=causal, cu_seqlens=starts_of(lengths))
    starts = starts_of(lengths).tolist()
    for start, end in pairwise(starts):
        row = [x[start:end][None] for x in (q, k, v)]
        alone = attention(*row, is_causal=causal)[0]
        torch.testing.assert_close(packed[start:end], alone, atol=1e-5, rtol=0)


@settings(max_examples=25)
@given(length=st.integers(2, 40), data=st.data())
def test_a_causal_prefix_never_changes(length, data):
    cut = data.draw(st.integers(1, length - 1))
    q, k, v = _qkv(length, dtype=torch.float32)
    starts = starts_of([length])
    before = attention(q, k, v, is_causal=True, cu_seqlens=starts)
    noisy = [torch.cat([x[:cut], torch.randn_like(x[cut:]) * 9]) for x in (q, k, v)]
    after = attention(*noisy, is_causal=True, cu_seqlens=starts)
    assert torch.equal(before[:cut], after[:cut])
    full = [attention(*x, is_causal=False, cu_seqlens=starts) for x in ((q, k, v), noisy)]
    assert not torch.equal(full[0][:cut], full[1][:cut])


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60))
def test_groups_cover_every_token_once(lengths):
    plan = plan_pack(starts_of(lengths))
    layout = layout_of(plan, sum(lengths))
    assert sum(group.count for group in layout.groups) == len(lengths)
    back = layout.token_of_slot[layout.slot_of_token]
    assert torch.equal(back, torch.arange(sum(lengths)))
    widths = cut_by_length(lengths, 2000)
    assert widths == sorted(set(widths)) and widths[-1] >= max(lengths)
    assert cut_by_length(lengths, 10**12) == widths[-1:]


def test_products_serve_short_packs_in_full_precision_on_a_cpu():
    def served(lengths, dtype=torch.float32):
        layout = layout_of(plan_pack(starts_of(lengths)), sum(lengths))
        return short_groups.served(torch.empty(sum(lengths), 2, 8, dtype=dtype), layout)

    longest = short_groups.LONGEST
    assert served([3, longest]) and served([5], torch.float64)
    assert not served([3, longest + 1])
    assert not served([5], torch.bfloat16) and not served([5], torch.float16)
    # Autocast would round inside the products.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not served([5])


def test_masks_are_made_once():
    plan = plan_pack(starts_of([5, 9, 30]))
    q, k, v = _qkv(44, dtype=torch.float32)
    attention(q, k, v, is_causal=False, window=3, plan=plan)
    layout = layout_of(plan, 44)
    first = [dict(group.masks) for group in layout.groups]
    attention(q, k, v, is_causal=False, window=3, plan=plan)
    for group, masks in zip(layout.groups, first, strict=True):
        assert masks and all(group.masks[key] is mask for key, mask in masks.items())
