"""The benchmark of packed attention times only what computes the right thing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.attention import packed_sdpa
from benchmarks.attention.batch import Batch
from benchmarks.attention.packed_sdpa import (
    BASELINE,
    PADDED,
    PRODUCTS,
    WAYS,
    Settings,
    gate,
    main,
    make_pack,
    masked,
)

SHORT = ["--rounds", "1", "--calls", "1", "--warmup", "1", "--sentences", "1", "5"]


def test_measures_and_leaves_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "packed.json"
    assert main([*SHORT, "--output", str(output)]) == 0
    record = json.loads(output.read_text())
    assert [pack["sentences"] for pack in record["packs"]] == [1, 5]
    for pack in record["packs"]:
        assert pack["tokens"] >= 10 * pack["sentences"] and 1 <= pack["groups"] <= 9
        for kind in ("causal", "bidirectional"):
            assert tuple(pack[kind]) == WAYS
            assert pack[kind][BASELINE]["ratio"] == 1.0
            assert all(0 < one["best_ms"] <= one["step_ms"] for one in pack[kind].values())
    assert record["settings"]["sentences"] == [1, 5] and record["machine"]["threads"] == 1
    printed = capsys.readouterr().out
    assert "gate: ok" in printed and f"5 ({record['packs'][1]['tokens']})" in printed


def test_equal_settings_give_equal_packs_within_the_bounds() -> None:
    one, other = (make_pack(Settings(), 64) for _ in range(2))
    assert one.lengths == other.lengths and torch.equal(one.dout, other.dout)
    assert 10 == min(one.lengths) < max(one.lengths) <= 60


@pytest.mark.parametrize("mask", ["causal", "bidirectional"])
def test_a_leak_between_sentences_turns_the_gate_red(
    mask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = masked(make_pack(Settings(), 5))[mask]
    assert gate(pack) == []
    spoil(PRODUCTS, lambda out, own: out + 1e-9 * own.q.roll(1, 0), monkeypatch)
    wrong = gate(pack)
    assert wrong and all(PRODUCTS in line and "5x~" in line for line in wrong)


def test_no_times_of_wrong_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a number is off by no more than allowed, if one asks the wrong way round."""
    spoil(PADDED, lambda out, own: out * torch.nan, monkeypatch)
    assert main([*SHORT, "--output", str(tmp_path / "x.json")]) == 1
    printed = capsys.readouterr()
    assert "no times" in printed.err and "best of" not in printed.out
    assert not list(tmp_path.iterdir())


def spoil(name: str, change: Callable[[Tensor, Batch], Tensor], patch: pytest.MonkeyPatch) -> None:
    honest = packed_sdpa.contenders

    def spoilt(own: Batch) -> dict[str, packed_sdpa.Attend]:
        attend = honest(own)[name]
        return honest(own) | {name: lambda: change(attend(), own)}

    patch.setattr(packed_sdpa, "contenders", spoilt)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--rounds", "0"], "--rounds: expected at least 1, got 0"),
        (["--sentences", "3", "0"], "--sentences: expected one or more from 1, got 3 0"),
        (["--kv-heads", "4"], "--kv-heads: expected a divisor of --heads 6, got 4"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], expected: str, tmp_path: Path, refused: Any
) -> None:
    refused(main, [*arguments, "--output", str(tmp_path / "x.json")], expected)
