"""The driver of the proof on a GPU, on a CPU: nothing is lost when a part dies, or its time ends.

What is measured only on a GPU is not tested here.
"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.gpu_check.__main__ import Part, joined, main
from benchmarks.gpu_check.part_a_numerics import cases as numeric_cases
from benchmarks.gpu_check.part_c_memcheck import find_sanitizer, read_memcheck
from benchmarks.gpu_check.programs import Finished, run_program
from benchmarks.gpu_check.scope import Scope
from lmsl_kernels.flash import launch

TOY = Scope(device=torch.device("cpu"), toy=True)
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
    status, record = toy(tmp_path / "out", "a,")
    assert status == 0 and record["toy"] and record["machine"]["versions"]["torch"]
    (part,) = record["parts"].values()
    assert part["status"] == "passed" and part["outcomes"] == {"passed": 2}
    for test in part["tests"].values():
        assert 0 < test["figures"]["of_allowed"] < 1
    assert "2 passed; worst 0." in capsys.readouterr().out


@pytest.mark.slow
@interpreted
def test_parts_pass_in_the_interpreter(tmp_path: Path) -> None:
    skipped = dict.fromkeys("cgw", "skipped")
    status, record = toy(tmp_path, *"bcdefghli")
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
        "l": ({"good": good}, 0),
    }

    running: list[str] = []
    beside: dict[str, list[str]] = {}

    def child(command: list[str], **others: Any) -> Finished:
        (letter,) = {Path(one).name[5] for one in command if Path(one).name.startswith("part_")}
        running.append(letter)
        beside[letter] = [*running]
        time.sleep(0.1)
        tests, status = outcomes[letter]
        if tests:
            record = Path(command[command.index("--record") + 1])
            record.write_text(json.dumps({"tests": tests}))
        running.remove(letter)
        return Finished(status=status, output="no module\n")

    monkeypatch.setattr(gpu_check, "run_program", child)
    monkeypatch.setitem(gpu_check.PARTS, "e", Part(name="e", seconds=1))
    monkeypatch.setitem(gpu_check.PARTS, "k", Part(name="k", seconds=99, needs="nowhere"))
    status, record = toy(tmp_path, *"abdekl")
    found = record["parts"]
    statuses = {letter: one["status"] for letter, one in found.items()}
    expected = {"a": "passed", "b": "failed", "d": "failed", "e": "not run", "l": "passed"}
    assert statuses == expected | {"k": "skipped"}
    assert beside["l"] == ["l"], "what is timed runs alone"
    assert status == 1 and "ended with 4: no module" in found["b"]["reason"]
    assert found["d"]["outcomes"] == {"passed": 1, "failed": 1}
    assert "was stopped" in found["d"]["tests"]["slow"]["reason"]
    assert found["e"]["reason"] == "share 0: no time was left"
    assert found["k"]["reason"] == "share 0: nowhere cannot be imported"
    outcomes["b"] = outcomes["d"] = outcomes["a"]
    assert toy(tmp_path, *"abde")[0] == 0


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


def test_programs_are_stopped_with_what_they_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    began = time.monotonic()
    script = f"echo begun; (sleep 1.6; touch {alive}) & wait"
    finished = run_program(["sh", "-c", script], seconds=1.0)
    assert finished.status is None and time.monotonic() - began < 1.6
    assert finished.output == "begun\n"
    time.sleep(0.9)
    assert not alive.exists()
    command = [sys.executable, "-c", "import os; print('x' * 9 + os.environ['K']); exit(4)"]
    assert run_program(command, seconds=30, environment={"K": "v"}, keep=4) == Finished(
        status=4, output="xxv\n"
    )


def test_the_sanitizer_is_found_and_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    tool = tmp_path / "compute-sanitizer"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert find_sanitizer() == str(tool)
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
