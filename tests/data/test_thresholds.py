"""Spans by threshold, against all spans of all label sequences."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lmsl.data.tags.thresholds as module
from lmsl.data.tags.decode import Decoder, decode
from lmsl.data.tags.distribution import Alone, Chain, Floats
from lmsl.data.tags.schemes import tag_spans
from lmsl.data.tags.sentence import Span
from lmsl.data.tags.thresholds import DEFAULT, LEAST, thresholds_of
from lmsl.data.tags.vocabulary import LabelSet
from lmsl.errors import InputError
from tests.data.test_decode import enumerated, is_valid, label_set, random_emissions, unread


def all_spans(emissions: Floats, labels: LabelSet, decoder: Decoder) -> dict[Span, float]:
    """Every span that some sequence holds, with its probability."""
    table = enumerated(emissions, labels)
    allowed = {t: p for t, p in table.items() if decoder == "argmax" or is_valid(t)}
    total = sum(allowed.values())
    found: dict[Span, float] = {}
    for tags, chance in allowed.items():
        for span in tag_spans(tags):
            found[span] = found.get(span, 0.0) + chance / total
    return found


def taken(
    spans: dict[Span, float], least: dict[str, float], labels: LabelSet
) -> dict[Span, float]:
    """By the words of the task: by falling probability, without overlap."""
    order = {kind: number for number, kind in enumerate(labels.types)}
    ranked = sorted(spans, key=lambda s: (-spans[s], s.start, s.end, order[s.type]))
    kept: list[Span] = []
    for span in ranked:
        free = all(span.end <= other.start or other.end <= span.start for other in kept)
        if spans[span] >= least[span.type] and free:
            kept.append(span)
    return {span: spans[span] for span in sorted(kept)}


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.integers(1, 2),
    st.sampled_from(["viterbi", "argmax"]),
    st.lists(st.floats(0.02, 0.9), min_size=2, max_size=2),
    st.sampled_from([0.3, 1.0, 3.0]),
)
def test_equals_brute_force(
    seed: int, words: int, types: int, decoder: Decoder, least: list[float], spread: float
) -> None:
    labels, rng = label_set(types), np.random.default_rng(seed)
    emissions = random_emissions(rng, words, len(labels)) * spread
    emissions -= np.log(np.exp(emissions).sum(-1, keepdims=True))
    if words == 4:
        unread(emissions, [int(rng.integers(4))])
    asked = dict(zip(labels.types, least, strict=False))
    expected = taken(all_spans(emissions, labels, decoder), asked, labels)
    thresholds = thresholds_of(asked, labels)
    # Among others, longer and shorter, that pad it.
    group = [random_emissions(rng, n, len(labels)) for n in (0, 6)]
    found = decode([group[0], emissions, group[1]], labels, decoder, thresholds=thresholds)[1]
    assert dict(zip(found.spans, found.scores, strict=True)) == pytest.approx(expected, rel=1e-9)
    assert list(found.spans) == list(expected)
    assert tuple(tag_spans(found.tags)) == found.spans and len(found.tags) == words
    assert {tag for tag in found.tags if tag[0] == "I"} <= {f"I-{s.type}" for s in found.spans}


@pytest.mark.parametrize("decoder", ["viterbi", "argmax"])
def test_low_ones_find_more_and_high_ones_less_than_the_best_sequence(decoder: Decoder) -> None:
    labels, rng = label_set(3), np.random.default_rng(8)
    emissions = [random_emissions(rng, 12, len(labels)) for _ in range(40)]
    counts = []
    for threshold in (LEAST, 0.1, 0.5, 0.9, 1.0):
        least = thresholds_of(threshold, labels)
        found = decode(emissions, labels, decoder, thresholds=least)
        counts.append(sum(len(each.spans) for each in found))
        assert min((s for each in found for s in each.scores if s), default=1) >= threshold
    best = sum(len(each.spans) for each in decode(emissions, labels, decoder))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[1] > best > counts[3] > counts[4] == 0


@pytest.mark.parametrize("decoder", ["viterbi", "argmax"])
def test_those_of_a_threshold_are_those_of_a_lower_one_that_are_at_least_it(
    decoder: Decoder,
) -> None:
    labels, rng = label_set(2), np.random.default_rng(9)
    emissions = [random_emissions(rng, 9, len(labels)) for _ in range(50)]
    lowest = decode(emissions, labels, decoder, thresholds=thresholds_of(LEAST, labels))
    scores = sorted({score for each in lowest for score in each.scores if score is not None})
    assert len(scores) > 300
    for threshold in (*scores[::40], 0.5):
        found = decode(emissions, labels, decoder, thresholds=thresholds_of(threshold, labels))
        for own, low in zip(found, lowest, strict=True):
            pairs = zip(low.spans, low.scores, strict=True)
            kept = [(span, score) for span, score in pairs if score and score >= threshold]
            assert list(zip(own.spans, own.scores, strict=True)) == kept


def test_spans_over_a_word_sum_to_one_at_most() -> None:
    """So nothing overlaps above a half, and few beginnings are ever looked at."""
    labels, rng = label_set(2), np.random.default_rng(10)
    for decoder in ("viterbi", "argmax"):
        spans = all_spans(random_emissions(rng, 5, len(labels)), labels, decoder)
        for word in range(5):
            over = [chance for s, chance in spans.items() if s.start <= word < s.end]
            assert 0.1 < sum(over) <= 1 + 1e-12


def test_nothing_improbable_is_extended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand words of one label after another: all pairs of ends would be half a million."""
    asked: list[int] = []
    scores = Chain.scores

    def counting(self: Chain, spans: Any, within: Floats) -> Floats:
        asked.append(len(spans))
        return scores(self, spans, within)

    monkeypatch.setattr(Chain, "scores", counting)
    words, threshold = 1000, 0.01
    emissions = np.tile(np.log([0.4, 0.3, 0.3]), (words, 1))
    decode([emissions], label_set(1), "viterbi", thresholds=np.array([threshold]))
    assert 0 < sum(asked) <= words / threshold / 10


def test_of_equal_ones_the_first_then_the_shorter_then_the_first_label() -> None:
    labels = label_set(2)
    # B-LOC and B-Ünïcode-x are equal at the only word, and probable enough together or alone.
    emissions = np.log([[0.2, 0.4, 1e-30, 0.4, 1e-30]])
    for decoder in ("viterbi", "argmax"):
        (found,) = decode([emissions], labels, decoder, thresholds=np.array([0.3, 0.3]))
        assert found.spans == (Span(start=0, end=1, type="LOC"),)
    # One word or two, as probable: the second goes on with a half.
    spans = module.probable_spans(
        Alone(np.log([[[0.01, 0.99, 1e-30], [0.5, 1e-30, 0.5]]])), np.array([0.1])
    )[0]
    assert (spans.starts.tolist(), spans.ends.tolist()) == ([0], [1])
    # Two that overlap and begin one after the other.
    chances = [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    with np.errstate(divide="ignore"):
        spans, scores = module.probable_spans(Alone(np.log([chances])), np.array([0.2]))
    # From the first word one or two are as probable, 0.25; two would lie over what is 0.5.
    assert (spans.starts.tolist(), spans.ends.tolist()) == ([0, 1], [1, 2])
    assert scores.tolist() == [0.25, 0.5]


@pytest.mark.parametrize("decoder", ["viterbi", "argmax"])
def test_no_sentences_no_words_and_no_types(decoder: Decoder) -> None:
    for types, sentences in product((0, 1), ([], [0], [0, 0, 3])):
        labels = label_set(types)
        emissions = [np.full((n, len(labels)), -np.log(len(labels))) for n in sentences]
        least = thresholds_of(0.9, labels)
        found = decode(emissions, labels, decoder, thresholds=least)
        assert [each.tags for each in found] == [("O",) * n for n in sentences]


def test_a_long_sentence_neither_underflows_nor_loses_its_ends() -> None:
    words = 3000
    emissions = np.tile(np.log([1e-9, 1e-9, 1 - 2e-9]), (words, 1))
    emissions[0] = np.log([1e-9, 1 - 2e-9, 1e-9])
    (found,) = decode([emissions], label_set(1), "viterbi", thresholds=np.array([0.9]))
    assert found.spans == (Span(start=0, end=words, type="LOC"),)


@pytest.mark.parametrize(
    "asked",
    [0, 0.0009, 1.0001, -1, float("nan"), float("inf"), True, "0.5", None, 10**400],
    ids=repr,
)
def test_what_is_no_threshold_is_refused(asked: Any) -> None:
    with pytest.raises(InputError, match=r"threshold: expected a number from 0.001 to 1, got "):
        thresholds_of(asked, label_set(2))
    with pytest.raises(InputError, match=r"threshold of LOC: expected a number from 0.001 to 1"):
        thresholds_of({"LOC": asked}, label_set(2))


def test_thresholds_by_type() -> None:
    labels = label_set(3)
    assert thresholds_of(1, labels).tolist() == [1.0, 1.0, 1.0]
    assert thresholds_of({"a b": 0.1}, labels).tolist() == [DEFAULT, DEFAULT, 0.1]
    assert thresholds_of({}, labels).tolist() == [DEFAULT] * 3
    with pytest.raises(
        InputError, match=r"expected types of this run \(LOC, Ünïcode-x, a b\), go"
    ):
        thresholds_of({"LOC": 0.5, "loc": 0.5}, labels)
    with pytest.raises(InputError, match="plain tags"):
        thresholds_of(0.5, LabelSet(("NOUN", "O"), plain=True))
