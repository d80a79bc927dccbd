"""Layers on the kernels of norms, rotation and SwiGLU, who chooses them, and how they start."""

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lmsl.errors import InputError
from lmsl.layers.fused.ops import PLAIN, rms_norm, swiglu
from lmsl.layers.fused.triton_ops import choose_ops, triton_ops
from tests.decoders import build
from tests.layers.block_tools import (
    QV,
    SETTINGS,
    assembled,
    assert_equal_results,
    packed,
    random_tail,
    sentences,
    step,
)
from tests.row_tools import FakeDevices, FakeKernel
from tests.small_runs import ADAPTER, ROOT, environment, train, write_data
from tests.tagger.tagger_tools import CPU

pytest.importorskip("triton")
WHAT = "norms, rotation and SwiGLU"
# Layers of four, of which the second sees to the right: interpreted programs are slow.
TWO = {"num_hidden_layers": 2}
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is off")


@pytest.mark.parametrize(
    ("family", "targets"), [("qwen3", QV), ("llama", (*QV, "gate_proj", "down_proj"))]
)
def test_a_step_is_that_of_torch(family: str, targets: tuple[str, ...]) -> None:
    """With norms over heads, or an adapted MLP; the last layer computes read rows only."""
    batch = packed(sentences([2, 1]), sentences([2], seed=1))
    more = {"changes": TWO, "seeds": (1, 2), "lora": replace(SETTINGS["lora"], targets=targets)}
    steps = [
        step(assembled(family, elementwise=choice, **more), batch)
        for choice in ("triton", "plain")
    ]
    assert not torch.equal(steps[0].logits, steps[1].logits), "computed by one and the same"
    assert_equal_results(*steps)


def test_training_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, found = write_data(tmp_path / "data", {"train": 2, "dev": 1}), {}
    for choice in ("triton", "plain"):
        flags = ("--elementwise", choice, "--max-steps", "1", "--exit-layer", "1")
        run = train(data, tmp_path / choice, *flags, "--attention", "sdpa")
        by = {"triton": "triton", "plain": "torch"}[choice]
        assert f"{WHAT} by {by} (--elementwise {choice})" in capsys.readouterr().err
        assert f"elementwise: {choice}" in (run / "config.yaml").read_text()
        found[choice] = load_file(run / ADAPTER)
    # Adam divides by the size of a gradient: where that is rounding, so is all of the step.
    for name, mine in found["triton"].items():
        far = (mine - found["plain"][name]).abs() > 1e-4 * mine.abs().max()
        assert far.float().mean() < 0.01, name


def test_what_a_backward_wrote_over_is_not_used_again() -> None:
    """A kernel writes behind autograd's back, and has to tell it."""
    context = torch.randn(5, 24, requires_grad=True)
    hidden = torch.randn(5, 40, requires_grad=True)
    found, expected = (random_tail(ops)[0](context, hidden) for ops in (triton_ops(), PLAIN))
    torch.testing.assert_close(found, expected)
    wanted = torch.autograd.grad(expected.sum(), (context, hidden))
    mine = torch.autograd.grad(found.sum(), (context, hidden), retain_graph=True)
    torch.testing.assert_close(mine, wanted)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(found.sum(), (context, hidden))


def test_single_steps_may_run_back_twice() -> None:
    rows, weight = torch.randn(5, 24, requires_grad=True), torch.rand(24)
    for function in (lambda x, ops: rms_norm(x, weight, 1e-5, ops), swiglu):
        found, expected = (function(rows, ops) for ops in (triton_ops(), PLAIN))
        torch.testing.assert_close(found, expected)
        direction = torch.randn_like(expected)
        (wanted,) = torch.autograd.grad(expected, rows, direction)
        for _ in range(2):
            (mine,) = torch.autograd.grad(found, rows, direction, retain_graph=True)
            torch.testing.assert_close(mine, wanted)


def test_the_choice_is_said() -> None:
    serves_on_request = (
        f"{WHAT} by torch; not by triton: the interpreter is there to prove the kernels and "
        "serves only who asks for it"
    )
    for choice, words in {
        "auto": serves_on_request,
        "triton": f"{WHAT} by triton (--elementwise triton)",
        "plain": f"{WHAT} by torch (--elementwise plain)",
    }.items():
        assert words in assembled(changes=TWO, elementwise=choice).notes
    by_transformers = assembled(block="plain").notes
    assert not [note for note in by_transformers if note.startswith(WHAT)]


def test_by_default_kernels_compute_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    config = build("llama").config
    capability = [(8, 0)]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability[0])
    device = torch.device("cuda", 1)
    ops, words = choose_ops("auto", config, device, torch.bfloat16)
    assert ops.norm_forward is not PLAIN.norm_forward and words == f"{WHAT} by triton"
    capability[0] = (7, 5)
    ops, words = choose_ops("auto", config, device, torch.bfloat16)
    assert ops is PLAIN and words.endswith("it needs compute capability 8.0 or later, got 7.5")


def test_what_cannot_serve_is_said_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = build("llama").config
    wide, odd = (build("llama").config for _ in range(2))
    wide.hidden_size, odd.head_dim = 16400, 33
    cases = [
        (config, torch.float64, "it computes bfloat16, float16 and float32, got torch.float64"),
        (wide, torch.float32, "rows may have at most 16384 features, got 16400"),
        (odd, torch.float32, "head_dim must be even and at most 256, got 33"),
    ]

    def refused(config: object, dtype: torch.dtype, reason: str) -> None:
        ops, words = choose_ops("auto", config, CPU, dtype)
        assert ops is PLAIN and words == f"{WHAT} by torch; not by triton: {reason}"
        with pytest.raises(InputError) as caught:
            choose_ops("triton", config, CPU, dtype)
        assert str(caught.value) == f"--elementwise triton: {reason}; use plain"
        assert choose_ops("plain", config, CPU, dtype)[0] is PLAIN

    for case in cases:
        refused(*case)
    monkeypatch.setattr("lmsl_kernels.rows.elementwise.INTERPRETED", False)
    reason = "it needs a CUDA device, got cpu (TRITON_INTERPRET=1 runs it on the CPU)"
    refused(config, torch.float32, reason)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused(config, torch.float32, "triton is not installed")


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_kernels_for_transformers_own_forward_are_refused(family: str) -> None:
    lora = replace(SETTINGS["lora"], targets=("query-value",))
    with pytest.raises(InputError, match=r"^--elementwise triton: expected .*transformers' own"):
        block = "plain" if family == "llama" else "auto"
        assembled(family, block, changes={}, lora=lora, elementwise="triton")


def test_a_launch_goes_to_the_device_of_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    from lmsl_kernels.rows.launch import RowLaunch

    kernel = FakeKernel(FakeDevices(monkeypatch))
    for device, grid in (("cuda:1", (3,)), ("cuda:0", (2, 5)), ("cuda:1", (0, 4))):
        made = {"arguments": {}, "constants": {}, "warps": 4, "device": torch.device(device)}
        RowLaunch(kernel=kernel, grid=grid, **made).run()
    places = [(device, grid) for device, grid, _ in kernel.started]
    assert places == [(1, (3,)), (0, (2, 5))], "nothing starts for no rows"


def test_compiled_once_for_any_number_of_rows_and_without_spills() -> None:
    compiling = {k: v for k, v in environment().items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.attention.row_compiler"],
        cwd=ROOT,
        env=compiling,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    digests = {line["name"]: line["digests"] for line in lines if "digests" in line}
    assert len(digests) == 24
    assert [name for name, found in digests.items() if len(found) > 1] == []
    faults = {line["name"]: line["fault"] for line in lines if "fault" in line}
    assert [item for item in faults.items() if item[1] is not None] == []
    assert set(Counter(name.split()[0] for name in faults).values()) == {4} and len(faults) == 24
