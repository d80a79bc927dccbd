"""``lmsl train --task generate``, from the command line to the run in use."""

import contextlib
import io
import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import lmsl
from lmsl.cli import main
from lmsl.console import Bar
from lmsl.data.tags.schemes import spans_to_tags
from lmsl.data.tags.sentence import Span
from lmsl.data.write import write_columns
from lmsl.generation.respondent import Respondent
from lmsl.run_directory.info import read_info
from tests.generation.generation_tools import sentence
from tests.small_runs import (
    FILES,
    evaluated,
    logged,
    metrics_of,
    refused,
    rows,
    same_files,
    signed,
    updates_of,
)

SENTENCES = {
    "train": [
        sentence("Ada met Bob", (0, 1, "PER"), (2, 3, "PER")),
        sentence("Rome is old", (0, 1, "LOC")),
        sentence("it rains"),
        sentence("New York , Rome", (0, 2, "LOC"), (3, 4, "LOC")),
    ],
    "dev": [sentence("Bob saw Rome", (0, 1, "PER"), (2, 3, "LOC")), sentence("it is")],
    "test": [sentence("Ada in New York", (0, 1, "PER"), (2, 4, "LOC"))],
}
OURS = FILES - {"head.safetensors", "influence.json"} | {"answers.dev.jsonl", "answers.test.jsonl"}
SHORT = ("--max-steps", "4", "--epochs", "2", "--batch-size", "2", "--device", "cpu")
LINE = ["train", "--task", "generate", *SHORT]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for split, sentences in SENTENCES.items():
        write_columns(folder / f"{split}.conll", sentences, [one.tags or () for one in sentences])
    return folder


@pytest.fixture(scope="module", autouse=True)
def few_words() -> Iterator[None]:
    """A model that has not learnt to stop goes on to the most that it may write."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("lmsl.generation.examples.MOST_NEW", 4)
        yield


def train(data: Path, output: Path, *flags: str) -> Path:
    torch.set_num_threads(1)
    assert main([*LINE, "--data", str(data), "--output", str(output), *flags]) == 0
    return output


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(data, tmp_path_factory.mktemp("runs") / "run")


def answers_of(run: Path, split: str) -> list[str | None]:
    lines = (run / f"answers.{split}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["answer"] for line in lines]


def test_the_folder_is_that_of_a_run_with_its_answers(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == OURS
    info = read_info(run)
    assert info.task == "generate" and info.unmask == "causal" and info.overflow == "truncate"
    assert info.generation is not None and info.generation.names == ("location", "person")
    assert info.generation.before.endswith("Types: location ; person\nSentence:")
    losses = [update["loss"][0] for update in updates_of(run)]
    assert len(losses) == 4 and losses[-1] < losses[0], "it learns"
    dev = [line["dev"] for line in logged(run) if "dev" in line]
    assert len(dev) == 2 and dev[0]["generation"]["answers"] == 2


def test_scores_are_those_of_labelers_and_answers_are_counted(run: Path) -> None:
    found = metrics_of(run)
    for split in ("dev", "test"):
        one, counts = found[split], found[split]["generation"]
        gold = sum(
            len(each.tags or ()) - list(each.tags or ()).count("O") for each in SENTENCES[split]
        )
        assert one["gold"] <= gold and {"f1", "per_type", "lost_to_truncation"} <= set(one)
        assert counts["answers"] == len(SENTENCES[split]) == len(answers_of(run, split))
        assert counts["unparsable"] <= counts["answers"]
    words = [[row[0] for row in block] for block in rows(run / "predictions.dev.conll")]
    assert words == [list(each.words) for each in SENTENCES["dev"]]


def test_loaded_anew_it_answers_and_scores_the_same(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = evaluated(run, data / "dev.conll", capsys)
    assert again == metrics_of(run)["dev"]
    generator = lmsl.Generator.load(run, device="cpu")
    answered = generator.tag(SENTENCES["dev"])
    assert answered.answers == answers_of(run, "dev")


def test_it_predicts_as_a_labeler_does(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(Respondent, "_text", lambda self, written: "new york = location")
    generator = lmsl.Generator.load(run, device="cpu")
    ((entity,),) = generator.predict(["Off to New  York!"])
    assert (entity.text, entity.label, entity.score) == ("New  York", "LOC", None)
    assert (entity.start, entity.end) == (7, 16)
    assert generator.predict([]) == [] and generator.predict([""]) == [[]]
    assert generator.predict_tags([["New", "York"], []]) == [["B-LOC", "I-LOC"], []]
    text = tmp_path / "text.txt"
    text.write_text("In New York .\n\nNo .\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["predict", str(run), str(text), "--device", "cpu"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    (span,) = first["spans"]
    assert span == {"start": 3, "end": 11, "label": "LOC", "score": None, "text": "New York"}
    columns = tmp_path / "text.conll"
    columns.write_text("In\tO\nNew\tO\nYork\tO\n", encoding="utf-8")
    assert main(["predict", str(run), str(columns), "--device", "cpu"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.strip().splitlines()]
    assert lines[1:] == [["New", "3", "6", "_", "B-LOC"], ["York", "7", "11", "_", "I-LOC"]]


def test_a_file_with_other_types_is_scored_and_they_are_missed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Respondent, "_text", lambda self, written: "Ada = person ; x = ship")
    file = tmp_path / "other.conll"
    file.write_text("Ada\tB-PER\nx\tB-SHIP\n", encoding="utf-8")
    found = evaluated(run, file, capsys)
    assert (found["gold"], found["predicted"], found["correct"]) == (2, 1, 1)
    assert found["generation"]["unknown_type"] == 1


def test_gold_that_is_cut_off_is_missed(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["a"] * 400 + ["Ada"]
    tags = spans_to_tags([Span(start=400, end=401, type="PER")], 401)
    file = tmp_path / "long.conll"
    file.write_text("".join(f"{w}\t{t}\n" for w, t in zip(words, tags, strict=True)), "utf-8")
    monkeypatch.setattr("lmsl.generation.examples.Prompter._most_new", lambda *sizes: 2)
    found = evaluated(run, file, capsys)
    assert (found["gold"], found["lost_to_truncation"]) == (1, 1)


def test_interrupted_and_resumed_it_is_the_same_run(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, advance = tmp_path / "run", Bar.advance

    def asked(self: Bar, done: int, *told: Any) -> None:
        advance(self, done, *told)
        if done == 3:
            signal.raise_signal(signal.SIGINT)

    line = [*LINE, "--data", str(data), "--output", str(output)]
    with monkeypatch.context() as patched:
        patched.setattr(Bar, "advance", asked)
        assert main(line) == 130
    assert main([*line, "--resume"]) == 0
    same_files(run, output, *sorted(OURS - {"metrics.json"}))


def test_the_recipe_of_the_paper_draws_its_answers(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--recipe", "acl2024-generate", "--model", "tiny")
    one = train(data, tmp_path / "one", *flags)
    said = capsys.readouterr().err
    assert "no chat template (--prompt acl2024)" in said
    info = read_info(one)
    assert info.generation is not None
    assert (info.generation.decoding, info.generation.temperature) == ("sample", 0.6)
    assert info.generation.before.startswith("### Instruction: \nplease extract named entities")
    assert info.lora is not None and (info.lora.rank, info.lora.alpha) == (64, 16.0)
    assert evaluated(one, data / "dev.conll", capsys) == metrics_of(one)["dev"], "drawn alike"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--unmask", "0011"], "a KV cache cannot serve layers that see to the right"),
        (["--repeat", "1"], "--repeat 1: --task generate: a sentence is read once"),
        (["--label-at", "first"], "--label-at 'first': --task generate: no words are read"),
        (["--context", "5"], "a prompt holds one sentence"),
        (["--decode", "argmax"], "it has no tags to decode"),
        (["--head-dropout", "0.5"], "it has no classifier"),
        (["--cuda-graphs", "on"], "its steps are not captured"),
        (["--temperature", "0.5"], "--temperature 0.5: for --decoding sample alone; leave it out"),
        (
            ["--decoding", "sample", "--top-p", "0"],
            "--top-p: expected more than 0 and at most 1, got",
        ),
        (["--scheme", "plain"], "expected spans, which answers list"),
    ],
)
def test_what_the_task_has_no_use_for_is_refused(
    flags: list[str],
    expected: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "run"
    refused(capsys, [*LINE, "--data", str(data), "--output", str(output), *flags], expected)
    assert not output.exists()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["train", "--unmask", "0011", "--decoding", "sample"], "for --task generate alone"),
        (["train", "--unmask", "0011", "--prompt", "acl2024"], "for --task generate alone"),
        (
            ["sweep", "--task", "generate"],
            "its runs are trained one after another; use lmsl train",
        ),
    ],
)
def test_labelers_take_none_of_its_settings(
    line: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, line, expected)


def test_zeros_are_causal_and_several_seeds_are_several_runs(data: Path, tmp_path: Path) -> None:
    once = ("--max-steps", "1", "--epochs", "1")
    output = train(data, tmp_path / "runs", "--unmask", "0000", "--seed", "1", "2", *once)
    for seed in (1, 2):
        assert read_info(output / "0000" / f"seed{seed}").seed == seed


def test_each_kind_of_run_is_loaded_by_its_own_name(
    run: Path, labeled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(lmsl.InputError, match=r"use lmsl\.Generator\.load"):
        lmsl.Labeler.load(run)
    with pytest.raises(lmsl.InputError, match=r"use lmsl\.Labeler\.load"):
        lmsl.Generator.load(labeled)
    words = str(tmp_path / "words.conll")
    Path(words).write_text("Ada\tB-PER\n", encoding="utf-8")
    for flags in (["--cuda-graphs", "on"], ["--right-context"], ["--perplexity", words]):
        refused(capsys, ["evaluate", str(run), words, *flags], "expected a run that labels words")
    assert main(["probe", str(run), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.count("causal") == 1 + 8
    refused(capsys, ["probe", str(run), "--save"], "writes answers and sees nothing to the right")


@pytest.fixture(scope="module")
def labeled(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("labeled") / "run"
    line = ["train", "--unmask", "0000", "--data", str(data), "--output", str(output), *SHORT]
    assert main(line) == 0
    return output


def test_a_run_that_says_nothing_of_its_task_labels(labeled: Path, tmp_path: Path) -> None:
    old = shutil.copytree(labeled, tmp_path / "old")
    document = json.loads((old / "lmsl.json").read_text("utf-8"))
    assert document.pop("task") == "label" and "generation" not in document
    (old / "lmsl.json").write_text(json.dumps(document), encoding="utf-8")
    assert read_info(signed(old)).task == "label"
    document["task"] = "generate"
    (old / "lmsl.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(lmsl.InputError, match="generation: expected it beside task generate"):
        read_info(signed(old))


def test_both_kinds_are_reported_side_by_side(run: Path, labeled: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "causal" / "seed1")
    shutil.copytree(labeled, tmp_path / "0000" / "seed1")
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert ">generate<" in page and ">0000<" in page


def test_the_snippet_of_the_card_asks_the_same(run: Path) -> None:
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "# tiny, writing spans, on" in card
    first, second = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    exec(first.replace("PATH OF THIS FOLDER", str(run)), {})
    names: dict[str, Any] = {}
    code = second.replace("PATH OF THIS FOLDER", str(run)).replace("=64", "=4")
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)
    generator = lmsl.Generator.load(run, device="cpu")
    asked = [generator.sentence(["Ada", "Lovelace", "met", "Babbage", "."])]
    (question,) = generator._respondent.prompter.questions(asked).examples
    assert names["asked"].input_ids[0].tolist() == question.ids.tolist()
