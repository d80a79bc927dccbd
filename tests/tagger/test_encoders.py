"""Encoders through the trainer of decoders: packed or padded they are what transformers makes of
them, and a string can take their right context away."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import lmsl
from lmsl.cli import main
from lmsl.data.tags.sentence import Sentence
from lmsl.mask.bits import layer_bits
from lmsl.mask.probing import probe
from lmsl.packs.alignment import CLOSED, JOINED, Aligner
from lmsl.packs.examples import build_examples
from lmsl.packs.packing import pack
from lmsl.tagger.calling import calling_of, difference
from tests.decoders import Explicit, use_oracle
from tests.encoders import ENCODERS, PADDED, build_encoder, encoder_folder, encoder_tokenizer
from tests.small_runs import ADAPTER, SHORT, evaluated, metrics_of, refused, train

SENTENCES = ["ada met babbage .", "no", "a b c d e f g h i j", "caf\u00e9 \u65e5 o'clock"]


SHORT_WINDOWS: dict[str, Any] = {"max_length": 9, "overflow": "window"}


def texts() -> list[Sentence]:
    return [Sentence(words=tuple(text.split()), tags=None) for text in SENTENCES]


def examples_of(mode: str = CLOSED, **changes: Any) -> Any:
    aligner = Aligner(encoder_tokenizer(), mode)
    return build_examples(texts(), aligner, max_length=64, overflow="error", **changes).examples


def alone(model: Any, examples: Any) -> torch.Tensor:
    """Hidden states of all tokens, each sentence by itself, as transformers makes them."""
    states = [model(input_ids=torch.tensor(e.ids)[None].long()) for e in examples]
    return torch.cat([each.last_hidden_state[0] for each in states])


@pytest.mark.parametrize("family", ENCODERS)
def test_a_pack_gives_what_each_sentence_gives_alone(family: str) -> None:
    """Against transformers' own eager attention, positions and token types left to the model."""
    model, theirs = build_encoder(family), build_encoder(family, attn_implementation="eager")
    reached = family not in PADDED
    if reached:
        lmsl.unmask(model, "full")
    calling, reason = calling_of(model, through_interface=reached)
    assert calling.padded == (family in PADDED) == (reason is not None)
    examples = examples_of()
    batch = pack([examples], None, torch.device("cpu"))
    found = calling.hidden(model, batch)
    torch.testing.assert_close(found, alone(theirs, examples), atol=2e-5, rtol=2e-5)
    seen: list[torch.Tensor] = []
    with calling.observed(model, batch, seen.append):
        calling.hidden(model, batch)
    assert [len(states) for states in seen] == [batch.ids.shape[1]] * 4


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "eurobert"])
@pytest.mark.parametrize("string", ["0000", "0011", "1000"])
def test_layers_of_an_encoder_are_made_causal(family: str, string: str) -> None:
    model, oracle = build_encoder(family), build_encoder(family)
    lmsl.unmask(model, string)
    use_oracle(oracle)
    for index, layer in enumerate(oracle_layers(oracle)):
        layer.layer_idx = index
    calling, _ = calling_of(build_encoder(family), through_interface=True)
    examples = examples_of()
    batch = pack([examples], None, torch.device("cpu"))
    found = calling.hidden(model, batch)
    wanted = []
    for example in examples:
        ids = torch.tensor(example.ids)[None].long()
        seen = Explicit(layer_bits(string, 4), torch.ones_like(ids))
        wanted.append(oracle(input_ids=ids, explicit=seen).last_hidden_state[0])
    torch.testing.assert_close(found, torch.cat(wanted), atol=2e-5, rtol=2e-5)
    assert probe(model) == [bit == "1" for bit in string]


def oracle_layers(model: Any) -> list[Any]:
    return [m for m in model.modules() if hasattr(m, "layer_idx") and hasattr(m, "is_causal")]


def test_a_position_off_by_one_shows_in_the_measurement() -> None:
    """It raises nothing and changes every number; such a model is padded."""
    model = lmsl.unmask(build_encoder("roberta"), "full")
    calling, reason = calling_of(model, through_interface=True)
    # [PAD] is id 0 here, and positions begin behind it.
    assert calling.first_position == 1 and reason is None
    assert difference(model, calling) < 1e-5
    assert difference(model, replace(calling, first_position=0)) > 1e-2


def test_only_encoders_are_closed() -> None:
    opened, closed = examples_of(JOINED), examples_of(CLOSED)
    for one, other in zip(opened, closed, strict=True):
        assert other.ids.tolist() == [*one.ids, 3] and one.ids[0] == 2
        assert other.starts.tolist() == one.starts.tolist()
    (first, *_) = examples_of(CLOSED, repeat=1)
    half = len(first.ids) // 2
    assert first.ids[:half].tolist() == first.ids[half:].tolist() == closed[0].ids.tolist()
    assert first.starts.tolist() == [half + start for start in closed[0].starts]
    window = build_examples(texts(), Aligner(encoder_tokenizer(), CLOSED), **SHORT_WINDOWS)
    assert max(len(example.ids) for example in window.examples) == 9
    assert all(example.ids[-1] == 3 for example in window.examples)


@pytest.mark.parametrize("tune", ["lora", "full"])
@pytest.mark.parametrize("family", ENCODERS)
def test_an_encoder_trains_saves_loads_and_predicts(
    family: str, tune: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = encoder_folder(family, tmp_path / "model")
    flags = ("--model", str(model), "--tune", tune, "--lr", "0.01", "--max-length", "100")
    run = train(data, tmp_path / "run", *flags, "--max-steps", "3", unmask=())
    said = capsys.readouterr().err
    assert "is an encoder, whose layers see to both sides" in said
    assert ("padded: its attention does not go through" in said) == (family in PADDED)
    assert ("packed: sentences end to end" in said) == (family not in PADDED)
    assert ("full fine-tuning" if tune == "full" else "LoRA rank 16") in said
    assert evaluated(run, data / "dev.conll", capsys) == metrics_of(run)["dev"]
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "causal" not in card and "all of whose layers see to the right" in card
    labeler = lmsl.Labeler.load(run, device="cpu")
    assert probe(labeler.tagger.decoder) == [True] * 4
    crowd = ["a", "met b", "x y z " * 9]
    by_itself, *_ = labeler.predict(["Ada met Babbage in Rome ."])
    beside, *_ = labeler.predict(["Ada met Babbage in Rome .", *crowd])
    for one, other in zip(by_itself, beside, strict=True):
        assert (one.start, one.end, one.label) == (other.start, other.end, other.label)
        assert one.score == pytest.approx(other.score, abs=1e-5)


def test_an_encoder_without_its_right_context_is_a_run_like_any(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = encoder_folder("modernbert", tmp_path / "model")
    train(data, tmp_path / "two", "--model", str(model), unmask=("0000", "full"))
    assert "measured: none of the 4 layers sees to the right" in capsys.readouterr().err
    labeler = lmsl.Labeler.load(tmp_path / "two" / "0000" / "seed1", device="cpu")
    assert probe(labeler.tagger.decoder) == [False] * 4


@pytest.mark.parametrize("family", ["bert", pytest.param("modernbert", marks=pytest.mark.slow)])
def test_strings_of_an_encoder_share_a_stack(family: str, data: Path, tmp_path: Path) -> None:
    model = ("--model", str(encoder_folder(family, tmp_path / "model")), "--lr", "0.01")
    strings = ("0000", "1111", "0011")
    flags = ["--data", str(data), *model, "--device", "cpu", *SHORT, "--stack", "3"]
    output = tmp_path / "all"
    assert main(["sweep", "--unmask", *strings, *flags, "--output", str(output)]) == 0
    for string in strings:
        own = train(data, tmp_path / string, *model, unmask=(string,))
        alone = load_file(own / ADAPTER)
        for name, tensor in load_file(output / string / "seed1" / ADAPTER).items():
            torch.testing.assert_close(tensor, alone[name], atol=1e-4, rtol=1e-3)
    oneshot = ["sweep", "--unmask", "grid", "--mode", "oneshot", "--top", "0", *flags[:-2]]
    assert main([*oneshot, "--output", str(tmp_path / "oneshot")]) == 0


def test_what_an_encoder_cannot_do_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = encoder_folder("deberta-v2", tmp_path / "model")
    line = ["train", "--model", str(model), "--data", str(data), "--device", "cpu"]
    refused(capsys, [*line, "--unmask", "0011"], "--unmask", "can only be full")
    refused(capsys, [*line, "--attention", "sdpa"], "an attention of its own", "expected auto")
    refused(capsys, [*line, "--block", "own"], "--block own", "Llama-shaped")
    sweep = ["sweep", *line[1:], "--seed", "1", "2", "--stack", "2"]
    refused(capsys, sweep, "--stack 2: expected 1, a padded model")
