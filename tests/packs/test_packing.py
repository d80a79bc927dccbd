"""Packs, and a tagger over packs against transformers' own eager model, sentence by sentence."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsl.config.choices import LabelAt
from lmsl.data.tags.vocabulary import IGNORED_ID
from lmsl.layers.lora import stacked_layers
from lmsl.packs.examples import Example
from lmsl.packs.packing import Pack, pack, under_budget
from lmsl.tagger import emissions as tagging
from lmsl.tagger import inference as forward
from lmsl.tagger.emissions import emissions
from lmsl.tagger.tagger import read_words
from tests.decoders import Explicit, build, use_oracle
from tests.tagger.tagger_tools import CLASSES, CPU, Built, build_tagger, example


def some_examples(sizes: list[list[int]], seed: int = 0) -> list[Example]:
    return [example(words, sentence=i, seed=seed) for i, words in enumerate(sizes)]


def sequence_lengths(batch: Pack) -> list[int]:
    """Lengths as positions tell them: a sequence begins wherever they are 0."""
    begins = np.flatnonzero(batch.positions[0].numpy() == 0)
    return np.diff(np.r_[begins, batch.positions.shape[1]]).tolist()


def test_one_run_lies_end_to_end_without_filling() -> None:
    own = some_examples([[2, 1], [1], [3, 1, 1]])
    labels = [[1, IGNORED_ID], [2], [0, 4, 3]]
    batch = pack([own], [labels], CPU)
    assert batch.ids[0].tolist() == [token for e in own for token in e.ids.tolist()]
    assert batch.positions[0].tolist() == [0, 1, 2, 3, 0, 1, 0, 1, 2, 3, 4, 5]
    assert batch.starts.tolist() == [[1, 3, 5, 7, 10, 11]]
    assert batch.ends.tolist() == [[3, 4, 6, 10, 11, 12]]
    assert batch.labels.tolist() == [[1, IGNORED_ID, 2, 0, 4, 3]]
    assert (batch.tokens, batch.words, batch.runs) == ((12,), (6,), 1)


def test_labels_of_a_window_are_those_of_its_words() -> None:
    late = example([1, 2], sentence=1, first_word=3)
    batch = pack([[late]], [[[9], [0, 1, 2, 3, 4]]], CPU)
    assert batch.labels.tolist() == [[3, 4]]
    assert pack([[late]], None, CPU).labels.tolist() == [[IGNORED_ID] * 2]


def test_runs_are_filled_to_the_same_size() -> None:
    """Filling is read by nobody and no longer than the longest sentence, which sets the cost."""
    runs = [some_examples([[3, 3], [1]]), some_examples([[1]], seed=1), []]
    labels = [[[1, 2], [3]], [[4]], []]
    batch = pack(runs, labels, CPU)
    assert batch.ids.shape == batch.positions.shape == (1, 3 * 9)
    assert (batch.tokens, batch.words) == ((9, 2, 0), (3, 1, 0))
    assert sequence_lengths(batch) == [7, 2, 2, 7, 7, 2]
    assert batch.labels.tolist() == [[1, 2, 3], [4, -100, -100], [-100] * 3]
    assert (batch.ends > batch.starts).all() and (batch.ends <= 9).all()
    assert batch.ids[0, 9:11].tolist() == runs[1][0].ids.tolist()


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(1, 9), max_size=4), min_size=1, max_size=3))
def test_filling_for_any_stack(sizes: list[list[int]]) -> None:
    if not any(sizes):
        return
    runs = [some_examples([[size] for size in own]) for own in sizes]
    lengths = sequence_lengths(pack(runs, None, CPU))
    longest = max(size + 1 for own in sizes for size in own)
    capacity = max(sum(size + 1 for size in own) for own in sizes)
    assert max(lengths) == longest
    assert sum(lengths) == len(sizes) * capacity
    # Every run begins a sequence of its own.
    edges = set(np.cumsum([0, *lengths]).tolist())
    assert {run * capacity for run in range(len(sizes) + 1)} <= edges


@settings(max_examples=40)
@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 25))
def test_budget(sizes: list[int], budget: int) -> None:
    own = some_examples([[size] for size in sizes])
    groups = [list(group) for group in under_budget(own, budget)]
    assert [e.sentence for group in groups for e in group] == list(range(len(own)))
    totals = [sum(len(e.ids) for e in group) for group in groups]
    for group, total in zip(groups, totals, strict=True):
        assert group
        assert total <= budget or len(group) == 1
    for group, total, after in zip(groups, totals, groups[1:], strict=False):
        assert total + len(after[0].ids) > budget, f"{group} has room for one more"


def oracle_words(built: Built, run: int, own: Example, string: str, at: LabelAt) -> torch.Tensor:
    """Log-probabilities of one sentence by transformers' eager model with LoRA merged in."""
    model = build("llama", num_hidden_layers=2)
    with torch.no_grad():
        for name, layer in stacked_layers(built.tagger.decoder).items():
            update = layer.lora_B[run] @ layer.lora_A[run]
            model.get_submodule(name).weight += layer.alpha / layer.rank * update
    use_oracle(model)
    ids = torch.from_numpy(own.ids).long()[None]
    bits = tuple(bit == "1" for bit in string)
    explicit = Explicit(bits, torch.ones_like(ids))
    with torch.no_grad():
        states = model(input_ids=ids, use_cache=False, explicit=explicit).last_hidden_state[0]
        read = []
        for start, end in zip(own.starts, own.ends, strict=True):
            pieces = states[int(start) : int(end)]
            read.append({"first": pieces[0], "last": pieces[-1], "mean": pieces.mean(0)}[at])
        head = built.tagger.head
        logits = torch.stack(read) @ head.weight[run].T + head.bias[run]
    return logits.log_softmax(-1)


@pytest.mark.parametrize(
    ("at", "string"),
    [("first", "00"), ("last", "01"), ("mean", "10"), ("last", "11"), ("mean", "11")],
)
def test_words_as_an_eager_model_reads_them(string: str, at: LabelAt) -> None:
    built = build_tagger((3, 4), string=string, label_at=at)
    runs = [some_examples([[2, 1, 3], [1]]), some_examples([[1], [4, 2], [1, 1]], seed=1)]
    built.tagger.eval()
    with torch.no_grad():
        logits = built.tagger(pack(runs, None, CPU))
    assert logits.dtype == torch.float32 and logits.shape == (2, 5, CLASSES)
    for run, own in enumerate(runs):
        expected = torch.cat([oracle_words(built, run, e, string, at) for e in own])
        found = logits[run, : len(expected)].log_softmax(-1)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_long_packs_lose_nothing_in_the_mean() -> None:
    """A running sum in float32 is off by 1e-3 at the end of a pack of this size."""
    own = [example([2] * 10, sentence=i) for i in range(1500)]
    batch = pack([own], None, CPU)
    states = 3 + torch.randn(1, batch.ids.shape[1], 2, generator=torch.Generator().manual_seed(0))
    firsts = batch.starts[0]
    expected = (states[0, firsts] + states[0, firsts + 1]) / 2
    torch.testing.assert_close(read_words(states, batch, "mean")[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("budget", [1, 9])
def test_emissions_whatever_the_packs(budget: int) -> None:
    """Windows of one sentence, a sentence read nowhere, one read in part."""
    built = build_tagger(string="11")
    built.tagger.train()
    own = [
        example([1, 2], sentence=0),
        example([3], sentence=0, first_word=2),
        example([2, 2], sentence=3, first_word=0),
    ]
    found = emissions(built.tagger, own, [3, 2, 0, 4], tokens_per_batch=budget, device=CPU)
    assert built.tagger.training, "the mode is as before"
    assert [len(each) for each in found] == [3, 2, 0, 4]
    for piece in own:
        expected = oracle_words(built, 0, piece, "11", "last").double().numpy()
        place = slice(piece.first_word, piece.first_word + len(expected))
        np.testing.assert_allclose(found[piece.sentence][place], expected, rtol=0, atol=2e-5)
    for unread in (found[1], found[3][2:]):
        assert (unread[:, 0] == 0.0).all() and np.isneginf(unread[:, 1:]).all()
    np.testing.assert_allclose(np.exp(found[0]).sum(-1), 1.0, rtol=1e-12)


def test_prediction_packs_sentences_of_like_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest first, stable, under the smaller of the two budgets; answers stay in order."""
    built, seen = build_tagger(), list[list[int]]()

    def recorded(examples: list[list[Example]], *others: object) -> Pack:
        seen.append([len(each.ids) for each in examples[0]])
        return pack(examples, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(forward, "pack", recorded)
    monkeypatch.setattr(tagging, "CPU_TOKENS", 8)
    own = [example([size], sentence=i) for i, size in enumerate([2, 7, 3, 2, 5, 1])]
    found = emissions(built.tagger, own, [1] * 6, tokens_per_batch=100, device=CPU)
    assert sum(map(len, seen)) == 6 and len(seen) > 1
    assert [n for sizes in seen for n in sizes] == sorted((len(e.ids) for e in own), reverse=True)
    assert all(len(sizes) == 1 or sum(sizes) <= 8 for sizes in seen)
    for piece in own:
        alone = emissions(
            built.tagger, [replace(piece, sentence=0)], [1], tokens_per_batch=1, device=CPU
        )
        np.testing.assert_allclose(found[piece.sentence], alone[0], rtol=0, atol=1e-5)
    seen.clear()
    emissions(built.tagger, own, [1] * 6, tokens_per_batch=3, device=CPU)
    assert all(len(sizes) == 1 or sum(sizes) <= 3 for sizes in seen)
