"""The attention benchmark, as far as a machine without a GPU goes."""

import json
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
from benchmarks.shared import plots

CPU = torch.device("cpu")
SMALL = {"heads": 4, "kv_heads": 2, "head_dim": 16, "dtype": "float32"}
TALL = {"sentences": 16, "is_causal": False, "equal": True}


def cell(**changes: Any) -> Cell:
    return Cell(**{"sentences": 5, "mean_length": 6, "is_causal": False, **SMALL, **changes})


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
    status, record = benchmark(tmp_path)
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
        (["--steps", "0"], "--steps: expected at least 1, got 0"),
        (["--seconds", "nan"], "--seconds: expected more than 0, got nan"),
        (["--device", "mps"], "--device: expected cpu or cuda, got 'mps'"),
        (["--plots"], "pip install -e '.[plots]'"),
    ],
)
def test_bad_input_of_the_benchmark_is_one_line(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    refused: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plots.importlib.util, "find_spec", lambda name: None)
    given = ["--device", "cpu", "--quick", "--output", str(tmp_path / "x.json"), *arguments]
    refused(attention_benchmark.main, given, expected)


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
