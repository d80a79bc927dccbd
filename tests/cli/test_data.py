"""``lmsl data`` and ``lmsl probe``, as somebody new to them would call them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lmsl.cli import main
from lmsl.data.formats.options import ReadOptions
from lmsl.data.read import read_with
from lmsl.data.splits import load_splits
from tests.small_runs import refused, written

CLEAN = "Ada\tB-PER\nsat\tO\n\nRome\tB-LOC\nfell\tO\n\n"
TRICKY = (
    "# a comment\r\n-DOCSTART- -X- O\r\n\r\n"
    "Ada\tI-PER\r\nLovelace\tI-PER\r\nsat\tI-LOC\r\n\t\r\n"
    "zero\u200bwidth\tO\r\n🙂\tB-X\r\n"
)
SPANS = [
    {"text": "New York City", "spans": [{"start": 0, "end": 8, "label": "LOC"}]},
    {
        "text": "New York City",
        "spans": [
            {"start": 0, "end": 13, "label": "LOC"},
            {"start": 4, "end": 8, "label": "ORG"},
            {"start": 1, "end": 3, "label": "CUT"},
        ],
    },
]


def spans_of(folder: Path) -> Path:
    """A file of ``SPANS``."""
    (folder / "train.jsonl").write_text("\n".join(json.dumps(item) for item in SPANS))
    return folder / "train.jsonl"


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command: its status, standard output and standard error."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, captured.out, captured.err

    return run


class TestCheck:
    def test_a_clean_file(self, tmp_path: Path, call: Call) -> None:
        file = written(tmp_path, train=CLEAN) / "train.conll"
        status, out, err = call("data", "check", file)
        assert status == 0 and err == ""
        assert "2 sentences, 4 words, 2 entities" in out and "0 tags repaired" in out
        assert "LOC 1 (50.0%)" in out

    def test_the_path_is_said_once_and_one_is_no_plural(self, tmp_path: Path, call: Call) -> None:
        file = str(written(tmp_path, one="Ada\tB-PER\n\n") / "one.conll")
        _, out, _ = call("data", "check", file)
        assert out.count(file) == 1 and out.splitlines()[0] == file
        assert "1 sentence, 1 word, 1 entity\n" in out
        strayed = file.replace("one", "strayed")
        Path(strayed).write_text("Ada\tI-PER\n")
        _, out, _ = call("data", "check", strayed, "--scheme", "iob2")
        assert "1 tag repaired" in out and "note: 1 tag breaks the scheme and was repaired" in out

    @pytest.mark.parametrize(
        ("name", "text", "note"),
        [
            ("empty.conll", "Ada\tB-PER\n\tI-PER\n", "1 row has a tag and no word"),
            (
                "beside.jsonl",
                '{"text": "Ada", "spans": [{"start": 0, "end": 3, "label": "P", "text": "Eve"}]}',
                "1 span lies beside the text it states",
            ),
        ],
    )
    def test_what_is_in_doubt_is_said_and_changes_the_status(
        self, name: str, text: str, note: str, tmp_path: Path, call: Call
    ) -> None:
        (tmp_path / name).write_text(text)
        status, out, _ = call("data", "check", str(tmp_path / name))
        assert status == 1 and f"note: {note}" in out
        assert any(
            note in told for told in load_splits(train=tmp_path / name, dev=tmp_path / name).notes
        ), "lmsl train prints these"
        assert call("data", "check", str(tmp_path / name), "--strict-tags")[0] == 2

    def test_another_separator_is_a_flag(self, tmp_path: Path, call: Call) -> None:
        file = str(written(tmp_path, table="Ada,B-PER\nsat,O\n") / "table.conll")
        status, _, err = call("data", "check", file)
        assert status == 2 and "read it with --separator ','" in err
        status, out, _ = call("data", "check", file, "--separator", ",")
        assert status == 0 and "1 sentence, 2 words, 1 entity" in out

    def test_repairs_are_counted_and_change_the_status(self, tmp_path: Path, call: Call) -> None:
        file = str(written(tmp_path, train=TRICKY) / "train.conll")
        status, out, _ = call("data", "check", file, "--scheme", "iob2")
        assert status == 1
        assert "2 sentences, 5 words, 1 document, 3 entities" in out and "2 tags repaired" in out
        assert call("data", "describe", file, "--scheme", "iob2")[0] == 0
        strict = ("data", "check", file, "--scheme", "iob2", "--strict-tags")
        status, out, err = call(*strict)
        assert status == 2 and out == "" and "train.conll:4" in err

    def test_sentences_in_two_splits_are_counted_and_change_the_status(
        self, tmp_path: Path, call: Call
    ) -> None:
        new = "Berlin\tB-ORG\nwon\tO\n\n"
        folder = written(tmp_path, train=CLEAN, dev=CLEAN.split("\n\n")[0] + "\n\n" + new)
        status, out, _ = call("data", "check", folder)
        assert status == 1
        assert "dev: 1 sentence (50.0%) is also in train" in out
        assert "dev: labels unknown to train: ORG" in out

    def test_entities_that_tags_cannot_express(self, tmp_path: Path, call: Call) -> None:
        file = spans_of(tmp_path)
        status, out, _ = call("data", "check", file)
        assert status == 1 and "2 sentences, 6 words, 4 entities" in out
        assert "entities that tags cannot express:" in out and "CUT 1" in out and "ORG 1" in out
        status, _, err = call("data", "check", file, "--strict-tags")
        assert status == 2 and "train.jsonl:2" in err

    def test_lengths_in_sub_words(self, tmp_path: Path, call: Call) -> None:
        file = written(tmp_path, train=CLEAN) / "train.conll"
        _, out, _ = call("data", "check", file, "--tokenizer", "tiny")
        assert "sub-words a sentence: " in out and "0 words have none" in out
        status, _, err = call("data", "check", file, "--tokenizer", "./gone")
        assert status == 2 and "./gone" in err and "--tokenizer" in err

    def test_plain_tags_and_words_without_a_label(self, tmp_path: Path, call: Call) -> None:
        file = written(tmp_path, train="a\tDT\nb\t_\n\nc\tNN\n") / "train.conll"
        flags = ("--scheme", "plain", "--ignore-tag", "_")
        status, out, _ = call("data", "check", file, *flags)
        assert status == 0 and "labels: DT 1 (50.0%), NN 1 (50.0%)" in out
        assert "words without a label: 1" in out

    def test_several_files_and_none(self, tmp_path: Path, call: Call) -> None:
        folder = written(tmp_path, a=CLEAN, b="x\tO\n")
        files = [folder / "a.conll", folder / "b.conll"]
        status, out, _ = call("data", "check", *files)
        assert status == 0 and f"{files[1]}: 0 sentences (0.0%) are also in {files[0]}" in out
        (folder / "train.conll").write_text(CLEAN)
        (folder / "train.txt").write_text(CLEAN)
        status, _, err = call("data", "check", folder)
        assert status == 2 and "expected one train file" in err and "name the files" in err
        status, _, err = call("data", "check", tmp_path / "gone")
        assert status == 2 and "no such file" in err


class TestConvert:
    def test_there_and_back(self, tmp_path: Path, call: Call) -> None:
        file = written(tmp_path, train=TRICKY) / "train.conll"
        there, back = tmp_path / "there.jsonl", tmp_path / "back.conll"
        options = ("--scheme", "iob2")
        status, out, err = call("data", "convert", file, "--output", there, *options)
        assert status == 0 and out == "" and "2 tags break the scheme" in err
        line = ("data", "convert", there, "--to", "columns", "--output", back)
        assert call(*line)[0] == 0
        first, second = (
            read_with(path, ReadOptions(scheme="iob2")).sentences for path in (file, back)
        )
        assert [(s.words, s.tags) for s in first] == [(s.words, s.tags) for s in second]

    def test_what_is_lost_is_said(self, tmp_path: Path, call: Call) -> None:
        file = spans_of(tmp_path)
        line = ("data", "convert", file, "--to", "columns", "--output")
        status, _, err = call(*line, tmp_path / "out.conll")
        assert status == 0 and "2 missed entities" in err

    def test_never_overwrites_and_names_what_is_wrong(self, tmp_path: Path, call: Call) -> None:
        file = written(tmp_path, train=CLEAN) / "train.conll"
        for flags, words in (
            (("--output", file), "is there already"),
            ((), "--output FILE"),
            ((file, "--output", tmp_path / "new"), "one file"),
            (("--output", tmp_path / "no" / "folder"), "No such file"),
        ):
            status, _, err = call("data", "convert", file, *flags)
            assert status == 2 and words in err and err.count("\n") == 1
        assert file.read_text() == CLEAN and len(list(tmp_path.iterdir())) == 1


class TestProbe:
    def test_a_model_as_it_comes_and_unmasked(self, call: Call) -> None:
        status, out, _ = call("probe", "tiny")
        layers = out.splitlines()[1:]
        assert status == 0 and len(layers) == 8
        assert all(line.endswith(": causal") for line in layers)
        _, out, _ = call("probe", "tiny", "--unmask", "0011")
        title, *layers = out.splitlines()
        assert title == "tiny: unmask 0011"
        kinds = [line.split(": ")[1] for line in layers]
        assert kinds == ["causal"] * 4 + ["bidirectional"] * 4

    def test_a_run_brings_its_string(self, run: Path, call: Call) -> None:
        _, out, _ = call("probe", run, "--device", "cpu")
        assert out.splitlines()[0].endswith("unmask 0011")
        kinds = [line.split(": ")[1] for line in out.splitlines()[1:]]
        assert kinds == ["causal"] * 4 + ["bidirectional"] * 4


def test_counts_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = written(
        tmp_path / "data",
        train="Ada\tB-PER\nmet\tO\n\nAda\tB-PER\nmet\tO\n\n",
        dev="Oslo\tI-LOC\n\nsat\tO\nsat\tO\nsat\tO\n\n",
    )
    assert main(["data", "check", str(data), "--json", "--scheme", "iob2"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["clean"] is False
    train, dev = found["files"]["train"], found["files"]["dev"]
    assert train["sentences"] == 2 and train["repeated_sentences"] == 1
    assert train["types"] == {"PER": 2} and train["words"] == 4
    assert dev["repaired_tags"] == 1 and dev["longest"] == 3 and dev["scheme"] == "iob2"
    assert any("labels unknown to train: LOC" in line for line in found["between"])
    refused(capsys, ["data", "check", str(data), "--json", "--tokenizer", "tiny"], "--json")


def test_a_probe_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "tiny", "--unmask", "0011", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    sees = [False] * 4 + [True] * 4
    assert found == {"model": "tiny", "unmask": "0011", "sees_to_the_right": sees}
