"""Unsloth as a contender, where a package of its name does over plain transformers what is used.

What the real one needs, a GPU and an environment of its own, is not at hand; what is tested is
everything on this side of it: files, orders, turns, the gate, and how a failure ends.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.train_step.__main__ import main
from benchmarks.train_step.contenders import BASELINE, UNSLOTH
from benchmarks.train_step.unsloth_peer import why_no_unsloth

FAKE = '''
"""Loads, quantises and adapts as the real one does, and says as much."""

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.train_step.padded_peer import quantise_linears
from lmsl.training.stack import Place

print("a banner on standard output, which is for answers")


class FastLanguageModel:
    @staticmethod
    def from_pretrained(model_name, max_seq_length, dtype, load_in_4bit,
                        use_gradient_checkpointing, local_files_only):
        assert load_in_4bit and use_gradient_checkpointing is False and max_seq_length > 2
        model = AutoModelForCausalLM.from_pretrained(model_name, dtype=dtype)
        quantise_linears(model.model, Place(device=torch.device("cpu"), dtype=dtype))
        tokenizer = AutoTokenizer.from_pretrained(model_name)
        assert tokenizer.pad_token_id is not None
        return model, tokenizer

    @staticmethod
    def get_peft_model(model, r, target_modules, lora_alpha, lora_dropout, bias,
                       use_gradient_checkpointing, random_state):
        torch.manual_seed(random_state)
        CHANGE
        return get_peft_model(model, LoraConfig(
            task_type="CAUSAL_LM", r=r, target_modules=target_modules, lora_alpha=lora_alpha,
            lora_dropout=lora_dropout, bias=bias))
'''
SHORT = [
    *("--model", "shape:toy", "--data", "lengths:conll2003", "--sentences", "24"),
    *("--rounds", "2", "--updates", "1", "--warmup", "1", "--threads", "1"),
]


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, change: str = "pass") -> None:
    package = folder / "packages" / "unsloth"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(FAKE.replace("CHANGE", change))
    root = Path(__file__).parents[2]
    paths = [str(package.parent), str(root), str(root / "kernels")]
    monkeypatch.setenv("PYTHONPATH", ":".join(paths))


def measured(folder: Path, *flags: str, names: Sequence[str]) -> tuple[int, dict[str, Any]]:
    output = folder / "record.json"
    status = main([*SHORT, "--contenders", *names, "--output", str(output), *flags])
    return status, json.loads(output.read_text()) if output.exists() else {}


def test_unsloth_takes_its_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(tmp_path, monkeypatch)
    traces = tmp_path / "traces"
    status, record = measured(
        tmp_path, "--trace", str(traces), "--micro-batch", "5", names=list(UNSLOTH)
    )
    assert status == 0, capsys.readouterr().err
    assert list(record["contenders"]) == [BASELINE, *UNSLOTH] and not record["did_not_start"]
    gates = {gate["weights"]: gate for gate in record["gate"]}
    for name in UNSLOTH:
        gate = gates[f"NF4, {name}"]
        assert gate["holds"] and gate["same_tokens"] and gate["difference"] < 1e-4
        assert record["contenders"][name]["tokens_per_second"] > 0
        assert record["environments"][name]["transformers"]
    assert gates["NF4, Unsloth"]["loss"] == gates["NF4"]["loss"]
    names = {"peer_nf4", "unsloth", "unsloth_lora_without_dropout"}
    assert {path.name for path in traces.iterdir()} == {f"{name}.json.gz" for name in names}


def test_another_model_is_not_timed_and_a_program_that_ends_has_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other, ending = UNSLOTH
    change = """if not lora_dropout:
            raise RuntimeError('no such GPU')
        model.model.norm.weight.data.mul_(1.01)"""
    fake(tmp_path, monkeypatch, change)
    status, record = measured(tmp_path, names=[other, ending])
    assert status == 0 and list(record["contenders"]) == [BASELINE]
    assert "FAILED" in record["did_not_start"][other]
    said = capsys.readouterr().out
    assert f"not compared: {other}: gate" in said
    assert f"not compared: {ending}: it ended: RuntimeError: no such GPU" in said


def test_where_unsloth_is_not(tmp_path: Path) -> None:
    assert "no package unsloth" in str(why_no_unsloth(sys.executable))
    assert "does not run" in str(why_no_unsloth(str(tmp_path / "python")))
