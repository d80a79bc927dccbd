"""Base models as strangers make them: nothing that their files bring runs, and nobody is asked."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, RobertaConfig, T5Config

import lmsl
from lmsl.errors import InputError
from lmsl.tagger.base import load_base, tiny_folder
from tests.small_runs import environment, refused

HOSTILE = "import pathlib; pathlib.Path({marker!r}).touch()\nclass C: pass\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The tiny model as a folder of the user's, with code that leaves a mark where it runs."""
    folder = Path(shutil.copytree(tiny_folder(), tmp_path / "mine"))
    (folder / "code.py").write_text(HOSTILE.format(marker=str(tmp_path / "ran")))
    return folder


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values))


CODE = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForCausalLM"), "code.C")


@pytest.mark.parametrize("known", [True, False])
def test_a_model_that_brings_code_runs_none(known: bool, model: Path, data: Path) -> None:
    """transformers asks on standard output and takes the first line of the data for an answer."""
    change(model / "config.json", auto_map=CODE, **({} if known else {"model_type": "novel"}))
    tokenizer = {"auto_map": {"AutoTokenizer": ["code.C", "code.C"]}}
    change(model / "tokenizer_config.json", **tokenizer)
    command = [sys.executable, "-m", "lmsl", "train", "--unmask", "1", "--max-steps", "1"]
    command += ["--model", str(model), "--data", str(data), "--output", str(model.parent / "out")]
    done = subprocess.run(
        command, input="y\n" * 9, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert not (model.parent / "ran").exists()
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert done.returncode == (0 if known else 2), done.stderr
    if not known:
        assert "lmsl runs none" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("content", ["torch", "hostile"])
def test_pickled_weights_are_refused_in_one_line(
    content: str, model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model / "model.safetensors").unlink()
    if content == "torch":
        torch.save({"weight": torch.zeros(1)}, model / "pytorch_model.bin")
    else:
        (model / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(model.parent / "ran")))
    line = ["train", "--unmask", "1", "--model", str(model), "--data", str(data)]
    refused(capsys, line, "expected model.safetensors", "pickled weights are never opened")
    assert not (model.parent / "ran").exists()


class Hostile:
    """Touches a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_an_encoder_is_refused_for_what_it_is(tmp_path: Path) -> None:
    """Saved with a head for masked words it lacks a pooler, which says nothing to anybody."""
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    config = RobertaConfig(vocab_size=9, num_hidden_layers=1, **sizes)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="roberta is an encoder, which has no causal mask"):
        load_base(str(tmp_path))


def test_an_encoder_decoder_is_refused_for_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    T5Config(num_layers=1).save_pretrained(tmp_path)
    refused(capsys, ["probe", str(tmp_path)], "t5 is an encoder-decoder; expected a decoder")


def test_a_base_that_is_there_is_not_called_gone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no room\nfor it")

    monkeypatch.setattr("lmsl.tagger.base.AutoModel.from_pretrained", fails)
    with pytest.raises(InputError, match="tiny: cannot be loaded: no room for it") as caught:
        lmsl.Labeler.load(run, device="cpu")
    assert "gone" not in str(caught.value)
