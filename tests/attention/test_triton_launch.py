"""A launch goes to the device of its tensors, with numbers of one type whatever the caller has."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lmsl_kernels import attention, plan_pack
from lmsl_kernels.flash.call import make_call
from lmsl_kernels.flash.launch import Launch, backward_launches, forward_launches
from lmsl_kernels.flash.tuning import Tiles
from tests.row_tools import FakeDevices, FakeKernel

TILES = Tiles(
    kernel="tiled_forward",
    head_dim=64,
    longest=0,
    group=0,
    rows=16,
    keys=16,
    warps=4,
    stages=1,
)
NUMBERS = {
    "integer": (1, 30),
    "numpy": (np.float32(1.0), np.float64(30.0)),
    "0-d array": (np.array(1.0), np.array(30)),
    "0-d tensor": (torch.tensor(1.0), torch.tensor(30)),
}


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> FakeDevices:
    return FakeDevices(monkeypatch)


def launch(kernel: FakeKernel, device: str, programs: int = 3) -> Launch:
    q = SimpleNamespace(device=torch.device(device))
    return Launch(
        kernel=kernel, programs=programs, arguments={"q": q}, constants={"MASK": 1}, tiles=TILES
    )


def test_a_launch_goes_to_the_device_of_its_tensors(devices) -> None:
    kernel = FakeKernel(devices)
    launch(kernel, "cuda:1").run()
    launch(kernel, "cuda:0").run()
    launch(kernel, "cuda:1", programs=0).run()
    assert [(device, grid) for device, grid, _ in kernel.started] == [(1, (3,)), (0, (3,))]
    assert all(named["num_warps"] == 4 and named["MASK"] == 1 for _, _, named in kernel.started)
    # Where the device is the current one already, nothing is entered, nor for no programs.
    assert devices.current == 0 and devices.entered == [1]


def test_the_memory_of_descriptors_is_of_the_device_too(devices, monkeypatch) -> None:
    set_on: list[int] = []
    monkeypatch.setattr("triton.set_allocator", lambda function: set_on.append(devices.current))
    plain = launch(FakeKernel(devices), "cuda:1")
    replace(plain, tiles=replace(TILES, described=True)).run()
    assert set_on == [1]


def test_an_error_leaves_the_current_device(devices) -> None:
    class Failing(FakeKernel):
        def __getitem__(self, grid: tuple[int, ...]):
            raise RuntimeError("out of resources")

    with pytest.raises(RuntimeError, match="out of resources"):
        launch(Failing(devices), "cuda:1").run()
    assert devices.current == 0


@pytest.mark.parametrize(("scale", "softcap"), NUMBERS.values(), ids=NUMBERS.keys())
@pytest.mark.parametrize("longest", [16, 2000])
def test_numbers_of_any_type_reach_a_kernel_as_floats(longest, scale, softcap) -> None:
    """An integer or a number of numpy would be another signature, and compiled again."""
    q = torch.empty(longest, 2, 64, dtype=torch.bfloat16, device="meta")
    call = make_call(
        q,
        q,
        q,
        plan=plan_pack([0, longest], device="meta"),
        is_causal=True,
        window=None,
        softcap=softcap,
        scale=scale,
        table="sm_90",
    )
    total = torch.empty(2, longest, device="meta")
    launches = [
        *forward_launches(call, q, q, q, q, total),
        *backward_launches(call, q, q, q, q, total, q, (q, q, q)),
    ]
    assert len(launches) == (2 if longest == 16 else 3)
    for one in launches:
        assert type(one.arguments["scale"]) is float and one.arguments["scale"] == 1.0
        assert type(one.arguments["softcap"]) is float and one.arguments["softcap"] == 30.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter serves CPU tensors")
@pytest.mark.parametrize(("scale", "softcap"), NUMBERS.values(), ids=NUMBERS.keys())
def test_numbers_of_any_type_are_computed_with(scale, softcap) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(5, 1, 16) for _ in range(3))
    common = {"is_causal": True, "plan": plan_pack([0, 5]), "impl": "triton"}
    expected = attention(q, k, v, scale=1.0, softcap=30.0, **common)
    assert torch.equal(attention(q, k, v, scale=scale, softcap=softcap, **common), expected)
