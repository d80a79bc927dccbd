"""Predictions without the right context: exactly those of sentences that end with the word, none
of them other where a run is causal, and as many others as the data has right context to offer."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lmsl
from lmsl.cli import main
from lmsl.data import phrases
from lmsl.data.synthetic import generate, name_words
from lmsl.data.tags.sentence import Dataset
from lmsl.data.write import write_columns
from lmsl.mask.unmasking import unmask_runs
from lmsl.packs.examples import Example
from lmsl.packs.packing import Room
from lmsl.tagger.base import load_tokenizer
from lmsl.tagger.inference import Batch
from lmsl.tagger.right_context import changes, without_right_context
from tests.small_runs import evaluated

NAMES = frozenset(name_words("test"))


def measured(labeler: lmsl.Labeler, dataset: Dataset) -> dict[str, Any]:
    tagged = labeler.tag(dataset.sentences)
    without = without_right_context(labeler, dataset.sentences, tagged)
    found = changes(dataset, tagged, without).to_json()
    return found | {"metrics": labeler.metrics(dataset, without)}


def other(labeler: lmsl.Labeler, **settings: Any) -> lmsl.Labeler:
    """The same run as if it had been trained with other settings."""
    info = replace(labeler.info, **settings)
    labeler.tagger.label_at = info.label_at
    return lmsl.Labeler(labeler.tagger, labeler._aligner, info, labeler.device, None)


def one_clause(dial: float, size: int = 40) -> Dataset:
    """Sentences of the test split that have one name; whether its cue is to the right is told by
    the words."""
    dataset = generate("test", dial, 2 * size)
    some = [sentence for sentence in dataset if ";" not in sentence.words][:size]
    return replace(dataset, sentences=tuple(some))


def cue(text: str) -> tuple[str, int] | None:
    """The type that a text states, and where."""
    for kind, nouns in phrases.CUE_NOUNS.items():
        for frame in phrases.DECIDING_FRAMES:
            for noun in nouns:
                for article in ("a", "an"):
                    if (place := text.find(f", {frame} {article} {noun} ,")) >= 0:
                        return kind, place
    return None


class ByRule:
    """Answers as somebody would who knows the rule of the generated data: a name is of the type
    that the text states, to the left or to the right, and nothing where it states none."""

    def __init__(self, labeler: lmsl.Labeler) -> None:
        self.tagger, self.device = labeler.tagger, labeler.device
        self._tokenizer, self._labels = load_tokenizer("tiny"), labeler.info.labels

    def room(self, examples: Sequence[Sequence[Example]], budget: int) -> Room | None:
        return None

    def __call__(self, batch: Batch) -> Tensor:
        rows = [row for example in batch.examples for row in self._rows(example)]
        return torch.stack(rows)[None]

    def _rows(self, example: Example) -> list[Tensor]:
        told = cue(self._text(example.ids))
        rows = []
        for start, end in zip(example.starts, example.ends, strict=True):
            before = self._text(example.ids[:start]).split()
            label = "O"
            if self._text(example.ids[start:end]).strip() in NAMES and told is not None:
                label = ("I-" if before[-1] in NAMES else "B-") + told[0]
            row = torch.full((len(self._labels),), -50.0, dtype=torch.float64)
            row[self._labels.ids([label])[0]] = 0.0
            rows.append(row)
        return rows

    def _text(self, ids: Any) -> str:
        found: str = self._tokenizer.decode(
            ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return found


@pytest.fixture(scope="module")
def ruled(labeler: lmsl.Labeler) -> lmsl.Labeler:
    return lmsl.Labeler(
        labeler.tagger, labeler._aligner, labeler.info, labeler.device, None, ByRule(labeler)
    )


def test_it_rises_with_the_dial_as_the_data_says(ruled: lmsl.Labeler) -> None:
    shares = []
    for dial in (0.0, 0.3, 0.7, 1.0):
        dataset = one_clause(dial)
        expected = dict.fromkeys(sorted(phrases.CUE_NOUNS), 0)
        for sentence in dataset:
            told, first = cue(" ".join(sentence.words)), sentence.words[0]
            assert told is not None and first not in NAMES
            names = [word for word in sentence.words if word in NAMES]
            if told[1] > " ".join(sentence.words).index(names[0]):
                expected[told[0]] += len(names)
        found = measured(ruled, dataset)
        assert ruled.evaluate(dataset)["f1"] == 1.0, "the rule is right where it sees everything"
        per_type = found["per_type"]
        assert {kind: per_type[kind]["changed"] for kind in expected} == expected
        assert per_type["O"]["changed"] == 0 and found["changed"] == sum(expected.values())
        assert found["words"] == sum(len(sentence.words) for sentence in dataset)
        assert found["metrics"]["precision"] in (0.0, 1.0), "what it still finds is right"
        missed = round(40 * (1 - found["metrics"]["recall"]))
        assert found["metrics"]["correct"] == 40 - missed
        shares.append(found["changed"])
    assert shares[0] == 0 < shares[1] < shares[2] < shares[3]
    assert shares[3] == sum(word in NAMES for s in one_clause(1.0) for word in s.words)


@pytest.fixture(scope="module")
def causal(talkative_run: Path) -> lmsl.Labeler:
    """The run that finds entities everywhere, with the mask put back."""
    labeler = lmsl.Labeler.load(talkative_run, device="cpu")
    unmask_runs(labeler.tagger.decoder, [[False] * labeler.tagger.depth], attention="auto")
    return labeler


@pytest.mark.parametrize("label_at", ["first", "last", "mean"])
@pytest.mark.parametrize("decode", ["argmax", "viterbi"])
def test_a_causal_run_changes_nothing(label_at: Any, decode: Any, causal: lmsl.Labeler) -> None:
    own = other(causal, label_at=label_at, decode=decode, max_length=48, overflow="window")
    dataset = generate("test", 0.8, 8)
    whole = own.evaluate(dataset)
    found = measured(own, dataset)
    assert max(len(own._aligner.encode([s.words])[0].ids) for s in dataset) > 48
    assert found["changed"] == 0 and found["share"] == 0.0
    # Tags are the same; their probabilities are to rounding, in packs of other lengths.
    error, whole_error = (m.pop("calibration")["ece"] for m in (found["metrics"], whole))
    assert error == pytest.approx(whole_error, abs=1e-4)
    assert found["metrics"] == whole and whole["predicted"] > 20


def test_repetition_is_right_context_too(causal: lmsl.Labeler) -> None:
    """A causal run that reads the sentence twice has seen in the first copy what follows."""
    dataset = generate("test", 0.8, 6)
    assert measured(other(causal, repeat=1), dataset)["changed"] > 0


@pytest.mark.parametrize("decode", ["argmax", "viterbi"])
def test_each_tag_is_that_of_the_sentence_up_to_its_word(
    decode: Any, labeler: lmsl.Labeler
) -> None:
    own = other(labeler, decode=decode)
    dataset = generate("dev", 0.8, 4)
    tagged = own.tag(dataset.sentences)
    without = without_right_context(own, dataset.sentences, tagged)
    assert measured(own, dataset)["changed"] > 0
    for sentence, found in zip(dataset, without.decoded, strict=True):
        ends = range(1, len(sentence.words) + 1)
        cut = own.predict_tags([sentence.words[:end] for end in ends])
        if decode == "argmax":
            assert list(found.tags) == [tags[-1] for tags in cut]
        pairs = zip(("O", *found.tags), found.tags, strict=False)
        if decode == "viterbi":
            assert all(tag[:2] != "I-" or before[2:] == tag[2:] for before, tag in pairs)


def test_words_without_a_label_and_unread_ones_do_not_count(labeler: lmsl.Labeler) -> None:
    (one,) = generate("dev", 0.8, 1).sentences
    ignored = replace(one, tags=("\0ignored",) * len(one.words))
    dataset = Dataset(sentences=(ignored,), plain=False, source="x")
    found = measured(labeler, dataset)
    assert found["words"] == 0 and found["share"] == 0.0 and found["per_type"] == {}


def test_by_the_command(
    talkative_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences = generate("test", 0.8, 8).sentences
    file = tmp_path / "test.conll"
    write_columns(file, sentences, [sentence.tags or () for sentence in sentences])
    plain = evaluated(talkative_run, file, capsys)
    assert main(["evaluate", str(talkative_run), str(file), "--right-context"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    without = found.pop("right_context")
    assert found == plain and without["metrics"].keys() == plain.keys()
    assert 0 < without["changed"] == sum(each["changed"] for each in without["per_type"].values())
    said = f"without the right context {without['changed']} of {without['words']} tags change"
    assert said in captured.err and f"F1 {100 * plain['f1']:.2f} becomes" in captured.err


@pytest.mark.slow
def test_a_trained_run_needs_it_the_more_the_higher_the_dial(tmp_path: Path) -> None:
    """Half of the cues to the right in training, so that it learns to look both ways."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split, size in (("train", 1600), ("dev", 100)):
        sentences = generate(split, 0.5, size).sentences
        write_columns(folder / f"{split}.conll", sentences, [s.tags or () for s in sentences])
    run = tmp_path / "run"
    named = ["--data", str(folder), "--output", str(run), "--device", "cpu"]
    assert main(["train", "--unmask", "0011", *named]) == 0
    labeler = lmsl.Labeler.load(run, device="cpu")
    shares = []
    for dial in (0.0, 0.5, 1.0):
        dataset = generate("test", dial, 60)
        assert labeler.evaluate(dataset)["f1"] > 0.9
        found = measured(labeler, dataset)
        inside = [found["per_type"][kind] for kind in phrases.CUE_NOUNS]
        shares.append(
            sum(each["changed"] for each in inside) / sum(each["words"] for each in inside)
        )
    assert shares[0] < shares[1] - 0.1 and shares[1] < shares[2] - 0.1, shares
