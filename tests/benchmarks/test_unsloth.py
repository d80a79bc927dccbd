"""Unsloth as a contender, where a package of its name does over plain transformers what is used.

What the real one needs, a GPU and an environment of its own, is not at hand; what is tested is
everything on this side of it: files, orders, turns, the gate, and how a failure ends.
"""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.shared.lengths import known_lengths, length_task
from benchmarks.shared.model_folder import write_model
from benchmarks.shared.timing import CannotRun
from benchmarks.train_step.__main__ import main
from benchmarks.train_step.contenders import BASELINE, UNSLOTH, Workshop
from benchmarks.train_step.gate import against
from benchmarks.train_step.unsloth_child import Trainer
from benchmarks.train_step.unsloth_peer import Unsloth, write_work
from benchmarks.train_step.work import Work
from lmsl.config.config import Config

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
        return get_peft_model(model, LoraConfig(
            task_type="CAUSAL_LM", r=r, target_modules=target_modules, lora_alpha=lora_alpha,
            lora_dropout=lora_dropout, bias=bias))
'''
SHORT = [
    *("--model", "shape:toy", "--data", "lengths:conll2003", "--sentences", "8"),
    *("--batch-size", "4", "--micro-batch", "3", "--threads", "1"),
    *("--rounds", "2", "--updates", "1", "--warmup", "1"),
]
FULL = next(iter(UNSLOTH))


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a package of its name."""
    package = tmp_path / "packages" / "unsloth"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(FAKE)
    root = Path(__file__).parents[2]
    paths = [str(package.parent), str(root), str(root / "kernels")]
    monkeypatch.setenv("PYTHONPATH", ":".join(paths))
    return package.parent


def test_unsloth_takes_its_turns(
    stand_in: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traces, output = tmp_path / "traces", tmp_path / "record.json"
    flags = ["--trace", str(traces), "--output", str(output), "--unsloth", sys.executable]
    assert main([*SHORT, *flags, "--contenders", FULL]) == 0, capsys.readouterr().err
    record = json.loads(output.read_text())
    assert list(record["contenders"]) == [BASELINE, FULL]
    gates = {gate["weights"]: gate for gate in record["gate"]}
    gate = gates[f"NF4, {FULL}"]
    assert gate["holds"] and gate["same_tokens"] and gate["difference"] < 1e-4
    assert gate["loss"] == gates["NF4"]["loss"]
    assert record["contenders"][FULL]["tokens_per_second"] > 0
    assert record["environments"][FULL]["transformers"]
    assert {path.name for path in traces.iterdir()} == {"peer_nf4.json.gz", "unsloth.json.gz"}


def test_another_model_fails_the_gate_and_a_program_that_ends_has_last_words(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program's trainer in this process."""
    monkeypatch.syspath_prepend(stand_in)
    task = length_task(known_lengths()["conll2003"], sentences=8, vocabulary=64, seed=1)
    config = Config(model="shape:toy", batch_size=4, epochs=9)
    work = Work(config=config, task=task, classes=9, micro=3)
    model = tmp_path / "model"
    write_model(work.base(), model)
    mine = write_work(tmp_path, work, model, updates=4)
    trainer = Trainer(tmp_path)
    its = trainer.gate()
    assert against(FULL, work, mine, **its).holds and trainer.gate() == its
    # With dropout, and other adapters after the first.
    losses = [trainer.update()["loss"] for _ in range(5)]
    assert len({its["loss"], *losses}) == 6 and trainer.peak() == {"bytes": None}
    trainer = Trainer(tmp_path)
    trainer._decoder().norm.weight.data.mul_(1.01)
    gate = against(FULL, work, mine, **trainer.gate())
    assert not gate.holds and "FAILED" in gate.line()
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho no such GPU >&2\n")
    program.chmod(0o755)
    with ExitStack() as running, pytest.raises(CannotRun, match="it ended: no such GPU"):
        Unsloth(work, python=str(program), model=model, updates=4, running=running)


def test_where_unsloth_is_not() -> None:
    task = length_task(known_lengths()["conll2003"], sentences=2, vocabulary=64, seed=1)
    work = Work(config=Config(model="shape:toy"), task=task, classes=9)
    for python in (None, "no-such-folder/python"):
        workshop = Workshop(work=work, running=ExitStack(), unsloth=python, updates=1)
        assert "--unsloth names no Python" in str(workshop.offered()[FULL])
