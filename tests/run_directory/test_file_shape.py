"""A run remembers how its files were written, and reads others alike until told otherwise."""

import io
import json
import sys
from pathlib import Path

import pytest

import lmsl
from lmsl.cli import main
from lmsl.data.formats.options import FileShape, shape_flags
from tests.small_runs import metrics_of, train

# A number, the word, its tag, and a column that would be taken for tags by default.
TEXT = (
    "7\tAda\tB-PER\tNNP\n7\tmet\t_\tVBD\n7\tBob\tB-PER\tNNP\n\n"
    "7\tin\tO\tIN\n7\tRome\tB-LOC\tNNP\n\n"
)
FLAGS = ("--token-column", "2", "--tag-column", "3", "--ignore-tag", "_")
SHAPE = FileShape(token_column=2, tag_column=3, ignore_tag="_")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for split in ("train", "dev", "test"):
        (folder / f"{split}.txt").write_text(TEXT, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(files, tmp_path_factory.mktemp("run") / "run", *FLAGS, "--max-steps", "1")


def evaluated(
    capsys: pytest.CaptureFixture[str], run: Path, file: Path, *flags: str
) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(["evaluate", str(run), str(file), "--device", "cpu", *flags])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_evaluate_reads_as_in_training_and_says_so(
    run: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = evaluated(capsys, run, files / "test.txt")
    assert status == 0 and json.loads(out) == metrics_of(run)["test"]
    assert json.loads(out)["gold"] == 3
    said = "reading with --tag-column 3 --token-column 2 --ignore-tag _ as in training\n"
    assert err.startswith(said)


def test_the_command_line_wins(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.txt"
    file.write_text("B-PER\tx\tAda\nO\tx\tmet\n", encoding="utf-8")
    status, out, err = evaluated(capsys, run, file, "--tag-column", "1", "--token-column", "3")
    assert status == 0 and json.loads(out)["gold"] == 1
    assert err.startswith("reading with --ignore-tag _ as in training\n")
    # The default of a flag can be asked for too.
    file.write_text("x\tAda\tB-LOC\tB-PER\nx\tmet\tO\tB-PER\n", encoding="utf-8")
    status, out, err = evaluated(capsys, run, file, "--tag-column", "-1")
    assert status == 0 and json.loads(out)["gold"] == 2
    assert err.startswith("reading with --token-column 2 --ignore-tag _ as in training\n")
    status, out, err = evaluated(capsys, run, file, "--strict-tags", "--quantize", "none")
    assert status == 0 and json.loads(out)["gold"] == 1


def test_from_python_too(run: Path, files: Path) -> None:
    labeler = lmsl.Labeler.load(run, device="cpu")
    assert labeler.info.files == SHAPE
    assert labeler.evaluate(files / "test.txt") == metrics_of(run)["test"]


def test_predict_finds_the_words(
    run: Path, files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def words(*arguments: str) -> list[str]:
        capsys.readouterr()
        assert main(["predict", str(run), *arguments, "--device", "cpu"]) == 0
        captured = capsys.readouterr()
        if arguments:
            column = arguments[-1] if "--token-column" in arguments else "2"
            assert f"as columns with the words in column {column}, writing" in captured.err
        return [line.split("\t")[0] for line in captured.out.splitlines() if line]

    # Tags in the third column tell that this is no running text.
    assert words(str(files / "test.txt")) == ["Ada", "met", "Bob", "in", "Rome"]
    assert words(str(files / "test.txt"), "--token-column", "4")[1] == "VBD"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Ada met Bob.\n")))
    (answer,) = words()
    assert json.loads(answer)["text"] == "Ada met Bob."


def test_nothing_is_said_of_defaults(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shape_flags(FileShape()) == []
    assert shape_flags(FileShape(format="nlupp", scheme="bioes")) == [
        "--format nlupp",
        "--scheme bioes",
    ]
    (tmp_path / "data").mkdir()
    for split in ("train", "dev"):
        (tmp_path / "data" / f"{split}.conll").write_text("Ada\tB-PER\nmet\tO\n\nx\tO\n\n")
    plain = train(tmp_path / "data", tmp_path / "run", "--max-steps", "1")
    status, _, err = evaluated(capsys, plain, tmp_path / "data" / "dev.conll")
    assert status == 0 and "as in training" not in err
