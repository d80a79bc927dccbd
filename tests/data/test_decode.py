"""Decoding and span probabilities against brute force over all label sequences."""

from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities

import lmsl.data.tags.decode as module
from lmsl.data.tags.decode import Decoded, decode, rescored
from lmsl.data.tags.distribution import Alone, Chain, Floats, Places, inside, tempered
from lmsl.data.tags.sentence import Span
from lmsl.data.tags.vocabulary import LabelSet

TYPES = ("LOC", "Ünïcode-x", "a b")


def label_set(types: int) -> LabelSet:
    return LabelSet(("O", *(f"{p}-{t}" for t in TYPES[:types] for p in "BI")))


def random_emissions(rng: np.random.Generator, words: int, classes: int) -> Floats:
    scores = rng.normal(scale=2.0, size=(words, classes))
    normal: Floats = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    return normal


def unread(emissions: Floats, words: list[int]) -> Floats:
    emissions[words] = -np.inf
    emissions[words, 0] = 0.0
    return emissions


def is_valid(tags: tuple[str, ...]) -> bool:
    pairs = zip(("O", *tags), tags, strict=False)
    return all(tag[0] != "I" or before in (f"B{tag[1:]}", tag) for before, tag in pairs)


def enumerated(emissions: Floats, labels: LabelSet) -> dict[tuple[str, ...], float]:
    """Every label sequence with the product of its words' probabilities."""
    chances = np.exp(emissions)
    return {
        tuple(labels.names[label] for label in choice): prod(
            (float(chances[word, label]) for word, label in enumerate(choice)), start=1.0
        )
        for choice in product(range(len(labels)), repeat=len(emissions))
    }


def strict_spans(tags: tuple[str, ...]) -> set[Span]:
    """Entities as seqeval reads them in strict mode."""
    found = Entities([list(tags)], IOB2).entities[0]
    return {Span(type=e.tag, start=e.start, end=e.end) for e in found}


def check(emissions: Floats, labels: LabelSet, decoder: module.Decoder) -> Decoded:
    (found,) = decode([emissions], labels, decoder)
    table = enumerated(emissions, labels)
    allowed = {t: p for t, p in table.items() if decoder == "argmax" or is_valid(t)}
    assert table[found.tags] == pytest.approx(max(allowed.values()), rel=1e-12)
    assert found.tags in allowed
    assert set(found.spans) == strict_spans(found.tags)
    total = sum(allowed.values())
    for span, score in zip(found.spans, found.scores, strict=True):
        expected = sum(p for tags, p in allowed.items() if span in strict_spans(tags)) / total
        assert score == pytest.approx(expected, rel=1e-10)
        assert 0.0 < score <= 1.0
    return found


@pytest.mark.parametrize("decoder", ["viterbi", "argmax"])
@pytest.mark.parametrize(("words", "types"), [(1, 2), (2, 3), (3, 2), (4, 1), (5, 1)])
def test_equals_brute_force(decoder: module.Decoder, words: int, types: int) -> None:
    labels = label_set(types)
    rng = np.random.default_rng(words)
    spans = 0
    for _ in range(6):
        spans += len(check(random_emissions(rng, words, len(labels)), labels, decoder).spans)
    assert spans


@pytest.mark.parametrize("decoder", ["viterbi", "argmax"])
def test_words_that_no_example_reads_are_outside(decoder: module.Decoder) -> None:
    labels = label_set(2)
    rng = np.random.default_rng(0)
    for words in ([0], [1], [3], [0, 2], [2, 3], [0, 1, 2, 3]):
        found = check(unread(random_emissions(rng, 4, 5), words), labels, decoder)
        assert all(found.tags[word] == "O" for word in words)


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=5, max_size=5), min_size=1, max_size=4),
    st.sampled_from(["viterbi", "argmax"]),
)
def test_ties_still_give_a_best_sequence(scores: list[list[int]], decoder: module.Decoder) -> None:
    """Whole numbers make many sequences equally good; any of the best will do."""
    emissions = np.array(scores, dtype=np.float64)
    emissions -= np.log(np.exp(emissions).sum(-1, keepdims=True))
    check(emissions, label_set(2), decoder)


@pytest.mark.parametrize("types", [0, 1, 2])
def test_all_equal_scores(types: int) -> None:
    labels = label_set(types)
    check(np.full((3, len(labels)), -np.log(len(labels))), labels, "viterbi")


def test_viterbi_repairs_what_argmax_gets_wrong() -> None:
    labels = label_set(2)
    emissions = np.log([[0.4, 0.3, 0.1, 0.1, 0.1], [0.1, 0.05, 0.75, 0.05, 0.05]])
    alone, best = (check(emissions, labels, d) for d in ("argmax", "viterbi"))
    assert alone.tags == ("O", "I-LOC") and alone.spans == ()
    assert best.tags == ("B-LOC", "I-LOC")


def test_spans_at_a_word_and_outside_sum_to_one() -> None:
    """Of all spans over the last word and of none there, exactly one is the case."""
    labels, rng = label_set(2), np.random.default_rng(3)
    emissions = random_emissions(rng, 4, len(labels))
    chain = Chain(emissions[None])
    sums = chain._sums()
    outside = float(np.exp(sums.before[0, -1, 0] - sums.total[0]))
    spans = Places(
        rows=np.zeros(8, dtype=np.int64),
        starts=np.tile(np.arange(4), 2),
        ends=np.full(8, 4),
        begins=np.repeat([1, 3], 4),
    )
    chances = chain.scores(spans, inside(emissions[None], spans))
    assert len(chances) == 8 and len(labels) == 5
    assert sum(chances) + outside == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("kind", [Chain, Alone])
def test_what_is_begun_there_or_goes_on_is_what_the_spans_from_there_sum_to(
    kind: type[Chain | Alone],
) -> None:
    """Of spans that begin at a word each ends somewhere, so nothing is left over."""
    rng, words = np.random.default_rng(4), 5
    emissions = np.stack([random_emissions(rng, words, 7), random_emissions(rng, words, 7)])
    distribution = kind(emissions)
    for row, start, number in product(range(2), range(words), range(3)):
        ends = np.arange(start + 1, words + 1)
        spans = Places(
            rows=np.full(len(ends), row),
            starts=np.full(len(ends), start),
            ends=ends,
            begins=np.full(len(ends), 2 * number + 1),
        )
        within = inside(emissions, spans)
        scores = distribution.scores(spans, within)
        begun = np.exp(distribution.begun()[row, start, number])
        assert begun == pytest.approx(scores.sum(), rel=1e-12)
        going = np.exp(distribution.going(spans, within))
        assert_allclose(going, scores[::-1].cumsum()[::-1], rtol=1e-12)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(1 / 8, 8),
    st.sampled_from(["viterbi", "argmax"]),
    st.integers(1, 3),
)
def test_a_temperature_changes_scores_and_no_tag(
    seed: int, temperature: float, decoder: module.Decoder, types: int
) -> None:
    """Decoded from what the temperature makes of the words, too: a word's labels keep their order,
    and what normalising takes from a word it takes from every sequence."""
    labels, rng = label_set(types), np.random.default_rng(seed)
    emissions = [random_emissions(rng, words, len(labels)) for words in (4, 1, 9, 0)]
    unread(emissions[0], [2])
    found = decode(emissions, labels, decoder, temperature=temperature)
    plain = decode(emissions, labels, decoder)
    made = [tempered(each, temperature) for each in emissions]
    for each in made:
        assert_allclose(np.exp(each).sum(-1), 1.0, rtol=1e-12)
    from_made = decode(made, labels, decoder)
    for own, one, other in zip(found, plain, from_made, strict=True):
        assert (own.tags, own.spans) == (one.tags, one.spans) == (other.tags, other.spans)
        assert_allclose(own.scores, other.scores, rtol=1e-9)
    assert rescored(plain, emissions, labels, decoder, temperature=temperature) == found
    assert rescored(found, emissions, labels, decoder, temperature=1.0) == plain


def test_a_temperature_is_what_divides_logits() -> None:
    """With one word there is nothing to add up: the softmax of logits over it is the score."""
    logits = np.array([1.0, 3.0, -2.0])
    emissions = logits - np.log(np.exp(logits).sum())
    (found,) = decode([emissions[None]], label_set(1), "argmax", temperature=2.5)
    hot = np.exp(logits / 2.5)
    assert found.scores[0] == pytest.approx(hot[1] / hot.sum(), rel=1e-12)


def test_temperature_one_leaves_every_bit() -> None:
    emissions = random_emissions(np.random.default_rng(5), 6, 5)
    assert tempered(emissions, 1.0) is emissions


@pytest.mark.parametrize("decoder", ["viterbi", "argmax"])
def test_no_sentences_and_no_words(decoder: module.Decoder) -> None:
    labels = label_set(1)
    assert decode([], labels, decoder) == []
    nothing = Decoded(tags=(), spans=(), scores=())
    assert decode([np.zeros((0, 3))], labels, decoder) == [nothing]
    mixed = decode([np.zeros((0, 3)), np.log([[0.1, 0.8, 0.1]])], labels, decoder)
    assert [each.tags for each in mixed] == [(), ("B-LOC",)]
    assert mixed[1].scores[0] == pytest.approx(0.8 if decoder == "argmax" else 0.8 / 0.9)


@pytest.mark.parametrize("decoder", ["viterbi", "argmax"])
@pytest.mark.parametrize("cells", [1, 200, 1 << 21], ids=["alone", "groups", "one group"])
def test_company_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, decoder: module.Decoder, cells: int
) -> None:
    labels, rng = label_set(3), np.random.default_rng(1)
    lengths = (7, 0, 1, 30, 2, 2, 13, 0, 64, 1)
    emissions = [random_emissions(rng, length, len(labels)) for length in lengths]
    unread(emissions[3], [0, 5, 29])
    single = [decode([each], labels, decoder)[0] for each in emissions]
    monkeypatch.setattr(module, "_CELLS_PER_GROUP", cells)
    together = decode(emissions, labels, decoder)
    for alone, grouped in zip(single, together, strict=True):
        assert (alone.tags, alone.spans) == (grouped.tags, grouped.spans)
        assert_allclose(grouped.scores, alone.scores, rtol=1e-12, atol=0)


def test_plain_labels_are_taken_word_by_word() -> None:
    labels = LabelSet(("O", "B-x", "I-x", "NOUN", "VERB"), plain=True)
    emissions = np.log([[0.1, 0.1, 0.6, 0.1, 0.1], [0.1, 0.2, 0.1, 0.5, 0.1]])
    for decoder in ("viterbi", "argmax"):
        (found,) = decode([emissions], labels, decoder)
        assert found == Decoded(tags=("I-x", "NOUN"), spans=(), scores=())


def test_a_long_sentence_neither_underflows_nor_loses_its_ends() -> None:
    """The probability of all of it is far below what a float holds; that of a span is not."""
    labels, words = label_set(1), 3000
    emissions = np.tile(np.log([0.4, 0.3, 0.3]), (words, 1))
    emissions[0] = np.log([0.001, 0.998, 0.001])
    emissions[-1] = np.log([0.001, 0.998, 0.001])
    (found,) = decode([emissions], labels, "viterbi")
    assert (found.spans[0].start, found.spans[-1].end) == (0, words)
    assert all(0.0 < score <= 1.0 for score in found.scores)
    assert found.scores[-1] > 0.99


def test_the_oracle_reads_spans_as_expected() -> None:
    tags = ("B-LOC", "I-LOC", "O", "I-LOC", "B-a b", "I-LOC")
    expected = {Span(type="LOC", start=0, end=2), Span(type="a b", start=4, end=5)}
    assert strict_spans(tags) == expected
    assert ("LOC", 3, 3) in get_entities(list(tags)), "the lenient reading differs"
