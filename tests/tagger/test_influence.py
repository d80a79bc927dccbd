"""Right-context influence by layer: what it is by definition, where it must be 0, what it says of
odd data, and the command that measures a run anew."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lmsl.cli import main
from lmsl.errors import InputError
from lmsl.packs.examples import Example
from lmsl.run_directory.influence import INFLUENCE, Influence, read_influence
from lmsl.tagger.influence import SENTENCES, WORDS, right_influence
from lmsl.tagger.tagger import Tagger
from lmsl.training import results
from tests.layers.block_tools import assembled, sentences
from tests.small_runs import refused, snapshot, train, write_data, written
from tests.tagger.tagger_tools import CPU, example

ROUNDING = 1e-6


def tagger(block: str = "own", **more: Any) -> Tagger:
    return assembled(block=block, **more).tagger


def measured(
    own: Tagger, examples: Sequence[Example], tokens: int = 4096, **more: Any
) -> Influence:
    found = right_influence(own, examples, tokens_per_batch=tokens, device=CPU, **more)
    assert found is not None
    return found


def by_definition(own: Tagger, one: Example, places: Sequence[int]) -> list[float]:
    """All layers but the last, whose hidden states transformers returns behind the final norm."""

    def states(ids: Sequence[int]) -> Tensor:
        given = torch.tensor([list(map(int, ids))])
        found = own.decoder(given, output_hidden_states=True, use_cache=False)
        return torch.stack(found.hidden_states[1:-1])[:, 0]

    own.eval()
    with torch.no_grad():
        whole = states(one.ids)
        changes = [
            (whole[:, at] - states(one.ids[: at + 1])[:, at]).norm(dim=-1)
            / whole[:, at].norm(dim=-1)
            for at in places
        ]
    return torch.stack(changes).mean(0).tolist()


@pytest.mark.parametrize(
    ("string", "block"), [("0000", "own"), ("0001", "plain"), ("0101", "own"), ("1000", "own")]
)
def test_it_is_0_below_the_first_unmasked_layer_and_not_from_there_on(
    string: str, block: str
) -> None:
    found = measured(tagger(block, string=string), sentences([6, 3, 8, 5]))
    assert len(found.layers) == 4 and found.sentences == 4
    first = string.find("1") if "1" in string else 4
    assert all(value < ROUNDING for value in found.layers[:first])
    assert all(value > 1e-3 for value in found.layers[first:])


@pytest.mark.parametrize(
    ("label_at", "block"), [("first", "own"), ("last", "plain"), ("mean", "own")]
)
def test_it_is_what_its_definition_says(label_at: str, block: str) -> None:
    one = example([2, 1, 3, 2, 1], sentence=0)
    read = one.starts if label_at == "first" else one.ends - 1
    own = tagger(block, label_at=label_at)
    found = measured(own, [one])
    assert found.positions == 4
    expected = by_definition(own, one, read[:-1].tolist())
    assert found.layers[:-1] == pytest.approx(expected, rel=1e-4, abs=ROUNDING)


def test_packs_do_not_matter() -> None:
    own, examples = tagger(), sentences([6, 1, 4, 9])
    whole = measured(own, examples)
    for tokens in (1, 12, 30):
        cut = measured(own, examples, tokens)
        assert cut.layers == pytest.approx(whole.layers, rel=1e-4, abs=ROUNDING)
        assert cut.positions == whole.positions == 5 + 3 + WORDS


def test_sentences_of_one_word_say_nothing() -> None:
    own = tagger()
    for examples in ([], sentences([1, 0, 1])):
        assert right_influence(own, examples, tokens_per_batch=99, device=CPU) is None
    assert measured(own, sentences([1, 2, 0])).positions == 1
    assert measured(own, sentences([1, 2, 0])) == measured(own, sentences([1, 2]))


@pytest.mark.parametrize("copies", [1, 3])
def test_a_long_sentence_is_cut_behind_its_fortieth_sub_word(copies: int) -> None:
    """Three sub-words a word: thirteen words fit."""
    own = tagger("own", string="1111")
    long, short = example([3] * 30), example([3] * 30)
    short = replace(short, ids=short.ids[:40], starts=short.starts[:13], ends=short.ends[:13])
    one, other = (repeated(each, copies) for each in (long, short))
    found = measured(own, [one], copies=copies)
    assert found == measured(own, [other], copies=copies)
    assert found.positions == WORDS and min(found.layers) > 1e-3
    hopeless = example([41, 2, 2])
    assert right_influence(own, [hopeless], tokens_per_batch=99, device=CPU) is None


def repeated(one: Example, copies: int) -> Example:
    shift = (copies - 1) * len(one.ids)
    ids = torch.from_numpy(one.ids).repeat(copies).numpy()
    return replace(one, ids=ids, starts=one.starts + shift, ends=one.ends + shift)


def test_many_sentences_are_sampled_from_all_of_the_data() -> None:
    own = tagger()
    first, last = sentences([2] * 50), sentences([3] * 50)
    found = measured(own, [*first, *last])
    assert found.sentences == SENTENCES and found.positions == SENTENCES // 2 * (1 + 2)
    late = measured(own, [*sentences([1] * 90), *sentences([5] * 10)])
    assert late.sentences == 10 and late.positions == 40


def test_nothing_stays_behind() -> None:
    for block in ("own", "plain"):
        own = tagger(block)
        assert own.training
        measured(own, sentences([4, 3]))
        assert own.training and all(module.training for module in own.modules())
        assert not any(module._forward_hooks for module in own.modules())


@pytest.mark.parametrize("block", ["own", "plain"])
def test_what_is_not_finite_is_refused(block: str) -> None:
    own = tagger(block)
    own.decoder.layers[2].post_attention_layernorm.weight.data[3] = math.nan
    with pytest.raises(InputError, match="finite outputs of layer 2, got nan"):
        measured(own, sentences([4, 3]))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"layers": ["x"], "positions": 1, "sentences": 1}',
        '{"layers": [NaN], "positions": 1, "sentences": 1}',
        '{"layers": [-1], "positions": 1, "sentences": 1}',
        '{"layers": [0.5]}',
    ],
)
def test_a_broken_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    assert read_influence(tmp_path) is None
    (tmp_path / INFLUENCE).write_text(text)
    with pytest.raises(
        InputError, match=r"influence\.json: expected (the influence|JSON|a JSON object)"
    ):
        read_influence(tmp_path)


class TestOfARun:
    def test_it_is_recorded_and_measured_anew_alike(
        self, run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found = read_influence(run)
        assert found is not None and found.sentences == 2 and found.positions == 2 * WORDS
        assert max(found.layers[:4]) < ROUNDING < 1e-3 < min(found.layers[4:])
        before, kept = snapshot(run), (run / INFLUENCE).read_bytes()
        capsys.readouterr()
        file = str(data / "dev.conll")
        assert main(["probe", str(run), "--data", file, "--device", "cpu"]) == 0
        said = capsys.readouterr().out.splitlines()
        assert "influence of the right context on 12 words of 2 sentences" in said[0]
        assert said[1] == "layer 0: causal, 0.0000"
        assert said[8].startswith(f"layer 7: bidirectional, {found.layers[7]:.4f}; ")
        assert snapshot(run) == before, "without --save nothing is written"
        (run / INFLUENCE).unlink()
        assert main(["probe", str(run), "--save", "--device", "cpu"]) == 0
        assert (run / INFLUENCE).read_bytes() == kept, "its own dev sentences give the same"

    def test_what_cannot_be_measured(
        self, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = written(tmp_path, words="one\tO\n\ntwo\tO\n") / "words.conll"
        refused(capsys, ["probe", "tiny", "--save"], "--save: expected a run directory")
        refused(capsys, ["probe", "tiny", "--data", "x"], "--data x: expected a run directory")
        line = ["probe", str(run), "--device", "cpu", "--data"]
        refused(capsys, [*line, str(words)], "words.conll: expected a sentence of two or more")
        refused(capsys, [*line, str(tmp_path / "none")], "none")

    def test_a_run_that_cannot_have_it_says_why_and_is_whole(
        self,
        data: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def refuse(*_: object) -> None:
            raise InputError("expected finite outputs of layer 3, got nan")

        monkeypatch.setattr(results, "labeler_influence", refuse)
        output = train(data, tmp_path / "run", "--max-steps", "1")
        said = capsys.readouterr().err
        assert "influence.json is not written: expected finite outputs of layer 3" in said
        assert not (output / INFLUENCE).exists() and (output / "lmsl.json").exists()


def test_a_dev_of_single_words_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data", {"train": 4})
    written(data, dev="Ada\tB-PER\n\nwent\tO\n")
    output = train(data, tmp_path / "run", "--max-steps", "1")
    assert "no sentence of dev has two words" in capsys.readouterr().err
    assert not (output / INFLUENCE).exists()
