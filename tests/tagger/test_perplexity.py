"""Perplexity and greedy continuations, against transformers and PEFT: the causal states by their
own loss, the run's own string by a loop over prefixes; and what the command says and refuses."""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

import lmsl
from lmsl.cli import main
from lmsl.errors import InputError
from lmsl.layers.lora import stacked_layers
from lmsl.packs.running import RunningText, spread, text_windows
from lmsl.tagger import perplexity as module
from lmsl.tagger.language import LanguageModel
from lmsl.tagger.perplexity import Perplexity, perplexity
from lmsl.tagger.source import tiny_folder
from tests.decoders import FAMILIES, build
from tests.small_runs import evaluated, refused, signed, train, written
from tests.tagger.tagger_tools import CPU

TEXT = (
    "The village was small, and nobody had heard of Velmora before the train came.\n\n"
    "“Naïve,” said the singer – </s> – 🙂 – and left. It rained   all night; in the morning the "
    "harbour was empty, and the bells rang for an hour. They spoke of it for years afterwards .\n"
)
WINDOW, STRIDE, SAMPLE = 40, 16, 17


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose adapter says something: after six updates at a high rate."""
    folder = tmp_path_factory.mktemp("perplexity") / "run"
    return train(data, folder, "--lr", "0.02", "--quantize", "none", unmask=("0110",))


@pytest.fixture(scope="module")
def loaded(run: Path) -> lmsl.Labeler:
    return lmsl.Labeler.load(run, device="cpu", causal_lm=True)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows small enough for a text of a few lines."""
    for name, value in (("WINDOW", WINDOW), ("STRIDE", STRIDE), ("SAMPLE", SAMPLE)):
        monkeypatch.setattr(module, name, value)


@pytest.fixture(scope="module")
def found(loaded: lmsl.Labeler) -> Perplexity:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("WINDOW", WINDOW), ("STRIDE", STRIDE), ("SAMPLE", SAMPLE)):
            patch.setattr(module, name, value)
        return perplexity(loaded, TEXT, continued=6)


def oracle(run: Path, string: str | None) -> Any:
    """transformers' model with PEFT's adapter and a string; None is the base alone."""
    base = AutoModelForCausalLM.from_pretrained(tiny_folder(), dtype=torch.float32)
    if string is None:
        return base.eval()
    return lmsl.unmask(PeftModel.from_pretrained(base, run), string).eval()


def running(labeler: lmsl.Labeler) -> RunningText:
    ids, _ = labeler._aligner.text(TEXT)
    bos = labeler._aligner.bos
    windows = text_windows(
        len(ids), size=WINDOW - len(bos), stride=STRIDE, predicted=0 if bos else 1
    )
    return RunningText(ids=ids, bos=bos, windows=windows)


def loss(model: Any, ids: Sequence[int], first: int) -> float:
    """transformers' own loss of the tokens from a place on, summed."""
    given = torch.tensor([list(map(int, ids))])
    labels = given.clone()
    labels[:, :first] = -100
    with torch.no_grad():
        out = model(input_ids=given, labels=labels, use_cache=False)
    return float(out.loss) * (len(ids) - first)


def next_logs(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Log-probabilities of what follows, by transformers' own dense forward."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([list(map(int, ids))]), use_cache=False).logits
    return logits[0, -1].double().log_softmax(-1)


@pytest.mark.parametrize(("state", "string"), [("base", None), ("causal", "0000")])
def test_causal_states_have_the_loss_that_transformers_computes(
    state: Any, string: str | None, run: Path, loaded: lmsl.Labeler, found: Perplexity
) -> None:
    model, text = oracle(run, string), running(loaded)
    assert len(text.windows) > 2
    total = 0.0
    for window in text.windows:
        ids = [*text.bos, *text.ids[window.first : window.last]]
        total += loss(model, ids, len(text.bos) + window.predicted - window.first)
    assert found.states[state].whole == pytest.approx(total / found.tokens, rel=1e-5)


@pytest.mark.parametrize(
    ("state", "string"), [("base", None), ("own", "0110"), ("causal", "0000")]
)
def test_sampled_tokens_are_predicted_from_what_precedes_them_alone(
    state: Any, string: str | None, run: Path, loaded: lmsl.Labeler, found: Perplexity
) -> None:
    model, text = oracle(run, string), running(loaded)
    predicted = [(w.first, t) for w in text.windows for t in range(w.predicted, w.last)]
    some = [predicted[place] for place in spread(len(predicted), SAMPLE)]
    assert found.sample == len(some) == SAMPLE
    by_hand = [
        -float(next_logs(model, [*text.bos, *text.ids[first:token]])[int(text.ids[token])])
        for first, token in some
    ]
    assert found.states[state].sampled == pytest.approx(float(np.mean(by_hand)), rel=1e-5)


@pytest.mark.parametrize(
    ("state", "string"), [("base", None), ("own", "0110"), ("causal", "0000")]
)
def test_continuations_are_the_most_probable_tokens_one_by_one(
    state: Any, string: str | None, run: Path, loaded: lmsl.Labeler, found: Perplexity
) -> None:
    model, bos = oracle(run, string), loaded._aligner.bos
    continuations = found.states[state].continuations
    assert len(found.prompts) == len(continuations) == 3
    for prompt, continuation in zip(found.prompts, continuations, strict=True):
        ids = [*bos, *loaded._aligner.text(prompt)[0]]
        for _ in range(6):
            ids.append(int(next_logs(model, ids).argmax()))
        assert loaded._aligner.spelt(ids[len(bos) :]) == prompt + continuation
        assert prompt.strip() in TEXT and len(ids) <= len(bos) + module.PROMPT + 6


def test_states_differ_and_no_number_is_of_one_forward_that_sees_what_it_predicts(
    found: Perplexity,
) -> None:
    assert len({round(state.sampled, 3) for state in found.states.values()}) == 3
    assert found.states["own"].whole is None
    assert "perplexity" not in found.to_json()["states"]["own"]


def test_rates_are_of_all_tokens_and_bytes(found: Perplexity, loaded: lmsl.Labeler) -> None:
    ids, _ = loaded._aligner.text(TEXT)
    assert loaded._aligner.bos, "so that the first token is predicted too"
    assert found.tokens == len(ids) and found.bytes == len(TEXT.encode())
    rates = found.rates(2.0)
    assert rates["perplexity"] == pytest.approx(math.e**2)
    assert rates["bits_per_byte"] == pytest.approx(2 / math.log(2) * len(ids) / len(TEXT.encode()))


def test_without_a_token_before_every_text_the_first_one_is_not_predicted(
    loaded: lmsl.Labeler, monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    ids, first = loaded._aligner.text("é" + TEXT)
    monkeypatch.setattr(loaded._aligner, "bos", [])
    found = perplexity(loaded, "é" + TEXT, continued=0)
    assert found.tokens == len(ids) - 1
    assert found.bytes == len(("é" + TEXT)[first:].encode()) and first == 1
    assert found.prompts == () and found.states["base"].continuations == ()


def test_under_a_causal_string_own_and_masked_are_one(
    loaded: lmsl.Labeler, monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    monkeypatch.setattr(loaded, "info", replace(loaded.info, unmask="0000"))
    states = perplexity(loaded, TEXT, continued=3).states
    assert states["own"].sampled == pytest.approx(states["causal"].sampled, rel=1e-5)
    assert states["own"].continuations == states["causal"].continuations
    assert states["base"].sampled != pytest.approx(states["own"].sampled, rel=1e-3)


def test_nothing_stays_behind(loaded: lmsl.Labeler, small: None) -> None:
    words = [TEXT.split()]
    before = loaded.tag([loaded.sentence(words[0])]).decoded[0].scores
    scalings = {layer.scaling for layer in stacked_layers(loaded._causal_lm).values()}
    perplexity(loaded, TEXT, continued=1)
    assert lmsl.probe(loaded._causal_lm) == [False, False, True, True, True, True, False, False]
    assert {layer.scaling for layer in stacked_layers(loaded._causal_lm).values()} == scalings
    assert loaded.tag([loaded.sentence(words[0])]).decoded[0].scores == before
    state = LanguageModel(loaded._causal_lm, CPU, None, 99).state([True] * 8, adapted=False)
    with pytest.raises(RuntimeError, match="inside"), state:
        assert lmsl.probe(loaded._causal_lm) == [True] * 8
        raise RuntimeError("inside")
    assert {layer.scaling for layer in stacked_layers(loaded._causal_lm).values()} == scalings


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"gptj", "codegen", "gemma3_text"}))
def test_logits_are_those_of_the_model_whatever_it_does_to_them(family: str) -> None:
    """Windows, softcaps before and behind the head, tied and untied heads; packs of any cut."""
    config = build(family).config
    torch.manual_seed(1)
    model = lmsl.unmask(AutoModelForCausalLM.from_config(config).eval(), "0101")
    text = RunningText(ids=np.arange(3, 23, dtype=np.int32), bos=[1], windows=())
    prefixes = [text.prefix(first, last) for first, last in ((0, 1), (0, 20), (5, 12), (2, 3))]
    by_hand = [next_logs(model, one.ids) for one in prefixes]
    for budget in (1, 30, 999):
        language = LanguageModel(model, CPU, None, budget)
        targets = [np.array([logs.argmax()], dtype=np.int32) for logs in by_hand]
        with language.state([False, True, False, True], adapted=True):
            lost = language.losses(prefixes, targets)
        assert lost.tolist() == pytest.approx([-float(logs.max()) for logs in by_hand], abs=1e-4)


def test_what_is_not_finite_is_refused(loaded: lmsl.Labeler, small: None) -> None:
    norm = loaded._causal_lm.model.norm.weight.data
    kept = norm[5].item()
    norm[5] = math.nan
    try:
        with pytest.raises(InputError, match="expected finite probabilities"):
            perplexity(loaded, TEXT, continued=0)
    finally:
        norm[5] = kept


class TestCommand:
    def test_a_text_alone_and_beside_labelled_data(
        self,
        run: Path,
        data: Path,
        tmp_path: Path,
        small: None,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        text = tmp_path / "text.txt"
        text.write_text(TEXT, encoding="utf-8")
        flags = ["--perplexity", str(text), "--continuations", "2", "--device", "cpu"]
        capsys.readouterr()
        assert main(["evaluate", str(run), *flags]) == 0
        alone = capsys.readouterr()
        states = json.loads(alone.out)["perplexity"]["states"]
        assert json.loads(alone.out).keys() == {"perplexity"}
        assert list(states) == ["base", "own", "causal"] and states["own"]["unmask"] == "0110"
        assert f"base alone: perplexity {states['base']['perplexity']:.2f}, " in alone.err
        assert "adapter under 0110, sampled tokens from what precedes them alone: " in alone.err
        file = data / "dev.conll"
        both = evaluated(run, file, capsys, *flags)
        assert both.pop("perplexity") == json.loads(alone.out)["perplexity"]
        assert both == evaluated(run, file, capsys)

    def test_what_cannot_be_measured(
        self, run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = ["evaluate", str(run), "--device", "cpu"]
        texts = written(tmp_path, empty=" \n", binary="a\0b", short="e")
        short = str(texts / "short.conll")
        refused(capsys, line, "evaluate: expected a file with tags, --perplexity TEXT, or both")
        for flags in (["--predictions", "p.conll"], ["--right-context"]):
            refused(capsys, [*line, "--perplexity", short, *flags], f"{flags[0]}: expected a file")
        for name, words in (("none", "no such"), ("empty", "is empty"), ("binary", "NUL")):
            refused(capsys, [*line, "--perplexity", str(texts / f"{name}.conll")], words)
        refused(capsys, [*line, "--perplexity", short], "two or more tokens, got 1")
        refused(capsys, [*line, "--perplexity", short, "--continuations", "-1"], "0 or more")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"exit_layer": 4}, "the run has the first 4 layers of its base alone"),
            ({"lora": None}, "all weights of the run were trained (--tune full)"),
        ],
    )
    def test_a_run_whose_base_is_no_language_model(
        self,
        change: dict[str, Any],
        words: str,
        run: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        folder = Path(shutil.copytree(run, tmp_path / "run"))
        document = json.loads((folder / "lmsl.json").read_text(encoding="utf-8"))
        (folder / "lmsl.json").write_text(json.dumps(document | change))
        line = ["evaluate", str(signed(folder)), "--perplexity", "none.txt"]
        refused(capsys, line, words)
