"""The benchmark of prediction compares equal models, refuses unequal ones, and leaves a record."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.predict import peers as predict_peers
from benchmarks.predict.__main__ import main
from benchmarks.predict.contenders import AS_THEY_COME, BASELINE, LOOP, OURS, Workshop
from benchmarks.predict.gate import TOLERANCE, Agreement, agreement
from benchmarks.predict.run import loaded, material, trained_run
from benchmarks.shared.labelled import CPU_PLACE
from benchmarks.shared.lengths import known_lengths, length_task
from benchmarks.shared.model_folder import as_words, text_ids, write_model, write_tokenizer
from benchmarks.shared.shapes import base_of
from benchmarks.shared.timing import CannotRun
from lmsl.data.tags.sentence import Sentence
from lmsl.packs.alignment import Aligner
from lmsl.packs.examples import build_examples
from lmsl.tagger import labeler as labeler_module
from lmsl.tagger.captured import StaticForward
from lmsl.tagger.graphs import Reruns
from lmsl.tagger.inference import EagerForward

GRAPHS = "ours, predict_tags, CUDA graphs"
SHORT = [
    *("--sentences", "16", "--updates", "4", "--threads", "1"),
    *("--rounds", "1", "--sweep-rounds", "1", "--batch-sizes", "2", "5"),
    *("--budgets", "64", "4096"),
]
TOY = ["--data", "lengths:conll2003", "--model"]
SYNTHETIC = [*SHORT, "--data", "synthetic"]


@pytest.mark.parametrize("model", ["shape:toy", pytest.param("tiny", marks=pytest.mark.slow)])
def test_predict_measures_and_leaves_a_record(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On random words of known lengths, as it is measured on a GPU, with next to nothing."""
    output = tmp_path / "predict.json"
    assert main([*SHORT, *TOY, model, "--output", str(output)]) == 0
    record = json.loads(output.read_text())
    gate = record["gate"]
    assert gate["holds"] and gate["same_tokens"] and gate["labels"] == 0
    # Exactly equal would mean that a model was compared with itself.
    assert 0 < gate["log_probability"] < 1e-3 and gate["words"] > 100
    assert record["did_not_start"] == {GRAPHS: "the device is no GPU"}
    names = [name for name in (*OURS, BASELINE, LOOP, AS_THEY_COME) if name != GRAPHS]
    assert gate["peer_log_probability"] == 0 and 0 < gate["clear"] <= gate["words"]
    # The weights are the same, dequantised in another moment.
    (variant,) = record["gates_of_variants"]
    assert variant["name"] == "ours, predict_tags, not resident" and variant["holds"]
    assert variant["log_probability"] == gate["log_probability"]
    for rates in record["budgets"].values():
        assert list(rates) == ["64", "4096"] and min(rates.values()) > 0
    assert list(record["contenders"]) == names
    for figures in record["contenders"].values():
        assert figures["sentences_per_second"] > 0 and figures["peak_bytes"] is None
    assert record["contenders"][BASELINE]["ratio"] == 1.0
    assert {tuple(rates) for rates in record["swept"].values()} == {("2", "5")}
    for name, size in record["batch_size"].items():
        rates = record["swept"][name]
        assert rates[str(size)] == max(rates.values())
    assert record["data"] == {"name": "lengths:conll2003", "sentences": 16}
    assert record["machine"]["threads"] == 1
    printed = capsys.readouterr().out
    assert all(name in printed for name in names) and ": ok" in printed


def test_no_speed_for_another_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are not carried over must be noticed, or the gate proves nothing."""
    monkeypatch.setattr(predict_peers, "_merged", lambda decoder: iter(()))
    output = tmp_path / "predict.json"
    assert main([*SYNTHETIC, "--output", str(output)]) == 1
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
        (["--budgets", "512", "0"], "--budgets: expected sizes from 1"),
        (["--model", "shape:toy", "--data", "synthetic"], "expected --data lengths:NAME"),
        (["--data", "lengths:nowhere"], "expected one of conll2003, conll2000"),
        (
            [*SYNTHETIC, "--contenders", "theirs"],
            "expected some of ours, predict; ours, predict_tags",
        ),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], expected: str, tmp_path: Path, refused: Any
) -> None:
    refused(main, [*arguments, "--output", str(tmp_path / "x.json")], expected)


def test_words_of_random_ids_are_their_sub_words(tmp_path: Path) -> None:
    """The sub-words that come of the words are the ids that they were made of, for all tokenizers
    that are asked: lmsl's, transformers' on words, and on a text."""
    known = known_lengths()["conll2000"]
    write_tokenizer(64, tmp_path)
    task = length_task(known, sentences=60, vocabulary=text_ids(64), seed=4)
    sentences = as_words(task)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert max(tokenizer.get_vocab().values()) == 63 and text_ids(32_000) == 20_000
    together = tokenizer(sentences, is_split_into_words=True)["input_ids"]
    found = build_examples(
        [Sentence(words=tuple(words), tags=None) for words in sentences],
        Aligner(tokenizer),
        max_length=256,
        overflow="error",
    ).examples
    for (made,), own, words, ids in zip(task.examples, found, sentences, together, strict=True):
        expected = made.ids.tolist()
        assert own.ids.tolist() == ids == tokenizer(" ".join(words))["input_ids"] == expected
        assert own.starts.tolist() == made.starts.tolist()
        assert own.ends.tolist() == made.ends.tolist()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[list[str]]]]:
    """A run, and sentences."""
    with ExitStack() as running:
        data = {"data": "lengths:conll2003", "sentences": 16, "seed": 1}
        given = material("shape:toy", place=CPU_PLACE, running=running, **data)
        folder = tmp_path_factory.mktemp("run")
        yield (
            trained_run(given, folder, updates=4, seed=1, place=CPU_PLACE),
            given.sentences[:16],
        )


def test_replayed_predictions_pass_the_gate(
    trained: tuple[Path, list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU the forward is run over the same memory once more; see lmsl.tagger.graphs."""
    run, sentences = trained
    with pytest.raises(CannotRun, match="CUDA graphs: off, the device is cpu"):
        loaded(run, CPU_PLACE, resident=True, cuda_graphs="on")

    def rerun(tagger: Any, device: Any, autocast: Any, say: Any, **others: Any) -> Any:
        return StaticForward(EagerForward(tagger, device, autocast), Reruns(), say)

    workshop = Workshop(run=run, sentences=sentences, place=CPU_PLACE)
    assert workshop.gate().holds
    (peer,) = workshop._peers
    monkeypatch.setattr(labeler_module, "choose_forward", rerun)
    labeler, _ = workshop._loaded(OURS[GRAPHS])
    assert isinstance(labeler._compute, StaticForward)
    assert agreement(GRAPHS, labeler, peer.pipe, peer.known).holds
    eager, _ = workshop._loaded(OURS["ours, predict_tags"])
    expected = eager.predict_tags(workshop.sentences)
    assert workshop.by_budget(GRAPHS, 128)() == expected == workshop.by_batch(LOOP, 4)()


def test_a_peer_in_bfloat16_is_off_and_that_is_known(
    trained: tuple[Path, list[list[str]]],
) -> None:
    """The arithmetic of the gate on a GPU, as far as a CPU has it: ours stays in float32."""
    run, known = trained
    # One that no window of ours holds whole is not compared.
    sentences = [["\u4e01"] * 300, *known]
    place = replace(CPU_PLACE, dtype=torch.bfloat16)
    workshop = Workshop(run=run, sentences=sentences, place=place)
    gate = workshop.gate()
    (peer,) = workshop._peers
    assert peer.pipe.model.dtype == torch.bfloat16
    tags: Any = workshop.by_batch(AS_THEY_COME, 8)()
    assert list(map(len, tags)) == list(map(len, sentences))
    assert 1e-4 < gate.peer_log_probability < 0.2 and gate.log_probability < 1e-4
    assert gate.sentences == 16
    assert gate.holds and gate.clear > 20 and gate.labels == 0


def test_a_model_is_written_for_older_versions_of_transformers_too(tmp_path: Path) -> None:
    """Unsloth's are older: their configurations have no rope_parameters."""
    base = base_of("shape:toy", torch.device("cpu"), torch.bfloat16)
    base.decoder.config.rope_parameters["rope_theta"] = 5e5
    write_model(base, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["rope_theta"] == 5e5 and config["tie_word_embeddings"] is True
    model, found = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(found.values()) and model.config.rope_parameters["rope_theta"] == 5e5
    weights, written = base.decoder.state_dict(), model.model.state_dict()
    assert all(torch.equal(weights[name], written[name]) for name in weights)


def test_in_bfloat16_ours_may_be_off_by_twice_the_peer() -> None:
    """Two roundings of one model pass, a model that is another one does not."""
    found = replace(EQUAL, log_probability=0.05, peer_log_probability=0.03)
    assert found.holds and found.allowed == pytest.approx(0.06 + TOLERANCE)
    assert not replace(found, log_probability=0.07).holds


EQUAL = Agreement(
    name="ours",
    sentences=1,
    words=2,
    same_tokens=True,
    log_probability=1e-6,
    peer_log_probability=0.0,
    clear=2,
    labels=0,
)


@pytest.mark.parametrize(
    "change",
    [{"same_tokens": False}, {"labels": 1}, {"log_probability": float("nan")}, {"clear": 0}],
    ids=["tokens", "labels", "nan", "nothing clear"],
)
def test_agreement_has_to_be_complete(change: dict[str, float]) -> None:
    assert EQUAL.holds and "ok" in EQUAL.line()
    changed = replace(EQUAL, **change)
    assert not changed.holds and "FAILED" in changed.line()
