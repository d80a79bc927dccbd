"""Bad input that only a model shows: one line that says what is wrong, status 2, nothing written.

What is refused without one is in ``test_first_contact.py``. ``{data}`` and ``{out}`` stand for
folders.
"""

from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

import lmsl
from lmsl.config.config import Config
from lmsl.console import Console
from lmsl.errors import InputError
from lmsl.run_directory.info import versions
from tests.small_runs import refused

TRAIN = "train --data {data} --output {out} --device cpu"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub, so that the answer is the same with a network and without."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


# Command line -> words of the answer.
ARGUMENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "many-bits": (TRAIN + " --unmask 000000001", ("at most 8 bits", "got 9")),
    "no-model": (TRAIN + " --unmask 1 --model no/such", ("--model no/such",)),
    "no-model-folder": (
        TRAIN + " --unmask 1 --model ./gone",
        ("--model ./gone", "no such folder"),
    ),
    "not-a-model": (TRAIN + " --unmask 1 --model {data}", ("--model", "config.json")),
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
    "length": (
        TRAIN + " --unmask 1 --max-length 8 --overflow error",
        ("train.conll:1", "--max-length"),
    ),
    "revision": (
        TRAIN + " --unmask 1 --revision main",
        ("--revision main: expected a model of the hub, got --model tiny, which is here",),
    ),
    "probe-gone": ("probe ./gone", ("no such folder",)),
}


@pytest.mark.parametrize(("line", "expected"), ARGUMENTS.values(), ids=ARGUMENTS.keys())
def test_arguments(
    line: str,
    expected: tuple[str, ...],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"data": data, "out": tmp_path / "out"}
    refused(capsys, [part.format(**names) for part in line.split()], *expected)
    assert list(tmp_path.iterdir()) == []


def test_python_callers_get_the_same_words(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--stack: expected auto or at least 1, got 0"):
        lmsl.train(Config(data=str(data), output=tmp_path / "out", device="cpu"), stack=0)
    with pytest.raises(InputError, match=r"expected a lmsl\.Config, got dict"):
        lmsl.train({"data": str(data)})  # type: ignore[arg-type]
    assert issubclass(InputError, ValueError) and not (tmp_path / "out").exists()


def test_versions_are_known() -> None:
    assert "not installed" not in versions().values()


def test_console_leaves_line_numbers_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """``:100:`` is the name of a symbol to the terminal library."""
    Console().say("data/train.conll:100: [b]tag[/b] :smile: 'B-X'")
    assert capsys.readouterr().err == "data/train.conll:100: [b]tag[/b] :smile: 'B-X'\n"
