"""No work is lost: what a plan says has to be computed, and that it asks no device."""

from collections import Counter
from dataclasses import replace
from itertools import groupby

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from lmsl_kernels import PackPlan, plan_pack
from lmsl_kernels.flash.call import make_call
from lmsl_kernels.flash.launch import backward_launches, forward_launches
from lmsl_kernels.sdpa.groups import layout_of
from tests.attention.attention_tools import starts_of

LENGTHS = st.lists(st.integers(0, 300), max_size=12)
BLOCKS = st.sampled_from([16, 64, 128])


def _tiles(lengths, block):
    return {(s, t) for s, length in enumerate(lengths) for t in range(-(-length // block))}


@settings(derandomize=True)
@given(lengths=LENGTHS, block=BLOCKS, spare=st.integers(0, 500), last_first=st.booleans())
def test_every_tile_is_worked_on_once(lengths, block, spare, last_first):
    rows = sum(lengths) + spare
    known = plan_pack(starts_of(lengths))
    unknown = PackPlan(cu_seqlens=starts_of(lengths), max_seqlen=300, capacity=rows)
    for plan in (known, unknown):
        work = plan.work_list(rows, block, last_first=last_first)
        assert work.dtype == torch.int32 and work.is_contiguous()
        items = [tuple(item) for item in work.tolist() if item[0] >= 0]
        assert Counter(items) == Counter(_tiles(lengths, block))
        assert plan.work_list(rows, block, last_first=last_first) is work
        # The last tiles of a causal sequence see most, the first are seen by most.
        for _, group in groupby(items, key=lambda item: item[0]):
            tiles = [tile for _, tile in group]
            assert tiles == sorted(tiles, reverse=last_first)
    # Grids are bound by what the host knows: an idle program is one that reads its item and ends.
    assert len(known.work_list(rows, block, last_first=last_first)) == len(_tiles(lengths, block))
    idle = len(unknown.work_list(rows, block, last_first=last_first))
    assert idle <= rows // block + len(lengths)


def test_heavy_sequences_come_first():
    plan = plan_pack(starts_of([5, 300, 0, 129, 300]))
    work = plan.work_list(734, 128, last_first=True).tolist()
    assert work == [[1, 2], [1, 1], [1, 0], [4, 2], [4, 1], [4, 0], [3, 1], [3, 0], [0, 0]]
    work = plan.work_list(734, 128, last_first=False).tolist()
    assert work[:3] == [[1, 0], [1, 1], [1, 2]]


def _no_host(device):
    """All launches of a call whose plan was made on a device that cannot be read."""
    cu_seqlens = starts_of([200, 0, 70], device)
    plan = plan_pack(cu_seqlens, 300, capacity=512)
    q, k, v = (torch.empty(400, h, 64, device=device) for h in (4, 2, 2))
    flags = torch.ones(3, dtype=torch.bool, device=device)
    numbers = {"is_causal": flags, "window": 9, "softcap": 2.0, "scale": 0.1}
    call = make_call(q, k, v, plan=plan, **numbers, table="sm_90")
    totals = torch.empty(4, 400, device=device)
    launches = forward_launches(call, q, k, v, q, totals)
    return launches + backward_launches(call, q, k, v, q, totals, q, (q, k, v))


def test_launches_need_no_number_of_the_device():
    """So a CUDA graph can capture them: reading a meta tensor raises."""
    launches = _no_host("meta")
    assert [launch.kernel.fn.__name__ for launch in launches] == [
        "tiled_forward",
        "backward_rows",
        "backward_keys",
    ]
    assert all(launch.arguments["work"].is_meta and launch.programs for launch in launches)
    with FakeTensorMode():
        plan = PackPlan(cu_seqlens=torch.empty(4, dtype=torch.int32), max_seqlen=300)
        assert plan.work_list(512, 64, last_first=True).shape == (512 // 64 + 3, 2)


def test_descriptors_point_only_into_what_they_can():
    """The copy engine wants 16-byte steps; of each tensor, the gradient that comes in too."""
    starts = [0, 200]
    q, k, v = (torch.zeros(200, 2, 64) for _ in range(3))
    apart = torch.zeros(200, 2, 65)[..., 1:]
    expanded = torch.zeros(1, 2, 64).expand(200, 2, 64)
    numbers = {"is_causal": True, "window": None, "softcap": None, "scale": 0.1}

    def described(q, dout):
        call = make_call(q, k, v, plan=plan_pack(starts, 2000), **numbers, table="sm_90")
        launches = backward_launches(call, q, k, v, q, torch.zeros(2, 200), dout, (q, k, v))
        return [launch.constants["DESCRIBED"] for launch in launches]

    assert any(described(q, v))
    for one, other in ((apart, v), (q, apart), (q, expanded), (q, apart[..., ::2])):
        assert not any(described(one, other))


def test_what_is_made_on_the_host_is_sent_from_pinned_memory(monkeypatch):
    """Else the host would wait there, in every batch, for all that the device still has to do."""
    pinned, moved = [], []

    def pin(tensor):
        pinned.append(tensor.clone())
        return pinned[-1]

    def move(tensor, device, *others, non_blocking=False):
        moved.append((tensor, str(device), non_blocking))
        return tensor

    plan = plan_pack([0, 4, 6, 15])
    plan = replace(plan, cu_seqlens=plan.cu_seqlens.as_subclass(Elsewhere))
    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "pin_memory", pin)
        patched.setattr(torch.Tensor, "to", move)
        work = plan.work_list(15, 4, last_first=False)
        layout = layout_of(plan, 17)
    tensors = [layout.token_of_slot, layout.slot_of_token, layout.padding, layout.outside]
    tensors += [x for group in layout.groups for x in (group.sequences, group.lengths)]
    found = [work, *(x for x in tensors if x is not None)]
    assert len(found) == len(pinned) == len(moved) >= 6
    for tensor in found:
        assert any(tensor is own for own in pinned)
    assert all(device == "cuda" and non_blocking for _, device, non_blocking in moved)


def test_nothing_to_do():
    unknown = PackPlan(cu_seqlens=starts_of([]), max_seqlen=0)
    for plan, rows in ((plan_pack([0]), 0), (plan_pack([0, 0, 0]), 0), (unknown, 9)):
        assert plan.work_list(rows, 64, last_first=True).shape == (0, 2)


def test_a_capacity_is_a_promise():
    plan = plan_pack(starts_of([7, 5]).to("meta"), 7, 64)
    assert (plan.capacity, plan.lengths) == (64, None)
    with pytest.raises(ValueError, match="capacity must hold 12 tokens, got 11"):
        plan_pack(starts_of([7, 5]), capacity=11)


class Elsewhere(torch.Tensor):
    """A tensor that says it lies on a GPU."""

    @property
    def device(self):
        return torch.device("cuda")


def test_check_reads_what_lies_on_a_device():
    wrong = starts_of([4, 6]).flip(0).as_subclass(Elsewhere)
    assert plan_pack(wrong, 6, device="cpu").lengths is None
    with pytest.raises(ValueError, match="must start with 0, got 10"):
        plan_pack(wrong, 6, device="cpu", check=True)
    right = starts_of([4, 6]).as_subclass(Elsewhere)
    assert plan_pack(right, device="cpu", check=True).lengths == (4, 6)
    with pytest.raises(ValueError, match="at least the longest, 6, got 5"):
        plan_pack(right, 5, device="cpu", check=True)
