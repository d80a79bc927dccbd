"""Entity scores against seqeval's strict mode, and the cases it does not know."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import accuracy_score, classification_report
from seqeval.scheme import IOB2

from lmsl.data.tags.metrics import lost_entities, score
from lmsl.data.tags.schemes import IGNORED
from lmsl.data.tags.sentence import Sentence

TAGS = ("O", "B-X", "I-X", "B-Y", "I-Y", "B-é ü", "I-é ü")


def sentence(tags: list[str], missed: tuple[str, ...] = ()) -> Sentence:
    return Sentence(words=("w",) * len(tags), tags=tuple(tags), missed=missed)


def random_tags(rng: random.Random, sentences: int) -> list[list[str]]:
    """Tags drawn word by word, so that many an I- continues nothing."""
    return [rng.choices(TAGS, k=rng.randrange(0, 9)) for _ in range(sentences)]


def assert_as_seqeval(gold: list[list[str]], predicted: list[list[str]]) -> None:
    ours = score([sentence(tags) for tags in gold], predicted)
    theirs = classification_report(
        gold, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0
    )
    micro = theirs.pop("micro avg")
    for name, key in (("precision",) * 2, ("recall",) * 2, ("f1", "f1-score")):
        assert ours[name] == pytest.approx(micro[key], abs=1e-12)
    assert ours["gold"] == micro["support"]
    assert ours["macro_f1"] == pytest.approx(theirs.pop("macro avg")["f1-score"], abs=1e-12)
    theirs.pop("weighted avg")
    assert ours["per_type"].keys() == theirs.keys()
    for kind, rates in theirs.items():
        mine = ours["per_type"][kind]
        assert mine["f1"] == pytest.approx(rates["f1-score"], abs=1e-12)
        assert mine["precision"] == pytest.approx(rates["precision"], abs=1e-12)
        assert mine["recall"] == pytest.approx(rates["recall"], abs=1e-12)
        assert mine["gold"] == rates["support"]
    assert ours["accuracy"] == pytest.approx(accuracy_score(gold, predicted), abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_equals_seqeval_on_random_tags(seed: int) -> None:
    rng = random.Random(seed)
    gold = [*random_tags(rng, 30), ["B-X", "O"]]
    assert_as_seqeval(gold, [rng.choices(TAGS, k=len(tags)) for tags in gold])


def test_equals_seqeval_on_nearly_right_tags() -> None:
    rng = random.Random(5)
    gold = [["B-X", "I-X", "O", "B-Y", "B-Y", "I-Y", "O", "B-é ü"] for _ in range(40)]
    predicted = [[t if rng.random() < 0.9 else rng.choice(TAGS) for t in tags] for tags in gold]
    assert_as_seqeval(gold, predicted)
    assert_as_seqeval(gold, gold)


def test_right_types_at_wrong_ends_count_for_nothing() -> None:
    gold = [sentence(["B-X", "I-X", "O", "B-Y"])]
    result = score(gold, [["B-X", "I-X", "I-X", "B-X"]])
    assert (result["gold"], result["predicted"], result["correct"]) == (2, 2, 0)
    assert result["f1"] == result["precision"] == result["recall"] == 0.0


def test_missed_entities_are_gold_that_nobody_finds() -> None:
    gold = [sentence(["B-X", "O"], missed=("X", "Z")), sentence(["O"], missed=("Z",))]
    result = score(gold, [["B-X", "O"], ["O"]])
    assert (result["gold"], result["predicted"], result["correct"]) == (4, 1, 1)
    assert result["recall"] == 0.25 and result["precision"] == 1.0
    assert result["f1"] == pytest.approx(0.4)
    assert result["per_type"]["Z"]["gold"] == 2 and result["per_type"]["Z"]["f1"] == 0.0
    assert result["macro_f1"] == pytest.approx((2 / 3 + 0.0) / 2)


def test_predictions_on_words_without_a_label_do_not_count() -> None:
    gold = [sentence([IGNORED, "B-X", IGNORED, "O"])]
    result = score(gold, [["B-Y", "B-X", "I-X", "O"]])
    assert (result["gold"], result["predicted"], result["correct"]) == (1, 1, 1)
    assert result["accuracy"] == 1.0
    assert score([sentence([IGNORED])], [["B-X"]])["predicted"] == 0


def test_an_entity_begun_where_there_is_no_label_is_none() -> None:
    result = score([sentence([IGNORED, "O"])], [["B-X", "I-X"]])
    assert result["predicted"] == 0 and result["accuracy"] == 0.0


def test_plain_tags_count_words() -> None:
    gold = [sentence(["NOUN", "VERB", "O"]), sentence(["NOUN", IGNORED])]
    result = score(gold, [["NOUN", "NOUN", "O"], ["NOUN", "VERB"]], plain=True)
    assert result["accuracy"] == result["f1"] == result["precision"] == result["recall"] == 0.75
    assert result["per_type"]["NOUN"]["precision"] == pytest.approx(2 / 3)
    assert result["macro_f1"] == pytest.approx((0.8 + 0.0 + 1.0) / 3)
    # A part of speech may well look like a prefix of a span.
    assert score([sentence(["I-x"])], [["I-x"]], plain=True)["correct"] == 1


@pytest.mark.parametrize("gold", [[], [[]], [["O", "O"]]], ids=["none", "no words", "outside"])
def test_nothing_to_find(gold: list[list[str]]) -> None:
    result = score([sentence(tags) for tags in gold], gold)
    assert result["f1"] == result["macro_f1"] == 0.0 and result["per_type"] == {}
    assert result["accuracy"] == (1.0 if gold and gold[0] else 0.0)


def test_numbers_of_sentences_must_agree() -> None:
    with pytest.raises(ValueError, match="shorter"):
        score([sentence(["O"]), sentence(["O"])], [["O"]])


@settings(max_examples=60)
@given(st.lists(st.lists(st.tuples(*[st.sampled_from((*TAGS, IGNORED))] * 2), max_size=6)))
def test_rates_stay_in_bounds(pairs: list[list[tuple[str, str]]]) -> None:
    predicted = [["O" if p == IGNORED else p for _, p in words] for words in pairs]
    result = score([sentence([g for g, _ in words]) for words in pairs], predicted)
    assert result["correct"] <= min(result["gold"], result["predicted"])
    assert sum(rates["gold"] for rates in result["per_type"].values()) == result["gold"]
    for name in ("precision", "recall", "f1", "macro_f1", "accuracy"):
        assert 0.0 <= result[name] <= 1.0


def test_entities_lost_to_truncation() -> None:
    sentences = [
        sentence(["B-X", "I-X", "O", "B-Y"]),
        sentence(["O", "B-X", "I-X", "I-X"]),
        sentence(["B-X"]),
        sentence([]),
    ]
    assert lost_entities(sentences, [0, 0, 0, 0]) == 0
    assert lost_entities(sentences, [1, 0, 0, 0]) == 1
    assert lost_entities(sentences, [3, 1, 1, 0]) == 4
    assert lost_entities(sentences, [2, 0, 0, 0]) == 1
