"""The attention benchmark and the GPU proof, as far as a machine without a GPU goes.

What is measured only on a GPU is not tested here: that the proof finds faults, and loses nothing
when a part of it dies, is.
"""

import json
import os
import select
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.attention import __main__ as attention_benchmark
from benchmarks.attention import runs
from benchmarks.attention.batch import gather, lay_out, make_batch
from benchmarks.attention.cells import (
    KNOWN_RATES,
    Cell,
    floor_seconds,
    headline_cells,
    moved_bytes,
    operations,
    other_cells,
    stream_cells,
    visible_pairs,
)
from benchmarks.attention.gate import errors, fault, reference_passes
from benchmarks.attention.peers import Batch, Peer, padding_bias, peers
from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.gpu_check import device, numerics, small_operations, tools
from benchmarks.gpu_check.part import PARTS, Part, run_part
from benchmarks.gpu_check.scope import Scope, Skipped, merge
from benchmarks.gpu_check.tools import Finished, find_sanitizer, read_memcheck, run_program
from benchmarks.shared import plots
from lmsl.layers.fused.triton_ops import triton_ops
from lmsl_kernels import attention

CPU = torch.device("cpu")
SMALL = {"heads": 4, "kv_heads": 2, "head_dim": 16, "dtype": "float32"}
TALL = {"sentences": 16, "is_causal": False, "equal": True}
interpreted = pytest.mark.skipif(
    not device.launch_module.INTERPRETED,
    reason="the kernels run here only with TRITON_INTERPRET=1",
)


def cell(**changes: Any) -> Cell:
    return Cell(**{"sentences": 5, "mean_length": 6, "is_causal": False, **SMALL, **changes})


def scope(**changes: Any) -> Scope:
    return replace(Scope(device=CPU, ends=time.monotonic() + 600, toy=True), **changes)


def test_figures_are_those_computed_by_hand() -> None:
    """Those of a table that was made without this code: 16 sentences, 32 heads, 8 kv heads."""
    short = Cell(**TALL, mean_length=32)
    lengths = short.lengths(1)
    assert lengths == (32,) * 16
    # 2 products of 2 * 128 operations, 32 heads, 16 sentences of 32 * 32 pairs.
    assert operations(short, lengths, "forward") == 2 * 2 * 128 * 32 * 16 * 1024 == 268_435_456
    assert operations(short, lengths, "both") == 3.5 * 268_435_456
    # 512 tokens of 128 numbers of 2 bytes: q and o of 32 heads, k and v of 8; then q, do, dq
    # of 32 and k, v, dk, dv of 8.
    assert moved_bytes(short, lengths, "forward") == 512 * 128 * 2 * (32 + 32 + 8 + 8)
    assert moved_bytes(short, lengths, "backward") == 512 * 128 * 2 * (3 * 32 + 4 * 8)
    assert visible_pairs((3, 0, 1), True) == 6 + 0 + 1
    assert visible_pairs((3, 0, 1), False) == 9 + 0 + 1
    h200 = KNOWN_RATES["NVIDIA H200"]
    expected = {32: (2.2, 3.5), 128: (8.8, 14.0), 256: (17.6, 43.0), 512: (69.0, 174.0)}
    for length, (forward, backward) in expected.items():
        tall = Cell(**TALL, mean_length=length)
        found = [
            1e6 * floor_seconds(tall, tall.lengths(1), direction, h200)
            for direction in ("forward", "backward", "both")
        ]
        assert found == pytest.approx([forward, backward, forward + backward], rel=0.02)


def test_lengths_vary_like_sentences_and_can_be_drawn_again() -> None:
    big = cell(sentences=2000, mean_length=64)
    drawn = big.lengths(3)
    assert drawn == big.lengths(3) != big.lengths(4)
    assert sum(drawn) / 2000 == pytest.approx(64, rel=0.05)
    assert min(drawn) >= 1 and max(drawn) <= 3.5 * 64
    assert min(cell(sentences=500, mean_length=1).lengths(1)) == 1
    cells = headline_cells() + other_cells()
    assert len({one.name for one in cells}) == len(cells) == 30 + 44
    assert {one.mean_length for one in cells} == {16, 32, 64, 128, 512, 2048, 4096, 8192, 16384}
    assert all(one.mean_length <= 128 for one in stream_cells())


@pytest.mark.parametrize("is_causal", [False, True], ids=["full", "causal"])
def test_every_contender_of_the_cpu_passes_the_gate(is_causal: bool) -> None:
    batch = make_batch(cell(is_causal=is_causal), CPU, seed=2)
    assert batch.ragged
    truth = reference_passes(batch)
    able = [peer for peer in peers() if peer.why_not(batch.cell, CPU) is None]
    assert [peer.name for peer in able] == ["lmsl sdpa", "SDPA default, 4D mask", "eager"]
    for peer in able:
        assert fault(errors(peer, lay_out(batch, peer.layout), truth), "float32") is None
    # Without a mask a rectangle is right where padding is behind what is seen, and only there.
    by_name = {peer.name: peer for peer in peers()}
    padded = lay_out(batch, "padded")
    flash = fault(errors(by_name["SDPA flash"], padded, truth), "float32")
    assert (flash is None) == is_causal
    assert fault(errors(by_name["SDPA cuDNN"], padded, truth), "float32") is None


def test_layouts_hold_the_same_rows() -> None:
    batch = make_batch(cell(mean_length=4), CPU, seed=1)
    padded = lay_out(batch, "padded")
    assert padded.q.shape == (5, max(batch.lengths), 4, 16) and padded.q.requires_grad
    assert torch.equal(gather(padded.q, padded), batch.q)
    assert padded.q.count_nonzero() == batch.q.count_nonzero()
    bias = padding_bias(replace(padded, lengths=(2, 3), q=padded.q[:2], cell=cell(is_causal=True)))
    assert bias is not None and bias.shape == (2, 1, 3, 3)
    assert bias[0, 0].tolist() == [[True, False, False], [True, True, False], [True, True, False]]
    assert padding_bias(make_batch(cell(equal=True), CPU, 1)) is None


def benchmark(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    output = tmp_path / "record.json"
    common = ("--device", "cpu", "--quick", "--output", str(output))
    status = attention_benchmark.main([*common, *arguments])
    return status, json.loads(output.read_text()) if output.exists() else {}


def test_quick_run_leaves_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, record = benchmark(tmp_path, "--commit", "abc")
    printed = capsys.readouterr().out
    assert status == 0 and record["benchmark"] == "attention" and record["unfinished"] == []
    assert {"torch", "triton"} <= set(record["machine"]["versions"])
    assert record["machine"]["commit"] and record["rates"] is None
    assert "2 * head_dim" in record["formulas"]
    assert [len(record[table]) for table in ("kernels", "streams", "mixes")] == [2, 2, 2]
    for figures in record["kernels"]:
        statuses = {name: one["status"] for name, one in figures["contenders"].items()}
        assert statuses["lmsl sdpa"] == statuses["eager"] == "timed"
        assert statuses["varlen flash"] == statuses["lmsl triton"] == "skipped"
        assert "needs a CUDA device" in figures["contenders"]["varlen cuDNN"]["reason"]
        made = cell(sentences=3, is_causal=figures["cell"]["is_causal"])
        for direction, sample in figures["contenders"]["eager"]["times"].items():
            rate = operations(made, made.lengths(1), direction) / sample["seconds"] / 1e12
            assert sample["tflops"] == pytest.approx(rate) and sample["timer"] == "host clock"
            assert 0 < sample["lowest"] <= sample["seconds"] <= sample["highest"]
    for figures in record["streams"]:
        one = figures["contenders"]["lmsl sdpa"]
        tokens = figures["mean_tokens"]
        assert one["tokens_per_second"] == pytest.approx(1e3 * tokens / one["first_ms"])
    for figures in record["mixes"]:
        us = figures["contenders"]["lmsl sdpa"]["us"]
        mean = (us["0000"] + us["1111"]) / 2
        assert figures["contenders"]["lmsl sdpa"]["against_mean"] == pytest.approx(
            us["0011"] / mean
        )
    assert "needs a CUDA device, got cpu: lmsl triton; varlen flash" in printed


def test_wrong_and_broken_contenders_are_not_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def zeros(batch: Batch, derived: object) -> Tensor:
        return sum(x.sum() for x in batch.leaves) * torch.zeros_like(batch.q)

    def broken(batch: Batch, derived: object) -> Tensor:
        raise RuntimeError("no\nsuch kernel")

    nan = lambda batch, derived: zeros(batch, derived) + float("nan")  # noqa: E731
    calls = {"lmsl triton": zeros, "nan": nan, "broken": broken}
    bad = tuple(Peer(name=name, layout="packed", call=call) for name, call in calls.items())
    monkeypatch.setattr(attention_benchmark, "peers", lambda: bad)
    status, record = benchmark(tmp_path, "--tables", "kernels", "streams")
    # Ours is among the wrong ones.
    assert status == 1
    for figures in (*record["kernels"], *record["streams"]):
        for name in ("lmsl triton", "nan"):
            one = figures["contenders"][name]
            assert one["status"] == "wrong" and "times" not in one and "first_ms" not in one
            assert "off by out" in one["reason"]
        broken_one = figures["contenders"]["broken"]
        assert broken_one == {"status": "cannot run", "reason": "RuntimeError: no such kernel"}
    assert "wrong: off by out" in capsys.readouterr().out


def test_what_time_did_not_allow_is_listed(tmp_path: Path) -> None:
    status, record = benchmark(tmp_path, "--seconds", "1e-9", "--peers", "eager")
    assert status == 0 and record["kernels"] == record["mixes"] == []
    assert len(record["unfinished"]) == 6 and record["unfinished"][0].startswith("kernels: 3x~6")
    late = runs.Run(
        device=CPU, contenders=peers(), rates=None, seed=1, ends=0.0, steps=1, layers=1
    )
    contenders = runs.kernels_of(late, cell())["contenders"]
    assert {one["reason"] for one in contenders.values()} == {"out of time"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--peers", "nobody"], "--peers: expected parts of lmsl triton, lmsl sdpa"),
        (["--warm-up", "3/3"], "--warm-up: expected K/N with K from 0 to N - 1, got '3/3'"),
        (["--steps", "0"], "--steps: expected at least 1, got 0"),
        (["--seconds", "nan"], "--seconds: expected more than 0, got nan"),
        (["--device", "mps"], "--device: expected cpu or cuda, got 'mps'"),
        (["--plots"], "pip install 'lmsl[plots]'"),
    ],
)
def test_bad_input_of_the_benchmark_is_one_line(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plots.importlib.util, "find_spec", lambda name: None)
    assert benchmark(tmp_path, *arguments) == (2, {})
    error = capsys.readouterr().err
    assert error.startswith("error: ") and expected in error and error.count("\n") == 1


def test_plots_are_drawn_from_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the optional extra `plots` is not installed")
    assert benchmark(tmp_path, "--peers", "lmsl", "eager", "--plots")[0] == 0
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names == {f"record_{table}.png" for table in ("kernels", "streams", "mixes")}
    assert (tmp_path / "record_kernels.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "record_mixes.png").unlink()
    assert plots.main([str(tmp_path / "record.json")]) == 0
    assert (tmp_path / "record_mixes.png").exists()
    (tmp_path / "other.json").write_text("[]")
    for name in ("other.json", "missing.json"):
        assert plots.main([str(tmp_path / name)]) == 2
        assert "expected a record of benchmarks.attention" in capsys.readouterr().err


def test_no_gpu_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "no CUDA device here: nothing was checked\n"
    for arguments, expected in (
        (["--parts", "a,z"], "--parts: expected letters of a,b,c,d,e,f,g,h,i,j,k,l, got 'a,z'"),
        (["--parts", ""], "--parts: expected letters"),
        (["--minutes", "nan"], "--minutes: expected from 0.5 to 120, got nan"),
        ([], "--device cpu: expected --toy beside it"),
    ):
        assert gpu_check.main(["--device", "cpu", "--out", str(tmp_path), *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and expected in error and error.count("\n") == 1
    assert attention_benchmark.main(["--device", "cuda"]) == 2
    assert "expected a CUDA device, found none" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@interpreted
@pytest.mark.parametrize("letter", ["a", "b", "d", "e", "f"])
def test_proofs_pass_in_the_interpreter(letter: str, tmp_path: Path) -> None:
    path = tmp_path / "part.json"
    record = run_part(PARTS[letter], scope(record=path))
    assert record["status"] == "passed", record
    assert record["answer"]["faults"] == []
    counted = {"a": "cases", "b": "calls", "d": "calls", "e": "replays", "f": "ours"}[letter]
    assert record["answer"][counted]
    assert json.loads(path.read_text())["status"] == "unfinished"


@pytest.mark.slow
@interpreted
def test_models_pass_in_the_interpreter() -> None:
    assert run_part(PARTS["h"], scope())["status"] == "passed"


@interpreted
def test_proofs_find_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault is one that the part is there to find; sdpa stands in where kernels would do."""
    calls = 0

    def sdpa(*leaves: Tensor, impl: str, **arguments: Any) -> Tensor:
        return attention(*leaves, impl="sdpa", **arguments)

    def drifting(*leaves: Tensor, **arguments: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return sdpa(*leaves, **arguments) * (1 + 1e-6 * (calls % 2))

    def last_is_off(*leaves: Tensor, **arguments: Any) -> Tensor:
        out = sdpa(*leaves, **arguments)
        weights = torch.ones(out.shape[:1] + (1,) * (out.dim() - 1))
        weights[-1] = 1.001
        return out * weights

    first: list[Any] = []

    def frozen(*leaves: Tensor, plan: Any, **arguments: Any) -> Tensor:
        """The lengths of the capture, whatever the buffers hold."""
        first.append(replace(plan, cu_seqlens=plan.cu_seqlens.clone()))
        return sdpa(*leaves, plan=first[0], **arguments)

    monkeypatch.setattr(numerics, "attention", drifting)
    assert "repeat 1 differs in out" in numerics.determinism(scope())["faults"][0]
    monkeypatch.setattr(numerics, "attention", last_is_off)
    found = numerics.huge(scope())["faults"]
    assert len(found) >= 4 and "out of equal sentences differs" in found[0]
    monkeypatch.setattr(device, "attention", frozen)
    assert any("is off by" in one for one in device.graphs(scope())["faults"])
    monkeypatch.undo()
    monkeypatch.setitem(device.MOST_LAUNCHES, "sentences", (1, 0))
    assert "(1, 1) launches" in device.launches(scope())["faults"][0]


def test_small_operations_that_are_off_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off by more than rounding, and other bits when computed again."""
    honest = run_part(PARTS["l"], scope())
    assert honest["status"] == "passed" and honest["answer"]["cases"] == 14
    calls = []

    def drifting(gate_up: Tensor) -> Tensor:
        calls.append(1)
        return triton_ops().swiglu_forward(gate_up) * (1 + 0.1 * len(calls))

    off = replace(triton_ops(), swiglu_forward=drifting)
    monkeypatch.setattr(small_operations, "triton_ops", lambda: off)
    found = run_part(PARTS["l"], scope())["answer"]["faults"]
    # Three dtypes, each off and each time another way.
    assert len(found) == 6 and all("SwiGLU" in one for one in found)
    assert "other bits when computed again" in found[1]


def test_a_part_may_fail_in_any_way() -> None:
    def raising(error: Exception) -> Part:
        def run(scope: Scope) -> dict[str, Any]:
            raise error

        return Part(name="x", run=run, seconds=1)

    skipped = run_part(raising(Skipped("no such tool")), scope())
    assert (skipped["status"], skipped["reason"]) == ("skipped", "no such tool")
    failed = run_part(raising(KeyError("k")), scope())
    assert failed["status"] == "failed" and "KeyError" in failed["answer"]["trace"]
    wrong = run_part(Part(name="x", run=lambda scope: {"faults": ["off"]}, seconds=1), scope())
    assert (wrong["status"], wrong["reason"]) == ("failed", "1 faults, the first: off")
    for letter in "cgtw":
        assert run_part(PARTS[letter], scope())["status"] == "skipped"


def test_numerics_stops_in_time_and_says_so() -> None:
    answer = numerics.numerics(scope(ends=0.0))
    assert answer["cases"] == 0 and answer["not_reached"] == 2
    everything = numerics.numeric_cases(scope(toy=False))
    shares = [everything[n::8] for n in range(8)]
    assert sum(map(len, shares)) == len(everything) > 100
    assert {case.dtype for case in everything} == {torch.bfloat16, torch.float16, torch.float32}


def test_shares_are_joined() -> None:
    def share(status: str, **answer: Any) -> dict[str, Any]:
        return {"status": status, "reason": None, "answer": answer, "seconds": len(answer)}

    whole = gpu_check.join(
        [
            share("passed", faults=[], cases=3, not_reached=0, worst=[0.5, "x"]),
            share("passed", faults=[], cases=2, not_reached=0, worst=None),
            share("passed", faults=[], cases=1, not_reached=0, worst=[0.7, "y"]),
        ]
    )
    assert whole["status"] == "passed" and whole["seconds"] == 4
    assert whole["answer"] == {"faults": [], "cases": 6, "not_reached": 0, "worst": [0.7, "y"]}
    late = gpu_check.join([share("passed", cases=1, not_reached=2), share("passed", cases=1)])
    assert (late["status"], late["reason"]) == ("partial", "2 cases not reached")
    assert gpu_check.join([share("passed"), share("failed")])["status"] == "failed"
    assert gpu_check.join([share("skipped"), share("passed")])["status"] == "partial"
    assert gpu_check.join([share("skipped"), share("skipped")])["status"] == "skipped"
    assert merge([{"faults": ["a"]}, {"faults": ["b"], "cases": 1}]) == {
        "faults": ["a", "b"],
        "cases": 1,
    }
    shown = gpu_check.line("a", whole | {"name": "numerics"})
    assert shown.startswith("a  numerics") and shown.endswith(
        "6 cases; worst 0.70 of what is allowed"
    )


def test_what_dies_is_recorded_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Children that pass, crash, hang after noting some answers, and are missing a tool."""
    outcomes: dict[str, tuple[dict[str, Any] | None, int | None]] = {
        "a": ({"status": "passed", "reason": None, "answer": {"cases": 2}}, 0),
        "b": (None, -11),
        "d": ({"status": "unfinished", "answer": {"calls": 1}}, None),
        "c": ({"status": "skipped", "reason": "no tool", "answer": {}}, 3),
    }

    def child(command: list[str], **others: Any) -> Finished:
        letter = command[command.index("benchmarks.gpu_check.part") + 1]
        record, status = outcomes[letter]
        if record is not None:
            Path(command[command.index("--record") + 1]).write_text(json.dumps(record))
        return Finished(status=status, output="Segmentation fault\n")

    monkeypatch.setattr(gpu_check, "run_program", child)
    arguments = ["--device", "cpu", "--toy", "--parts", "a,b,c,d", "--out", str(tmp_path)]
    assert gpu_check.main(arguments) == 1
    record = json.loads((tmp_path / "gpu_check_cpu_quick.json").read_text())
    parts = record["parts"]
    assert record["toy"] is True
    statuses = {letter: part["status"] for letter, part in parts.items()}
    assert statuses == {"a": "passed", "b": "failed", "c": "skipped", "d": "failed"}
    assert "ended with -11" in parts["b"]["reason"] and "Segmentation" in parts["b"]["reason"]
    assert "was stopped" in parts["d"]["reason"] and parts["d"]["answer"] == {"calls": 1}
    printed = capsys.readouterr().out
    assert "c  memcheck" in printed and "no tool" in printed and "2 cases" in printed
    outcomes["b"] = outcomes["d"] = outcomes["a"]
    assert gpu_check.main(arguments) == 0


def test_a_part_runs_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that may lack what GPU machines without a network lack."""
    for name in ("tyro", "bitsandbytes", "seqeval", "matplotlib"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    out = tmp_path / "out"
    assert gpu_check.main(["--device", "cpu", "--toy", "--parts", "c", "--out", str(out)]) == 0
    record = json.loads((out / "gpu_check_cpu_quick.json").read_text())
    assert record["parts"]["c"]["reason"] == "it needs a CUDA device, got cpu"
    assert record["machine"]["versions"]["torch"] == torch.__version__


def test_programs_are_stopped_with_what_they_started(tmp_path: Path) -> None:
    # Whoever lives holds the pipe open: it ends with the last of them.
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    pipe = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    script = f"exec 3> {alive}; echo begun >&3; echo begun; sleep 600 & wait"
    finished = run_program(["sh", "-c", script], seconds=1.0)
    assert finished == Finished(status=None, output="begun\n")
    assert os.read(pipe, 10) == b"begun\n"
    ended, _, _ = select.select([pipe], [], [], 60)
    assert ended == [pipe] and os.read(pipe, 10) == b""
    os.close(pipe)
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
    assert read_memcheck(Finished(status=0, output=clean)) == {"faults": [], "errors": 0}
    bad = read_memcheck(
        Finished(status=9, output="Invalid __global__ read\nERROR SUMMARY: 3 errors")
    )
    assert bad["errors"] == 3 and "Invalid __global__ read" in bad["faults"][0]
    assert read_memcheck(Finished(status=1, output=clean))["faults"]
    for status, said in ((None, ""), (1, "Error: Device not supported"), (1, "cannot start")):
        with pytest.raises(Skipped, match="compute-sanitizer"):
            read_memcheck(Finished(status=status, output=said))


def test_the_benchmark_is_started_with_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def program(command: list[str], **others: Any) -> Finished:
        commands.append(command)
        return Finished(status=len(commands) - 1, output="said")

    monkeypatch.setattr(tools, "run_program", program)
    left = scope(ends=time.monotonic() + 10_000)
    answer = tools.benchmark(left, tmp_path / "r.json", "abc")
    assert answer["faults"] == [] and answer["record"] == "r.json"
    started = commands[0]
    assert 9_000 <= float(started[started.index("--seconds") + 1]) <= 9_975
    assert started[started.index("--commit") + 1] == "abc" and "--quick" in started
    # The benchmark says by its status that ours computed something wrong.
    assert "status 1" in tools.benchmark(left, tmp_path / "r.json", None)["faults"][0]
    with pytest.raises(SystemExit):
        attention_benchmark.parse(["--no-such-flag"])
    assert attention_benchmark.parse(started[3:]).commit == "abc"
