"""Calibration error and temperature, against counts by hand and probabilities that are known."""

import json
import math

import numpy as np
import pytest

from lmsl.data.tags.calibration import (
    BINS,
    HOTTEST,
    Judged,
    calibration,
    calibration_error,
    fitted_temperature,
    judged,
)
from lmsl.data.tags.decode import Decoded, decode, rescored
from lmsl.data.tags.schemes import IGNORED, spans_to_tags
from lmsl.data.tags.sentence import Sentence, Span
from tests.data.test_decode import label_set


def entities(*pairs: tuple[float, bool]) -> Judged:
    scores = np.array([score for score, _ in pairs], dtype=np.float64)
    return Judged(scores=scores, right=np.array([right for _, right in pairs], dtype=np.bool_))


def found(length: int, *spans: tuple[int, int, str, float]) -> Decoded:
    own = [Span(start=start, end=end, type=kind) for start, end, kind, _ in spans]
    return Decoded(
        tags=spans_to_tags(own, length), spans=tuple(own), scores=tuple(s[3] for s in spans)
    )


def sentence(*tags: str, missed: tuple[str, ...] = ()) -> Sentence:
    return Sentence(words=tuple("abcdefgh"[: len(tags)]), tags=tags, missed=missed)


def test_the_error_is_that_of_a_sum_by_hand() -> None:
    """Two bins: in one 0.7 is said and half is right, in the other 0.95 and all."""
    own = entities((0.72, True), (0.68, False), (0.74, False), (0.95, True), (0.95, True))
    # Bins 0.6 to 0.7 (0.68), 0.7 to 0.8 (0.73) and 0.9 to 1.
    expected = (1 * 0.68 + 2 * abs(0.73 - 0.5) + 2 * abs(0.95 - 1.0)) / 5
    assert calibration_error(own) == pytest.approx(expected, rel=1e-12)


def test_bins_hold_every_entity_once() -> None:
    own = entities(*((index / 100, index % 3 == 0) for index in range(101)))
    bins = calibration(own, own, 1.5)["bins"]
    assert len(bins) == BINS and [each["low"] for each in bins] == [i / 10 for i in range(10)]
    assert [each["high"] for each in bins][-2:] == [0.9, 1.0]
    assert all(set(e) == {"low", "high", "count", "confidence", "correct"} for e in bins)
    assert sum(each["count"] for each in bins) == 101 and bins[9]["count"] == 11
    assert bins[9]["confidence"] == pytest.approx(0.95)
    assert bins[9]["correct"] == pytest.approx(4 / 11), "90, 93, 96, 99"
    total = sum(each["count"] * each["correct"] for each in bins)
    assert total == pytest.approx(34), "it is a share, not a count"


def test_without_entities_nothing_is_claimed() -> None:
    document = calibration(entities(), entities(), 1.0)
    assert document["ece"] is document["ece_uncalibrated"] is None
    assert {each["count"] for each in document["bins"]} == {0}
    assert {each["confidence"] for each in document["bins"]} == {None}
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_right_is_exactly_the_words_and_the_type() -> None:
    gold = sentence("B-X", "I-X", "O", "B-Y", "B-Y", missed=("X",))
    own = found(5, (0, 2, "X", 0.9), (3, 4, "X", 0.8), (4, 5, "Y", 0.7))
    short = found(5, (0, 1, "X", 0.6), (3, 5, "Y", 0.5))
    both = judged([gold, gold, sentence()], [own, short, found(0)])
    assert both.scores.tolist() == [0.9, 0.8, 0.7, 0.6, 0.5]
    assert both.right.tolist() == [True, False, True, False, False]


def test_what_holds_a_word_without_a_label_cannot_be_judged() -> None:
    gold = sentence("B-X", "I-X", IGNORED, "B-Y")
    own = found(4, (0, 3, "X", 0.9), (3, 4, "Y", 0.7))
    both = judged([gold], [own])
    assert (both.scores.tolist(), both.right.tolist()) == ([0.7], [True])


def test_the_log_loss_of_certainties_is_finite() -> None:
    assert entities((1.0, True)).log_loss == pytest.approx(0.0, abs=1e-11)
    assert entities((1.0, False)).log_loss == pytest.approx(-math.log(1e-12), rel=1e-4)
    assert entities((0.8, True), (0.8, False)).log_loss == pytest.approx(
        -(math.log(0.8) + math.log(0.2)) / 2
    )


@pytest.mark.parametrize("bottom", [1 / 8, 0.2, 0.61, 0.99, 1.0, 1.42, 4.9, 8.0])
def test_the_bottom_of_a_valley_is_found_in_few_steps(bottom: float) -> None:
    calls: list[float] = []

    def loss(temperature: float) -> float:
        calls.append(temperature)
        return abs(math.log(temperature / bottom)) ** 1.3

    assert fitted_temperature(loss) == pytest.approx(bottom, rel=0.01)
    assert len(calls) == 21 and min(calls) >= 0.12499 and max(calls) <= HOTTEST * 1.0000001


def test_the_deeper_of_two_valleys_is_taken_and_a_plain_is_left_alone() -> None:
    def two(temperature: float) -> float:
        x = math.log(temperature)
        return min((x + 1.6) ** 2 + 0.5, (x - 1.3) ** 2)

    assert fitted_temperature(two) == pytest.approx(math.exp(1.3), rel=0.01)
    assert fitted_temperature(lambda temperature: 0.25) == 1.0


@pytest.mark.parametrize("truth", [0.5, 1.0, 2.0])
def test_a_model_whose_logits_are_off_by_a_factor_is_put_right(truth: float) -> None:
    """Tags are drawn from the words' own probabilities; what is given is those to the power of
    ``truth``, normalised. Its inverse makes them true again."""
    labels, rng = label_set(2), np.random.default_rng(0)
    sentences, given = [], []
    for _ in range(1500):
        logits = rng.normal(scale=1.5, size=(2, len(labels)))
        logits[:, 2::2] -= 50
        chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        tags = [labels.names[rng.choice(len(labels), p=own)] for own in chances]
        sentences.append(sentence(*tags))
        sharper = logits * truth
        given.append(sharper - np.log(np.exp(sharper).sum(-1, keepdims=True)))
    decoded = decode(given, labels, "viterbi")

    def at(temperature: float) -> Judged:
        again = rescored(decoded, given, labels, "viterbi", temperature=temperature)
        return judged(sentences, again)

    temperature = fitted_temperature(lambda t: at(t).log_loss)
    assert temperature == pytest.approx(truth, rel=0.1)
    before, after = (calibration_error(at(t)) for t in (1.0, temperature))
    assert after < 0.04 and (truth == 1.0 or before > 0.08)
