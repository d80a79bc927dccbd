"""The benchmark of prediction compares equal models, refuses unequal ones, and leaves a record."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers.utils import logging as transformers_logging

from benchmarks import predict_peers
from benchmarks.predict import BASELINE, LOOP, main
from benchmarks.predict_peers import Agreement

SHORT = [
    *("--data", "synthetic", "--sentences", "24", "--updates", "6", "--threads", "1"),
    *("--rounds", "1", "--sweep-rounds", "1", "--batch-sizes", "2", "5"),
]


@pytest.fixture(autouse=True)
def restored_settings() -> Iterator[None]:
    """The benchmark sets what a program of its own may set; other tests must not see it."""
    verbosity, threads = transformers_logging.get_verbosity(), torch.get_num_threads()
    yield
    transformers_logging.set_verbosity(verbosity)
    transformers_logging.enable_progress_bar()
    torch.set_num_threads(threads)


def test_predict_measures_and_leaves_a_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "predict.json"
    assert main([*SHORT, "--output", str(output)]) == 0
    record = json.loads(output.read_text())
    gate = record["gate"]
    assert gate["holds"] and gate["same_tokens"] and gate["labels"] == 0
    # Exactly equal would mean that a model was compared with itself.
    assert 0 < gate["log_probability"] < 1e-3 and gate["words"] > 100
    names = ["ours, predict", "ours, predict_tags", BASELINE, LOOP]
    assert list(record["contenders"]) == names
    assert all(one["sentences_per_second"] > 0 for one in record["contenders"].values())
    assert record["contenders"][BASELINE]["ratio"] == 1.0
    assert {tuple(rates) for rates in record["swept"].values()} == {("2", "5")}
    for name, size in record["batch_size"].items():
        rates = record["swept"][name]
        assert rates[str(size)] == max(rates.values())
    assert record["data"]["sentences"] == 24 and record["machine"]["threads"] == 1
    printed = capsys.readouterr().out
    assert all(name in printed for name in names) and ": ok" in printed


def test_no_speed_for_another_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are not carried over must be noticed, or the gate proves nothing."""
    monkeypatch.setattr(predict_peers, "_merged", lambda decoder: iter(()))
    output = tmp_path / "predict.json"
    assert main([*SHORT, "--output", str(output)]) == 1
    printed = capsys.readouterr()
    assert "FAILED" in printed.out and "sentences/s" not in printed.out
    assert "no speeds" in printed.err and not output.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--data", "nowhere.conll"], "found none at nowhere.conll"),
        (["--sweep-rounds", "0"], "--sweep-rounds: expected at least 1, got 0"),
        (["--sentences", "-1"], "--sentences: expected at least 0"),
        (["--batch-sizes", "0"], "--batch-sizes: expected sizes from 1"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--output", str(tmp_path / "x.json")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and expected in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [{"same_tokens": False}, {"labels": 1}, {"log_probability": float("nan")}],
    ids=["tokens", "labels", "nan"],
)
def test_agreement_has_to_be_complete(change: dict[str, float]) -> None:
    equal = Agreement(sentences=1, words=2, same_tokens=True, log_probability=1e-6, labels=0)
    assert equal.holds and "ok" in equal.line()
    changed = replace(equal, **change)
    assert not changed.holds and "FAILED" in changed.line()
