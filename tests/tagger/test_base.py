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
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForTokenClassification,
    RobertaConfig,
    T5Config,
)

import lmsl
from lmsl.errors import InputError
from lmsl.tagger.base import load_base
from lmsl.tagger.source import tiny_folder
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


@pytest.mark.parametrize("head", [AutoModelForMaskedLM, AutoModelForTokenClassification])
def test_an_encoder_loads_whatever_head_it_was_saved_with(head: Any, model: Path) -> None:
    """Such files lack a pooler, which transformers would fill with random numbers."""
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    config = RobertaConfig(vocab_size=9, num_hidden_layers=1, **sizes)
    saved = head.from_config(config)
    saved.save_pretrained(model)
    base = load_base(str(model))
    assert base.kind == "encoder" and base.decoder.pooler is None
    weights = saved.base_model.state_dict()
    assert all(torch.equal(own, weights[name]) for name, own in base.decoder.state_dict().items())
    assert base.notes == (
        "base: its own dropout is off (hidden_dropout_prob 0.1, attention_probs_dropout_prob 0.1)",
    )
    base.decoder.train()
    ids = torch.tensor([[3, 4, 5]])
    assert torch.equal(*(base.decoder(ids).last_hidden_state for _ in range(2)))
    with pytest.raises(InputError, match="roberta is an encoder and predicts no next word"):
        load_base(str(model), causal_lm=True)


def test_a_decoder_comes_with_its_language_model_head_on_request() -> None:
    base = load_base("tiny", exit_layer=2, causal_lm=True)
    assert base.causal_lm.base_model is base.decoder and len(base.decoder.layers) == 2
    assert torch.equal(base.causal_lm.lm_head.weight, base.decoder.embed_tokens.weight)
    assert load_base("tiny").causal_lm is None


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
