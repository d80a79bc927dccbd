"""Run directories: what is known of a run comes back, and where a run may not go."""

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmsl.config.choices import LoRA
from lmsl.data.formats.options import FileShape
from lmsl.data.tags.vocabulary import LabelSet
from lmsl.errors import InputError, TrainingError
from lmsl.run_directory.files import write_text
from lmsl.run_directory.folder import check_output, clear, is_finished, next_folder, writing
from lmsl.run_directory.info import INFO, RunInfo, read_info

INFO_OF_A_RUN = RunInfo(
    unmask="0011",
    labels=LabelSet(("O", "B-Ü n", "I-Ü n")),
    base="some/model",
    revision=None,
    lora=LoRA(rank=4, alpha=8.0, dropout=0.1, targets=("q_proj", "v_proj")),
    label_at="mean",
    words="char",
    tokenization="words",
    decode="argmax",
    repeat=1,
    exit_layer=3,
    context=5,
    max_length=77,
    overflow="error",
    tokens_per_batch=99,
    quantize="none",
    block="own",
    dtype="bfloat16",
    seed=7,
    files=FileShape(format="columns", tag_column=4, token_column=2, ignore_tag="Ü"),
)


def head(*labels: str, scheme: str = "iob2") -> dict[str, Any]:
    return {"name": "labels", "labels": list(labels), "scheme": scheme}


@pytest.mark.parametrize("plain", [False, True])
def test_everything_known_of_a_run_comes_back(plain: bool, tmp_path: Path) -> None:
    info = replace(INFO_OF_A_RUN, labels=LabelSet(("O", "B-Ü n", "I-Ü n"), plain=plain))
    write_text(tmp_path / INFO, info.to_json())
    assert read_info(tmp_path) == info
    assert read_info(tmp_path).labels.ids(["I-Ü n"]) == [2]


def test_older_runs_do_not_say_what_their_files_were_like(tmp_path: Path) -> None:
    document = json.loads(INFO_OF_A_RUN.to_json())
    del document["files"]
    (tmp_path / INFO).write_text(json.dumps(document), encoding="utf-8")
    assert read_info(tmp_path) == replace(INFO_OF_A_RUN, files=FileShape())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"expected format 1, got 2; use the version of lmsl that wrote it \("),
        ({"format": None}, "expected format 1, got None"),
        ({"heads": []}, r"heads: expected a list of one, got \[\]"),
        ({"lora": 5}, "LoRA: expected names and values, got 5"),
        ({"lora": {"rank": 10**9}}, "rank: expected at most 16384, got 1000000000"),
        ({"repeat": 10**12}, "repeat: expected at most 1000"),
        ({"max_length": 10**30}, "max_length: expected at most"),
        ({"heads": [{"name": "labels"}]}, "not a description of a run"),
        ({"lora": {"rank": 1}}, "alpha: expected a number, found none"),
        ({"lora": {"rank": 0}}, "rank: expected at least 1, got 0"),
        ({"repeat": -1}, "repeat: expected at least 0, got -1"),
        ({"exit_layer": 0}, "exit_layer: expected at least 1, got 0"),
        ({"dtype": "float8"}, "dtype: expected one of auto, float32, bfloat16, got 'float8'"),
        ({"unmask": "0021"}, "unmask: expected only 0 and 1"),
        ({"heads": [head("O", "B-X", "I-X", "B-X")]}, "labels: expected each once, got 'B-X'"),
        ({"heads": [head("B-X", "I-X")]}, "labels: expected O among them"),
        ({"heads": [head("O", "X")]}, "labels: expected O, B-TYPE or I-TYPE, got 'X'"),
        ({"heads": [head("O", "B-")]}, "labels: expected O, B-TYPE or I-TYPE, got 'B-'"),
        ({"heads": [head(scheme="plain")]}, "labels: expected at least one"),
        ({"heads": [head("O", scheme="bioes")]}, "scheme: expected iob2 or plain, got 'bioes'"),
        ({"heads": [{**head(), "labels": [1]}]}, "labels: expected a list of text"),
        ({"files": 5}, "not a description of a run"),
        ({"files": {"tag_column": "x"}}, "tag_column: expected a whole number, got 'x'"),
    ],
)
def test_descriptions_of_another_kind(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    document = json.loads(INFO_OF_A_RUN.to_json()) | change
    (tmp_path / INFO).write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_info(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("[]", "expected a JSON object"),
        ("{}", "not a description of a run"),
        ('"x"', "expected a JSON object"),
        ("{", "expected JSON"),
        ("\xff", "expected UTF-8"),
        ("[" * 100_000, "nested too deeply"),
        ('{"format": 1, "format": 1}', "the key 'format' is there twice"),
    ],
)
def test_files_that_describe_nothing(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / INFO).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=f"lmsl.json.*{message}") as caught:
        read_info(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no such folder"):
        read_info(tmp_path / "none")
    with pytest.raises(InputError, match=r"found no lmsl.json in it"):
        read_info(tmp_path)


def test_where_a_run_may_go(tmp_path: Path) -> None:
    check_output(tmp_path / "new", overwrite=False, resume=False)
    check_output(tmp_path, overwrite=False, resume=False)
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(InputError, match=r"interrupted run; go on with it by --resume"):
        check_output(tmp_path, overwrite=False, resume=False)
    check_output(tmp_path, overwrite=False, resume=True)
    (tmp_path / INFO).touch()
    with pytest.raises(InputError, match="holds a run already"):
        check_output(tmp_path, overwrite=False, resume=False)
    check_output(tmp_path, overwrite=True, resume=False)
    (tmp_path / "thesis.tex").touch()
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"thesis.tex|already"):
            check_output(tmp_path, overwrite=overwrite, resume=False)
    with pytest.raises(InputError, match="is a file"):
        check_output(tmp_path / INFO, overwrite=True, resume=False)


def test_files_of_any_tokenizer_and_of_a_killed_write_are_no_obstacle(tmp_path: Path) -> None:
    """A chat template made a run impossible to overwrite, a killed write one to resume."""
    names = (INFO, "chat_template.jinja", "tokenizer.json", "tokenizer.model", "vocab.json")
    for name in (*names, ".log.jsonl.4711.tmp", ".DS_Store"):
        (tmp_path / name).touch()
    check_output(tmp_path, overwrite=True, resume=False)
    check_output(tmp_path, overwrite=False, resume=True)


def test_clearing_leaves_other_files(tmp_path: Path) -> None:
    for name in (INFO, "metrics.json", "thesis.tex"):
        (tmp_path / name).touch()
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "state.pt").touch()
    assert is_finished(tmp_path)
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    clear(tmp_path)


def test_the_next_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert next_folder() == Path("runs/1")
    (tmp_path / "runs" / "1").mkdir(parents=True)
    (tmp_path / "runs" / "3").mkdir()
    assert next_folder() == Path("runs/2")


def test_disks_that_are_full_and_folders_that_are_closed(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="disk is full"), writing(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    closed = pytest.raises(InputError, match=r"cannot be written \(Permission denied\)")
    with closed, writing(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
