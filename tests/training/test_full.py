"""All weights trained: what transformers and torch would do by hand, in a run like any other."""

import copy
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

import lmsl
from lmsl.cli import main
from lmsl.config.config import Config
from lmsl.console import Bar
from lmsl.data.read import read_with
from lmsl.errors import InputError
from lmsl.layers.lora import RunParameters
from lmsl.packs.examples import Example, build_examples
from lmsl.tagger.base import load_base
from lmsl.training.optim import default_lr
from tests.small_runs import (
    SHORT,
    evaluated,
    metrics_of,
    refused,
    same_files,
    train,
    updates_of,
)

FULL = ("--tune", "full", "--lr", "0.001", "--head-dropout", "0", "--quantize", "none")
FILES = ("model.safetensors", "config.json", "head.safetensors", "predictions.test.conll")


@pytest.fixture(scope="module")
def full(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(data, tmp_path_factory.mktemp("full") / "run", *FULL)


def test_a_run_of_all_weights_evaluates_to_its_own_numbers(
    full: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluated(full, data / "test.conll", capsys) == metrics_of(full)["test"]
    assert json.loads((full / "lmsl.json").read_text())["lora"] is None
    assert not (full / "adapter_config.json").exists()
    before, after = load_base("tiny").decoder, AutoModel.from_pretrained(full)
    moved = [
        name for name, own in after.named_parameters() if own.ne(before.get_parameter(name)).any()
    ]
    assert set(moved) == {name for name, _ in before.named_parameters()}


def test_updates_are_those_of_torch_by_hand(data: Path, tmp_path: Path) -> None:
    """One sentence an update, transformers' eager forward with a mask of our own making."""
    one = ("--batch-size", "1", "--max-steps", "3", "--epochs", "1", "--schedule", "constant")
    run = train(data, tmp_path / "run", *FULL, *one, "--warmup", "0", unmask=("1111",))
    labeler = lmsl.Labeler.load(run, device="cpu")
    begun = train(data, tmp_path / "begun", *FULL, *one, "--lr", "0", unmask=("1111",))
    head = {k: v.requires_grad_() for k, v in load_file(begun / "head.safetensors").items()}
    model = copy.deepcopy(load_base("tiny").decoder).train()
    model.set_attn_implementation("eager")
    weights = [*model.parameters(), *head.values()]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in weights if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
    losses = []
    for example, labels in drawn(run, data, labeler):
        ids = torch.tensor(example.ids)[None].long()
        mask = torch.zeros(1, 1, ids.shape[1], ids.shape[1])
        hidden = model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[0]
        logits = hidden[torch.tensor(example.ends - 1).long()] @ head["weight"].T + head["bias"]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        losses.append(loss.item())
    told = [line["loss"] for line in updates_of(run)]
    assert np.ravel(told) == pytest.approx(losses, abs=1e-4)
    trained = AutoModel.from_pretrained(run)
    for name, own in model.named_parameters():
        torch.testing.assert_close(trained.get_parameter(name), own.detach(), atol=2e-4, rtol=1e-3)


def drawn(run: Path, data: Path, labeler: lmsl.Labeler) -> list[tuple[Example, list[int]]]:
    """The sentences of the first three updates of one sentence each, with their label ids."""
    sentences = read_with(data / "train.conll", labeler.info.read_options()).sentences
    built = build_examples(sentences, labeler._aligner, max_length=256, overflow="error").examples
    order = np.random.default_rng([1, 0]).permutation(len(sentences))[:3]
    labels = labeler.info.labels
    return [(built[place], labels.ids(sentences[place].tags or ())) for place in order]


def test_resumed_it_is_the_same_to_the_bit(
    full: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    advance = Bar.advance

    def asked(self: Bar, done: int, *told: Any) -> None:
        advance(self, done, *told)
        if done == 2:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Bar, "advance", asked)
    line = ["train", "--unmask", "0011", "--data", str(data), "--output", str(output)]
    assert main([*line, *SHORT, *FULL]) == 143
    monkeypatch.undo()
    assert not (output / "model.safetensors").exists()
    train(data, output, *FULL, "--resume")
    same_files(full, output, *FILES)


def test_seeds_begin_from_the_same_weights(full: Path, data: Path, tmp_path: Path) -> None:
    """A run works on a copy: the second of two is what it is alone."""
    train(data, tmp_path / "two", *FULL, "--seed", "5", "1")
    same_files(full, tmp_path / "two" / "0011" / "seed1", *FILES)


def test_an_early_exit_keeps_its_layers_and_their_strings(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(data, tmp_path / "run", *FULL, "--exit-layer", "5", "--max-steps", "2")
    assert evaluated(run, data / "test.conll", capsys) == metrics_of(run)["test"]
    labeler = lmsl.Labeler.load(run, device="cpu")
    assert lmsl.probe(labeler.tagger.decoder) == [False] * 4 + [True]


def test_the_weights_of_a_run_are_guarded_like_an_adapter(full: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(full, tmp_path / "copied"))
    weights = bytearray((copied / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copied / "model.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match="safetensors: changed or damaged"):
        lmsl.Labeler.load(copied, device="cpu")
    with pytest.raises(InputError, match="was trained as a whole"):
        lmsl.Labeler.load(full, device="cpu", quantize="nf4")


def test_as_many_at_once_as_can_be_is_one(
    full: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sweep that was told nothing of stacks made one of two and refused it."""
    line = ["sweep", "--unmask", "0011", "--seed", "1", "2", "--data", str(data), *SHORT, *FULL]
    assert main([*line, "--output", str(tmp_path / "two")]) == 0
    assert "--stack auto: 1 at once, all weights (--tune full)" in capsys.readouterr().err
    same_files(full, tmp_path / "two" / "0011" / "seed1", *FILES)


def test_what_needs_frozen_weights_is_refused(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--unmask", "0000", "1111", "--data", str(data), "--device", "cpu", *FULL[:2]]
    refused(capsys, ["train", *line, "--quantize", "nf4"], "--tune full freezes nothing")
    refused(capsys, ["train", *line, "--block", "own"], "--block own: expected frozen weights")
    refused(capsys, ["sweep", *line, "--stack", "2"], "--stack 2: expected 1, all weights")


def test_weights_of_the_model_are_not_cut_by_run() -> None:
    """Nor is the norm that they are clipped to that of anything less than all of them."""
    whole, head = torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.ones(1, 2))
    parameters = RunParameters({"whole": whole, "head": head}, 1, ["whole"])
    (views,) = parameters.views
    assert views["whole"].shape == (3, 2) and views["head"].shape == (2,)
    whole.grad, head.grad = torch.full((3, 2), 2.0), torch.full((1, 2), -1.0)
    parameters.bind_gradients()
    assert parameters.clip_gradients(1.0) == pytest.approx([26**0.5])
    torch.testing.assert_close(views["head"].grad, torch.full((2,), -(26**-0.5)))
    with torch.no_grad():
        views["whole"].zero_()
    assert not whole.any()


def test_all_weights_move_at_a_tenth_of_the_rate_of_adapters() -> None:
    assert default_lr(4096) == pytest.approx(2e-4)
    assert default_lr(4096, "full") == pytest.approx(2e-5)
    assert Config(tune="full").frozen == "none" and Config().frozen == "nf4"
