"""The proof on a GPU, in toy sizes on a CPU: it passes as things are, finds faults, loses nothing.

What is measured only on a GPU is not tested here.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.attention import peers
from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.gpu_check import (
    part_f_launches,
    part_j_prediction,
    part_j_training,
    part_l_operations,
)
from benchmarks.gpu_check.__main__ import Part, joined, main
from benchmarks.gpu_check.part_a_numerics import cases as numeric_cases
from benchmarks.gpu_check.part_b_determinism import cases as cells
from benchmarks.gpu_check.part_b_determinism import test_repeats_are_equal as repeats_are_equal
from benchmarks.gpu_check.part_c_memcheck import find_sanitizer, read_memcheck
from benchmarks.gpu_check.part_d_huge import test_copies_are_equal as copies_are_equal
from benchmarks.gpu_check.part_e_graphs import cases as buffers
from benchmarks.gpu_check.part_e_graphs import test_replays_are_fresh_calls as replays_are_fresh
from benchmarks.gpu_check.programs import Finished, run_program
from benchmarks.gpu_check.scope import Scope
from lmsl.layers import dropout
from lmsl.layers.fused.triton_ops import triton_ops
from lmsl.layers.lora import trainable_parameters
from lmsl.packs.packing import Pack
from lmsl.tagger.captured import CapturedForward
from lmsl.tagger.rooms import FixedPack
from lmsl.training.captured_step import Captured, Gradients
from lmsl_kernels import attention
from lmsl_kernels.flash import launch

TOY = Scope(device=torch.device("cpu"), toy=True)
CELLS, BUFFERS = cells(TOY), buffers(TOY)
interpreted = pytest.mark.skipif(
    not launch.INTERPRETED, reason="the kernels run here only with TRITON_INTERPRET=1"
)


def toy(tmp_path: Path, *parts: str) -> tuple[int, dict[str, Any]]:
    """Status and record of some parts, each in processes of its own."""
    status = main(["--device", "cpu", "--toy", "--out", str(tmp_path), "--parts", *parts])
    return status, json.loads((tmp_path / "gpu_check_cpu_quick.json").read_text())


@interpreted
def test_parts_run_in_processes_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where things are missing that GPU machines without a network lack, too."""
    for name in ("tyro", "bitsandbytes", "seqeval", "matplotlib"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    status, record = toy(tmp_path / "out", "a,c")
    assert status == 0 and record["toy"] and record["machine"]["versions"]["torch"]
    found = {letter: (one["status"], one["outcomes"]) for letter, one in record["parts"].items()}
    assert found == {"a": ("passed", {"passed": 2}), "c": ("skipped", {"skipped": 1})}
    for test in record["parts"]["a"]["tests"].values():
        assert 0 < test["figures"]["of_allowed"] < 1
    printed = capsys.readouterr().out
    assert "c  memcheck" in printed and "needs a CUDA device, got cpu" in printed
    assert "2 passed; worst 0." in printed


@pytest.mark.slow
@interpreted
def test_parts_pass_in_the_interpreter(tmp_path: Path) -> None:
    skipped = dict.fromkeys("gw", "skipped")
    status, record = toy(tmp_path, *"bdefghli")
    found = {letter: one["status"] for letter, one in record["parts"].items()}
    assert status == 0 and found == dict.fromkeys("bdefhli", "passed") | skipped
    assert (tmp_path / "attention_cpu_quick.json").exists()


CRASH = """
import os

def test_good(figures):
    figures["of_allowed"] = 0.5

def test_bad():
    assert False, "off by a lot"

def test_crash():
    os.kill(os.getpid(), 11)
"""


def test_a_crash_loses_one_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "part_d_x.py").write_text(CRASH)
    (tmp_path / "conftest.py").write_text("from benchmarks.gpu_check.conftest import *\n")
    monkeypatch.setattr(gpu_check, "FOLDER", tmp_path)
    status, record = toy(tmp_path / "out", "d")
    (part,) = record["parts"].values()
    assert status == 1 and part["outcomes"] == {"passed": 1, "failed": 2}
    tests = part["tests"]
    assert tests["test_good"]["figures"] == {"of_allowed": 0.5}
    assert "off by a lot" in tests["test_bad"]["reason"]
    assert "its process ended with -11" in tests["test_crash"]["reason"]
    printed = capsys.readouterr().out
    assert "1 passed; 2 failed; worst 0.50 of what is allowed; test_bad" in printed


def test_what_dies_is_recorded_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that pass, never begin, hang after a test, and for which no time is left."""
    good = {"outcome": "passed", "reason": None}
    outcomes: dict[str, tuple[dict[str, Any], int | None]] = {
        "a": ({"good": good}, 0),
        "b": ({}, 4),
        "d": ({"good": good, "slow": {"outcome": "running"}}, None),
    }

    def child(command: list[str], **others: Any) -> Finished:
        tests, status = outcomes[letter_of(command)]
        if tests:
            record = Path(command[command.index("--record") + 1])
            record.write_text(json.dumps({"tests": tests}))
        return Finished(status=status, output="no module\n")

    monkeypatch.setattr(gpu_check, "run_program", child)
    monkeypatch.setitem(gpu_check.PARTS, "e", Part(name="e", seconds=1))
    status, record = toy(tmp_path, "a", "b", "d", "e")
    found = record["parts"]
    statuses = {letter: one["status"] for letter, one in found.items()}
    assert statuses == {"a": "passed", "b": "failed", "d": "failed", "e": "not run"}
    assert status == 1 and "ended with 4: no module" in found["b"]["reason"]
    assert found["d"]["outcomes"] == {"passed": 1, "failed": 1}
    assert "was stopped" in found["d"]["tests"]["slow"]["reason"]
    assert found["e"]["reason"] == "share 0: no time was left"
    outcomes["b"] = outcomes["d"] = outcomes["a"]
    assert toy(tmp_path, "a", "b", "d", "e")[0] == 0


def letter_of(command: list[str]) -> str:
    (letter,) = {Path(one).name[5] for one in command if Path(one).name.startswith("part_")}
    return letter


def test_shares_are_joined() -> None:
    def share(outcome: str, **tests: str) -> dict[str, Any]:
        both = {name: {"outcome": outcome, "reason": why} for name, why in tests.items()}
        return {"tests": both, "seconds": float(len(tests))}

    whole = joined("x", [share("passed", a="", b=""), share("passed", c="")])
    assert (whole["status"], whole["reason"], whole["seconds"]) == ("passed", None, 2)
    late = joined("x", [share("passed", a=""), share("not run", b="late")])
    assert (late["status"], late["reason"]) == ("passed", "b: late")
    wrong = joined("x", [share("skipped", a="no tool"), share("failed", b="off")])
    assert (wrong["status"], wrong["reason"]) == ("failed", "b: off")
    assert joined("x", [share("skipped", a="no tool")])["status"] == "skipped"
    everything = numeric_cases(replace(TOY, toy=False))
    assert {case.dtype for case in everything} == {torch.bfloat16, torch.float16, torch.float32}
    assert len({case.name for case in everything}) == len(everything) > 100


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--parts", "a,z"], "--parts: expected letters of a,b,c,d,e,f,g,h,i,j,k,l, got 'a,z'"),
        (["--parts", ""], "--parts: expected letters"),
        (["--minutes", "nan"], "--minutes: expected from 0.5 to 120, got nan"),
        ([], "--device cpu: expected --toy beside it"),
        (["--device", "cuda"], "expected a CUDA device, found none"),
        (["--toy"], "pytest cannot be imported"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    refused: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if "pytest" in expected:
        monkeypatch.setattr(gpu_check.importlib.util, "find_spec", lambda name: None)
    refused(main, ["--device", "cpu", "--out", str(tmp_path), *arguments], expected)


def sdpa(*leaves: Tensor, impl: str, **arguments: Any) -> Tensor:
    """Stands in where kernels would do."""
    return attention(*leaves, impl="sdpa", **arguments)


def drifting() -> Callable[..., Tensor]:
    calls = 0

    def call(*leaves: Tensor, **arguments: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return sdpa(*leaves, **arguments) * (1 + 1e-6 * (calls % 2))

    return call


def last_is_off() -> Callable[..., Tensor]:
    def call(*leaves: Tensor, **arguments: Any) -> Tensor:
        out = sdpa(*leaves, **arguments)
        weights = torch.ones(out.shape[:1] + (1,) * (out.dim() - 1))
        weights[-1] = 1.001
        return out * weights

    return call


def frozen() -> Callable[..., Tensor]:
    """The lengths of the capture, whatever the buffers hold."""
    first: list[Any] = []

    def call(*leaves: Tensor, plan: Any, **arguments: Any) -> Tensor:
        first.append(replace(plan, cu_seqlens=plan.cu_seqlens.clone()))
        return sdpa(*leaves, plan=first[0], **arguments)

    return call


@interpreted
@pytest.mark.parametrize(
    ("fault", "proof", "arguments", "expected"),
    [
        (drifting, repeats_are_equal, (CELLS[0],), "repeat 1 differs in out"),
        (last_is_off, copies_are_equal, (64, 32, False), "out of equal sentences differs"),
        (last_is_off, copies_are_equal, (64, 8, True), "out of equal sentences differs"),
        (frozen, replays_are_fresh, (BUFFERS[0], True), "is off by"),
    ],
    ids=["other bits", "last copy", "last copy of a batch", "other lengths"],
)
def test_wrong_attention_is_found(
    fault: Callable[[], Any],
    proof: Callable[..., None],
    arguments: tuple[Any, ...],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the proof that is there to find it, which our kernels pass."""
    figures = ({},) if proof is copies_are_equal else ()
    proof(*arguments, TOY, *figures)
    monkeypatch.setattr(peers, "attention", fault())
    with pytest.raises(AssertionError, match=expected):
        proof(*arguments, TOY, *figures)


@interpreted
def test_one_launch_too_many_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: dict[str, Any] = {}
    part_f_launches.test_few_launches_and_no_waiting("sentences", TOY, figures)
    assert figures["ours"] == (1, 1)
    monkeypatch.setitem(part_f_launches.REGIMES, "sentences", (32, (1, 0)))
    with pytest.raises(AssertionError, match=r"\(1, 1\) launches"):
        part_f_launches.test_few_launches_and_no_waiting("sentences", TOY, {})


@interpreted
@pytest.mark.parametrize(("drift", "expected"), [(0.1, "outputs"), (1e-7, "other bits")])
def test_small_operations_that_are_off_are_found(
    drift: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off by more than rounding, and other bits when computed again."""
    calls = []

    def off(gate_up: Tensor) -> Tensor:
        calls.append(1)
        return triton_ops().swiglu_forward(gate_up) * (1 + drift * len(calls))

    wrong = replace(triton_ops(), swiglu_forward=off)
    cases = part_l_operations.cases(TOY)
    assert len(cases) == 14
    (case,) = (one for one in cases if (one.operation, one.dtype) == ("SwiGLU", torch.float32))
    part_l_operations.test_exact_and_the_same_bits_again(case, TOY)
    monkeypatch.setattr(part_l_operations, "triton_ops", lambda: wrong)
    with pytest.raises(AssertionError, match=expected):
        part_l_operations.test_exact_and_the_same_bits_again(case, TOY)


def trained(figures: dict[str, Any] | None = None) -> None:
    part_j_training.test_replayed_steps_are_eager_steps(TOY, {} if figures is None else figures)


def predicted(figures: dict[str, Any] | None = None) -> None:
    own = {} if figures is None else figures
    part_j_prediction.test_replayed_forwards_are_eager_forwards(TOY, own)


@pytest.mark.parametrize("replays", [trained, predicted])
def test_replays_pass(replays: Callable[[dict[str, Any]], None]) -> None:
    found: dict[str, Any] = {}
    replays(found)
    assert found["batches"] >= 3 and found["rooms"] >= 1 and 0 < found["of_allowed"] < 1
    times = [one for name, one in found.items() if name.startswith("ms")]
    for ms in (one for both in times for one in both.values()):
        assert 0 < ms["lowest"] <= ms["median"] <= ms["highest"]


@pytest.mark.parametrize("fault", ["labels", "place", "sums"])
def test_what_is_not_loaded_or_kept_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels and dropout of an earlier batch; gradients that are replaced instead of added."""
    load = Captured.load

    def forgetful(self: Captured, *arguments: Any) -> None:
        kept = self._pack.read().labels if fault == "labels" else self._place
        before = kept.clone()
        load(self, *arguments)
        # The first batch of a room meets memory that was loaded for itself.
        if hasattr(self, "replay"):
            kept.copy_(before)

    def twice(self: Gradients, objective: torch.Tensor) -> None:
        found = torch.autograd.grad(objective, self._parameters)
        torch._foreach_add_(self._sums, found, alpha=2)

    if fault == "sums":
        monkeypatch.setattr(Gradients, "add", twice)
    else:
        monkeypatch.setattr(Captured, "load", forgetful)
    with pytest.raises(AssertionError, match="a replay is off by"):
        trained()


@pytest.mark.parametrize("fault", ["ids", "weights"])
def test_a_forward_that_follows_nothing_is_found(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids of an earlier pack; answers by the adapters that were there at the capture."""
    load, compute = FixedPack.load, CapturedForward._compute
    seen: dict[int, torch.Tensor] = {}
    adapters: dict[CapturedForward, list[torch.Tensor]] = {}

    def forgetful(self: FixedPack, pack: Pack) -> None:
        ids = self.read().ids
        before = ids.clone()
        load(self, pack)
        # The first pack is loaded before anything is captured.
        if id(ids) in seen:
            ids.copy_(before)
        seen[id(ids)] = ids

    def frozen(self: CapturedForward) -> None:
        trained = trainable_parameters(self._eager.tagger).values()
        now = [parameter.detach().clone() for parameter in trained]
        first = adapters.setdefault(self, now)
        for parameter, own in zip(trained, first, strict=True):
            parameter.data.copy_(own)
        compute(self)
        for parameter, own in zip(trained, now, strict=True):
            parameter.data.copy_(own)

    if fault == "weights":
        monkeypatch.setattr(CapturedForward, "_compute", frozen)
    else:
        monkeypatch.setattr(FixedPack, "load", forgetful)
    expected = "adapters changed" if fault == "weights" else "a replay is off by"
    with pytest.raises(AssertionError, match=expected):
        predicted()


def test_masks_of_another_step_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = dropout.dropout_mask

    def later_each_time(clock: Any, **settings: Any) -> torch.Tensor:
        clock.step += 1
        return honest(clock, **settings)

    part_j_training.test_dropout_is_that_of_the_host(TOY)
    monkeypatch.setattr(part_j_training, "dropout_mask", later_each_time)
    with pytest.raises(AssertionError, match="dropout of 33 features is not that of the host"):
        part_j_training.test_dropout_is_that_of_the_host(TOY)


def test_what_is_timed_runs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[str] = []
    beside: dict[str, list[str]] = {}

    def child(command: list[str], **others: Any) -> Finished:
        letter = letter_of(command)
        running.append(letter)
        beside[letter] = [*running]
        time.sleep(0.2)
        running.remove(letter)
        tests = {"test": {"outcome": "passed", "reason": None}}
        Path(command[command.index("--record") + 1]).write_text(json.dumps({"tests": tests}))
        return Finished(status=0, output="")

    monkeypatch.setattr(gpu_check, "run_program", child)
    assert toy(tmp_path, "a", "b", "l")[0] == 0
    assert beside["l"] == ["l"] and set(beside) == {"a", "b", "l"}


def test_programs_are_stopped_with_what_they_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    began = time.monotonic()
    script = f"echo begun; (sleep 3; touch {alive}) & wait"
    finished = run_program(["sh", "-c", script], seconds=1.0)
    assert finished.status is None and time.monotonic() - began < 3
    assert finished.output == "begun\n"
    time.sleep(2.5)
    assert not alive.exists()
    command = [sys.executable, "-c", "import os; print('x' * 9 + os.environ['K']); exit(4)"]
    assert run_program(command, seconds=30, environment={"K": "v"}, keep=4) == Finished(
        status=4, output="xxv\n"
    )


def test_the_sanitizer_is_found_and_understood(tmp_path: Path) -> None:
    assert find_sanitizer(str(tmp_path)) is None
    tool = tmp_path / "compute-sanitizer"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert find_sanitizer(str(tmp_path)) == str(tool)
    clean = "===== ERROR SUMMARY: 0 errors\n"
    assert read_memcheck(Finished(status=0, output=clean)) == 0
    bad = Finished(status=9, output="Invalid __global__ read\nERROR SUMMARY: 3 errors")
    with pytest.raises(AssertionError, match="3 bad memory accesses: Invalid __global__ read"):
        read_memcheck(bad)
    with pytest.raises(AssertionError, match="failed under it"):
        read_memcheck(Finished(status=1, output=clean))
    for status, said in ((None, ""), (1, "Error: Device not supported"), (1, "cannot start")):
        with pytest.raises(pytest.skip.Exception, match="compute-sanitizer"):
            read_memcheck(Finished(status=status, output=said))
