"""The benchmarks run, refuse to show speeds of unequal work, and leave a complete record."""

import json
import math
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.shared.lengths import known_lengths, length_task
from benchmarks.shared.machine import machine
from benchmarks.shared.record import table, write_json
from benchmarks.shared.timing import Step, Timing, interleave, summary
from benchmarks.train_step import __main__ as train_main
from benchmarks.train_step import contenders as train_contenders
from benchmarks.train_step import gate as train_gate
from benchmarks.train_step.__main__ import main
from benchmarks.train_step.contenders import BASELINE, ELEMENTWISE, GRAPHS, OURS, SDPA
from benchmarks.train_step.gate import Agreement
from benchmarks.train_step.padded_peer import PADDED, RELEASED, build_peer
from benchmarks.train_step.peer_steps import collate, lay_flat, padding_share, peer_updates
from benchmarks.train_step.work import Work
from lmsl.config.config import Config
from lmsl.packs.examples import Example
from lmsl.training.loop import Task

SYNTHETIC = ["--data", "synthetic", "--sentences", "8", "--batch-size", "4"]
TOY = ["--model", "shape:toy", "--data", "lengths:conll2003", "--sentences", "16"]
SHORT = ["--batch-size", "4", "--rounds", "1", "--updates", "1", "--warmup", "1"]


def test_train_step_measures_and_leaves_a_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With random weights, as it is measured on a GPU, of next to nothing."""
    output = tmp_path / "folder" / "train_step.json"
    assert main([*TOY, *SHORT, "--threads", "1", "--output", str(output)]) == 0
    record = json.loads(output.read_text())
    written = {path.name for path in output.parent.iterdir()}
    # The plot is drawn where the extra `plots` is installed, and nothing is lost without it.
    assert written - {"train_step.png"} == {"train_step.json"}
    assert ("train_step.png" in written) == (find_spec("matplotlib") is not None)
    gates = ["NF4 resident", "NF4", "dense", "NF4 resident, plain block"]
    assert [gate["weights"] for gate in record["gate"]] == gates
    for gate in record["gate"]:
        assert gate["holds"] and 0 <= gate["difference"] <= 1e-4 and gate["grad_norm"] > 0.01
    # Quantisation changes the numbers: were they equal, one of the two would not be NF4.
    assert record["gate"][1]["loss"] != pytest.approx(record["gate"][2]["loss"], rel=1e-5)
    ours = [name for name in OURS if name not in (SDPA, ELEMENTWISE, GRAPHS)]
    names = [*ours, BASELINE, "peer, dense"]
    assert list(record["contenders"]) == names
    for figures in record["contenders"].values():
        speed = record["tokens"] / figures["step_ms"] * 1e3
        assert figures["tokens_per_second"] == pytest.approx(speed) and speed > 0
        assert figures["peak_bytes"] is None
    assert record["contenders"][BASELINE]["ratio"] == 1.0
    assert record["machine"]["threads"] == 1 and record["machine"]["versions"]["torch"]
    assert record["data"] == {"name": "lengths:conll2003", "sentences": 16, "classes": 9}
    assert 0 < record["padding"] < 1 and record["floor_ms"] > 0
    assert sum(record["operations"]["shares"].values()) == pytest.approx(1, abs=0.5)
    printed = capsys.readouterr().out
    assert all(name in printed for name in names) and printed.count(": ok") == 4


def test_no_speed_on_a_red_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapters that are not carried over must be noticed, or the gate proves nothing."""
    monkeypatch.setattr(train_gate, "copy_adapters", lambda tagger, peer: None)
    output = tmp_path / "train_step.json"
    assert main([*SYNTHETIC, "--output", str(output)]) == 1
    printed = capsys.readouterr()
    assert printed.out.count("FAILED") == 4 and "tokens/s" not in printed.out
    assert "no speeds" in printed.err and not output.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--data", "nowhere.conll"], "found none at nowhere.conll"),
        (["--rounds", "0"], "--rounds: expected at least 1, got 0"),
        ([*SYNTHETIC, "--unmask", "0021"], "0021"),
        (["--batch-size", "0"], "--batch-size: expected at least 1"),
        (["--micro-batch", "0"], "--micro-batch: expected at least 1"),
        (["--model", "shape:gpt-9"], "expected one of llama-2-7b"),
        (["--model", "shape:toy"], "expected --data lengths:NAME"),
        (["--data", "lengths:nowhere"], "expected one of conll2003, conll2000"),
        ([*SYNTHETIC, "--contenders", "theirs"], "expected some of ours, NF4 resident"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], expected: str, tmp_path: Path, refused: Any
) -> None:
    refused(main, [*arguments, "--output", str(tmp_path / "x.json")], expected)


def test_everybody_takes_turns_and_begins_once() -> None:
    order: list[str] = []

    def step(name: str, tokens: int = 5) -> Step:
        return lambda: order.append(name) or tokens  # type: ignore[func-returns-value]

    both = {"a": step("a"), "b": step("b")}
    timings = interleave(both, rounds=3, calls=2, warmup=1)
    assert "".join(order) == "ab" + "aabb" + "bbaa" + "aabb"
    assert timings["a"].tokens == timings["b"].tokens == [10, 10, 10]
    assert all(seconds > 0 for seconds in timings["a"].seconds)
    with pytest.raises(AssertionError, match="different tokens"):
        interleave(both | {"b": step("b", 6)}, rounds=1, warmup=0)


def test_ratios_are_taken_within_rounds() -> None:
    """A slow phase that hits both in the same round leaves the ratio alone."""
    ours = Timing(seconds=[1.0, 10.0, 1.0], tokens=[100, 100, 100])
    peer = Timing(seconds=[2.0, 20.0, 3.0], tokens=[100, 100, 100])
    figures = summary(ours, peer, calls=4)
    assert (figures["ratio"], figures["ratio_lowest"], figures["ratio_highest"]) == (2, 2, 3)
    assert figures["tokens_per_second"] == 100 and figures["step_ms"] == 250


@pytest.mark.parametrize(
    "change",
    [{"loss": math.nan}, {"peer_grad_norm": 1.001}, {"same_tokens": False}, {"loss": 2.001}],
    ids=["nan", "gradient", "tokens", "loss"],
)
def test_agreement_has_to_be_complete(change: dict[str, float]) -> None:
    equal = Agreement(
        weights="NF4",
        loss=2.0,
        peer_loss=2.0,
        grad_norm=1.0,
        peer_grad_norm=1.0,
        same_tokens=True,
        allowed=1e-4,
    )
    assert equal.holds and "ok" in equal.line()
    changed = replace(equal, **change)
    assert not changed.holds and "FAILED" in changed.line()


def example(ids: list[int], sentence: int, first_word: int, ends: list[int]) -> Example:
    return Example(
        ids=np.array(ids, dtype=np.int32),
        sentence=sentence,
        first_word=first_word,
        starts=np.array([0, *ends[:-1]], dtype=np.int32),
        ends=np.array(ends, dtype=np.int32),
    )


def test_the_peer_is_padded_and_labelled_where_ours_reads() -> None:
    labels = [[7, 8], [1, 2, 3]]
    examples = [example([11, 12, 13], 0, 0, [2, 3]), example([14], 1, 2, [1])]
    batch = collate(examples, labels, padding_id=99)
    assert batch["input_ids"].tolist() == [[11, 12, 13], [14, 99, 99]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 7, 8], [3, -100, -100]]
    flat = lay_flat(examples, labels)
    assert flat["input_ids"].tolist() == [[11, 12, 13, 14]]
    assert flat["position_ids"].tolist() == [[0, 1, 2, 0]]
    assert flat["labels"].tolist() == [[-100, 7, 8, 3]]
    task = Task(examples=[[one] for one in examples], labels=labels, names=["", ""])
    work = Work(config=Config(batch_size=2, epochs=1), task=task, classes=9)
    assert padding_share(work, 1) == pytest.approx(1 - 4 / 6)
    assert padding_share(replace(work, micro=1), 1) == 0


def test_a_machine_without_git_has_the_commit_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("LMSL_COMMIT", "abc")
    found = machine(torch.device("cpu"))
    assert found["commit"] == "abc" and found["processor"] and found["cores"] >= 1


def test_tables_line_up() -> None:
    lines = table(["", "tokens/s"], [["ours, NF4", "1,234"], ["peer", "7"]]).splitlines()
    assert lines[2] == "ours, NF4     1,234" and lines[3] == "peer              7"


def test_a_record_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a" / "record.json"
    write_json(path, {"name": "Müller", "value": 1.5})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "Müller", "value": 1.5}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"value": math.nan})
    assert json.loads(path.read_text(encoding="utf-8"))["value"] == 1.5


def test_lengths_are_those_of_the_data() -> None:
    """Sentences and words of both training parts, which are well known; and what is drawn."""
    known = known_lengths()
    assert {name: (one.count, one.words) for name, one in known.items()} == {
        "conll2003": (14_041, 203_621),
        "conll2000": (8_936, 211_727),
    }
    own = known["conll2003"]
    task = length_task(own, sentences=4000, vocabulary=50, seed=3)
    ids = [sentence[0].ids for sentence in task.examples]
    assert np.mean([len(row) for row in ids]) == pytest.approx(own.mean, rel=0.05)
    assert all(row[0] == 0 and row[1:].min() > 0 and row.max() < 50 for row in ids)
    words = sum(map(len, task.labels))
    assert words == pytest.approx(own.words * len(task) / own.count, rel=0.05)
    for (one,), labels in zip(task.examples, task.labels, strict=True):
        assert len(one.starts) == len(one.ends) == len(labels) >= 1
        assert one.starts[0] == 1 and one.ends[-1] == len(one.ids)
        assert (one.ends > one.starts).all() and (one.starts[1:] == one.ends[:-1]).all()
    again = length_task(own, sentences=4000, vocabulary=50, seed=3)
    assert all((a == b[0].ids).all() for a, b in zip(ids, again.examples, strict=True))


def test_who_cannot_run_is_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for which there is no memory, and one that a command for a GPU machine names."""
    build, calls = train_contenders.build_ours, 0

    def full(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise torch.OutOfMemoryError("no memory")
        return build(*arguments)

    monkeypatch.setattr(train_contenders, "build_ours", full)
    monkeypatch.setattr(train_main, "agreements", lambda work: [])
    output, (first, other) = tmp_path / "toy.json", list(OURS)[:3:2]
    names = ["--contenders", first, other, GRAPHS]
    assert main([*TOY, *SHORT, *names, "--output", str(output)]) == 0
    record = json.loads(output.read_text())
    # The next one finds no weights that were left half done.
    assert list(record["contenders"]) == [other, BASELINE]
    assert list(record["did_not_start"]) == [first]
    said = [line for line in capsys.readouterr().out.splitlines() if "not compared" in line]
    assert said[0] == f"not compared: {GRAPHS}: the device is no GPU"
    assert said[1].startswith(f"not compared: {first}: it does not fit") and len(said) == 2


def test_other_ways_to_the_same_update() -> None:
    """Several forwards, where padded activations of one do not fit and the words of a part are its
    weight; eager attention and recomputed activations: slower, not other numbers."""
    task = length_task(known_lengths()["conll2003"], sentences=8, vocabulary=64, seed=1)
    config = Config(
        unmask=("causal",), model="shape:toy", batch_size=8, lora_dropout=0.0, head_dropout=0.0
    )
    work = Work(config=config, task=task, classes=9)
    found = []
    for style, micro in ((PADDED, None), (PADDED, 3), (PADDED, 1), (RELEASED, None)):
        peer = build_peer(work.base(), config, classes=9, place=work.place, style=style)
        assert peer.get_base_model().base_model.is_gradient_checkpointing == style.checkpointing  # type: ignore[operator]
        assert peer.config._attn_implementation == style.attention  # type: ignore[union-attr]
        found.append(next(peer_updates(peer, replace(work, micro=micro), style=style)))
    assert found[0].grad_norm > 0.01
    for other in found[1:]:
        assert other.loss == pytest.approx(found[0].loss, rel=1e-5)
        assert other.grad_norm == pytest.approx(found[0].grad_norm, rel=1e-4)
        assert other.tokens == found[0].tokens
