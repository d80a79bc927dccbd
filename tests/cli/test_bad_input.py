"""Bad input as a user meets it: one line that says what is wrong, status 2, nothing written.

Every case is a command line. ``{data}`` and the like stand for folders that the tests prepare.
"""

from pathlib import Path

import huggingface_hub
import pytest
import torch

import lmsl
from lmsl.cli import main
from lmsl.config.config import Config
from lmsl.console import Console
from lmsl.errors import InputError
from lmsl.run_directory.info import versions
from tests.small_runs import refused, snapshot

TRAIN = "train --data {data} --output {out} --device cpu"
GOOD = "Ada\tB-PER\nmet\tO\n\nBob\tB-PER\nsat\tO\n\n"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub, so that the answer is the same with a network and without."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


# Command line -> words of the answer.
ARGUMENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "wrong-bit": (TRAIN + " --unmask 0021", ("unmask", "0 and 1", "'0021'")),
    "no-bits": (TRAIN + " --unmask {empty}", ("unmask", "empty")),
    "many-bits": (TRAIN + " --unmask 000000001", ("at most 8 bits", "got 9")),
    "no-unmask": (TRAIN, ("--unmask", "got none")),
    "twice": (TRAIN + " --unmask 01 01", ("--unmask", "once")),
    "no-model": (TRAIN + " --unmask 1 --model no/such", ("--model no/such",)),
    "no-model-folder": (
        TRAIN + " --unmask 1 --model ./gone",
        ("--model ./gone", "no such folder"),
    ),
    "not-a-model": (TRAIN + " --unmask 1 --model {data}", ("--model", "config.json")),
    "no-recipe": (TRAIN + " --unmask 1 --recipe best", ("--recipe", "acl2024", "'best'")),
    "no-config": (TRAIN + " --unmask 1 --config gone.yaml", ("--config gone.yaml",)),
    "targets": (TRAIN + " --unmask 1 --lora-targets nonsense", ("nonsense", "q_proj")),
    "exit": (TRAIN + " --unmask 1 --exit-layer 99", ("--exit-layer", "at most 8", "99")),
    "device": (TRAIN + " --unmask 1 --device nonsense", ("--device nonsense",)),
    "meta-device": (TRAIN + " --unmask 1 --device meta", ("--device meta",)),
    # Without a GPU tests have Triton's interpreter, which can compute, but not this.
    "triton": (
        TRAIN + " --unmask 1 --attention triton --dtype bfloat16",
        ("--attention triton", "cannot serve", "it needs a CUDA device")
        if torch.cuda.is_available()
        else ("--attention triton", "cannot serve", "bfloat16 products wrong; use float16 or"),
    ),
    "8-bit": (TRAIN + " --unmask 1 --optimizer adamw8bit", ("--optimizer", "CUDA")),
    "groups": (TRAIN + " --unmask grid --groups 9", ("groups", "1 to 8", "9")),
    "negative-seed": (TRAIN + " --unmask 1 --seed -1", ("--seed", "-1")),
    "length": (
        TRAIN + " --unmask 1 --max-length 8 --overflow error",
        ("train.conll:1", "--max-length"),
    ),
    "lora-rank": (TRAIN + " --unmask 1 --lora-rank 0", ("--lora-rank", "at least 1")),
    "warmup": (TRAIN + " --unmask 1 --warmup 2", ("--warmup", "2")),
    "resume-nowhere": ("train --unmask 1 --data {data} --resume", ("--resume", "--output")),
    "dial": ("train --unmask 1 --data synthetic:7 --output {out}", ("0 to 1", "'7'")),
    "no-data": (
        "train --unmask 1 --train gone.conll --output {out}",
        ("gone.conll", "no such file"),
    ),
    "data-file": ("train --unmask 1 --data {data}/train.conll --output {out}", ("--train",)),
    "tag-column": (TRAIN + " --unmask 1 --tag-column 7", ("--tag-column 7", "2 columns")),
    "predict-data": ("predict {data}", ("expected a run directory", "lmsl.json")),
    "predict-gone": ("predict ./gone", ("expected a run directory", "no such folder")),
    "evaluate-data": ("evaluate {data} {data}/dev.conll", ("expected a run directory",)),
    "evaluate-gone": ("evaluate {run} gone.conll", ("gone.conll", "no such file")),
    "predict-file-gone": ("predict {run} gone.txt", ("gone.txt", "No such file")),
    "predictions": ("evaluate {run} {data}/dev.conll --predictions no/dir/x", ("no/dir/x",)),
    "probe-gone": ("probe ./gone", ("no such folder",)),
    "probe-bits": ("probe tiny --unmask 2", ("0 and 1", "'2'")),
    "probe-run": ("probe {run} --unmask 1111", ("string of its own",)),
    "command": ("trian", ("train", "'trian'")),
}


@pytest.mark.parametrize(("line", "expected"), ARGUMENTS.values(), ids=ARGUMENTS.keys())
def test_arguments(
    line: str,
    expected: tuple[str, ...],
    data: Path,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = snapshot(run)
    names = {"data": data, "run": run, "out": tmp_path / "out", "empty": ""}
    refused(capsys, [part.format(**names) for part in line.split()], *expected)
    assert list(tmp_path.iterdir()) == [] and snapshot(run) == before


@pytest.mark.parametrize("flag", ["--unknown 1", "--epochs many", "--quantize int3", "--recipe"])
def test_the_parser_of_flags_refuses(
    flag: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    line = ["train", "--unmask", "1", "--data", str(data), "--output", str(out), *flag.split()]
    with pytest.raises(SystemExit) as raised:
        main(line)
    assert raised.value.code == 2 and not out.exists()
    assert flag.split()[0] in capsys.readouterr().err


# Name of a file of the data folder, its bytes, words of the answer.
FILES: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "unknown-tag": ("dev", b"Rome\tB-LOC\n", ("dev.conll:1", "'B-LOC'", "PER")),
    "unknown-test-tag": ("test", b"a\tO\nRome\tB-LOC\n", ("test.conll", "'B-LOC'")),
    "ragged": (
        "train",
        b"Ada\tNNP\tB-PER\nmet\tO\n\nBob\tNNP\tB-PER\n",
        ("train.conll:2", "column"),
    ),
    "empty": ("train", b"", ("train.conll", "empty")),
    "blank": ("dev", b"\n\n \n", ("dev.conll", "empty")),
    "binary": ("train", b"\x7fELF\x00\x01\x02", ("train.conll:1", "binary")),
    "latin-1": ("train", b"caf\xe9\tO\n", ("train.conll:1", "UTF-8", "0xe9")),
    "one-sentence": ("dev", b"", ("dev.conll", "empty")),
}


@pytest.mark.parametrize(("name", "content", "expected"), FILES.values(), ids=FILES.keys())
def test_files(
    name: str,
    content: bytes,
    expected: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, out = tmp_path / "data", tmp_path / "out"
    folder.mkdir()
    for split in ("train", "dev"):
        (folder / f"{split}.conll").write_text(GOOD)
    (folder / f"{name}.conll").write_bytes(content)
    line = ["train", "--unmask", "1", "--data", str(folder), "--output", str(out)]
    refused(capsys, [*line, "--device", "cpu"], *expected)
    assert not out.exists()


def test_strict_tags_refuse_what_would_be_repaired(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file.conll"
    file.write_text("a\tO\nb\tI-PER\n\nc\tB-PER\n")
    refused(capsys, ["evaluate", str(run), str(file), "--strict-tags"], "file.conll:2", "I-PER")


CONFIGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "unquoted": ("unmask: 0011\n", ("config.yaml", "quotes", "0011")),
    "unknown-key": ('unmask: "0011"\nepoch: 3\n', ("config.yaml", "'epoch'")),
    "unknown-choice": ('unmask: "0011"\nloss: hinge\n', ("config.yaml", "loss", "hinge")),
    "type": ('unmask: "0011"\nepochs: many\n', ("config.yaml", "epochs", "many")),
    "optional-type": ('unmask: "0011"\nmax_steps: few\n', ("config.yaml", "max_steps", "few")),
    "list": ("- 0011\n", ("config.yaml", "name: value")),
    "not-yaml": ("unmask: [\n", ("config.yaml", "YAML")),
    "binary": ("\0\1", ("config.yaml", "YAML")),
}


@pytest.mark.parametrize(("text", "expected"), CONFIGS.values(), ids=CONFIGS.keys())
def test_config_files(
    text: str,
    expected: tuple[str, ...],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, out = tmp_path / "config.yaml", tmp_path / "out"
    file.write_text(text)
    line = ["train", "--config", str(file), "--data", str(data), "--output", str(out)]
    refused(capsys, line, *expected)
    assert not out.exists()


class TestPython:
    def test_errors_are_value_errors_with_the_same_words(self, data: Path, tmp_path: Path) -> None:
        config = Config(unmask=("0021",), data=str(data), output=tmp_path / "out", device="cpu")
        with pytest.raises(ValueError, match="'0021'"):
            lmsl.train(config)
        with pytest.raises(InputError, match="got none"):
            lmsl.train(Config(data=str(data), output=tmp_path / "out", device="cpu"))
        assert not (tmp_path / "out").exists()

    def test_one_string_is_taken_whole(self) -> None:
        assert Config(unmask="0011").unmask == ("0011",)  # type: ignore[arg-type]

    def test_versions_are_known(self) -> None:
        assert "not installed" not in versions().values()


def test_console_leaves_line_numbers_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """``:100:`` is the name of a symbol to the terminal library."""
    Console().say("data/train.conll:100: [b]tag[/b] :smile: 'B-X'")
    assert capsys.readouterr().err == "data/train.conll:100: [b]tag[/b] :smile: 'B-X'\n"
