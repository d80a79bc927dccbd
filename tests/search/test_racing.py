"""Who is dropped: only whom chance cannot save, and never the leader."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from lmsl.data.synthetic import generate
from lmsl.data.tags.counts import Entities, rate, sentence_counts
from lmsl.data.tags.metrics import score
from lmsl.data.tags.schemes import IGNORED
from lmsl.data.tags.sentence import Sentence
from lmsl.search.racing import below, losers, mean_scores, surely_below_best

TAGS = ("O", "B-X", "I-X", "B-Y", "I-Y")
Counted = NDArray[np.int64]


def drawn(rate: float, seed: int, sentences: int = 200) -> Counted:
    """Two entities a sentence, each found with this probability; as many found as there are."""
    correct = np.random.default_rng(seed).binomial(2, rate, sentences)
    return np.array([[2, 2, found] for found in correct])


def interval(
    one: Sequence[Counted], other: Sequence[Counted], comparisons: int = 1
) -> tuple[float, float]:
    """Of the score of ``one`` minus that of ``other``."""
    counts = {"one": one, "other": other}
    return below(counts, "one", seed=0, comparisons=comparisons)["other"]


@pytest.mark.parametrize("plain", [False, True])
def test_counts_of_sentences_add_up_to_the_metrics(plain: bool) -> None:
    rng = random.Random(1)
    sentences, predicted = [], []
    for number, sentence in enumerate(generate("dev", 0.8, 40).sentences):
        tags = list(sentence.tags or ())
        if number % 3 == 0:
            tags[0] = IGNORED
        missed = ("X",) if number % 5 == 0 else ()
        sentences.append(Sentence(words=sentence.words, tags=tuple(tags), missed=missed))
        predicted.append([rng.choice([tag, rng.choice(TAGS)]) for tag in tags])
    counts = sentence_counts(sentences, predicted, Entities(plain=plain))
    metrics = score(sentences, predicted, plain=plain)
    assert counts.sum(0).tolist() == [metrics[key] for key in ("gold", "predicted", "correct")]
    assert mean_scores({"a": [counts]}) == {"a": pytest.approx(metrics["f1"])}


def test_no_sentences_no_entities() -> None:
    assert sentence_counts([], [], Entities(plain=False)).shape == (0, 3)
    assert rate(np.zeros(2), np.array([0, 3])).tolist() == [0.0, 0.0]
    assert mean_scores({"a": [np.zeros((4, 3), dtype=np.int64)]}) == {"a": 0.0}


def test_the_interval_covers_a_known_difference() -> None:
    low, high = interval([drawn(0.8, 1)], [drawn(0.6, 2)])
    assert low < 0.2 < high and 0.1 < high - low < 0.2
    wider = interval([drawn(0.8, 1)], [drawn(0.6, 2)], comparisons=15)
    assert wider[0] < low and wider[1] > high
    same = drawn(0.7, 3)
    assert interval([same], [same]) == (0.0, 0.0)


def test_pairs_are_kept_together() -> None:
    """A run that is worse in a few sentences and equal elsewhere: paired, that is certain."""
    one = drawn(0.6, 1)
    other = one.copy()
    worse = np.flatnonzero(one[:, 2])[:12]
    other[worse, 2] -= 1
    assert interval([one], [other])[0] > 0
    assert interval([one], [drawn(0.57, 9)])[0] < 0, "unpaired it is not"


def test_who_is_surely_below_the_best() -> None:
    rates = {"0000": 0.2, "0011": 0.9, "0101": 0.88, "1111": 0.5}
    counts = {name: [drawn(rate, place)] for place, (name, rate) in enumerate(rates.items())}
    assert surely_below_best(counts, seed=0) == ["0000", "1111"]
    alike = {f"{value:04b}": [drawn(0.4, value)] for value in range(16)}
    assert surely_below_best(alike, seed=0) == [], "equal strings differ by chance alone"


def test_the_worse_half_goes_where_it_is_worse_beyond_chance() -> None:
    rates = {"0000": 0.2, "0011": 0.9, "0101": 0.88, "1111": 0.5}
    found = losers({name: [drawn(rate, 7)] for name, rate in rates.items()}, seed=0)
    assert list(found) == ["0000", "1111"], "worst first"
    assert found["0000"].leader == "0011" and found["0000"].interval[0] > 0.5
    assert found["1111"].score < found["1111"].leader_score


def test_more_than_half_never_goes_and_one_string_stays() -> None:
    rates = {"a": 0.9, "b": 0.1, "c": 0.1, "d": 0.1, "e": 0.1}
    assert len(losers({k: [drawn(r, 7)] for k, r in rates.items()}, seed=0)) <= 3
    assert losers({"a": [drawn(0.1, 1)]}, seed=0) == {}


def test_equal_strings_are_rarely_dropped() -> None:
    """Sixteen strings of one rate: the leader leads by luck, and luck must not drop the others."""
    dropped = 0
    for repeat in range(10):
        equal = {str(n): [drawn(0.6, 100 * repeat + n)] for n in range(16)}
        dropped += len(losers(equal, seed=repeat))
    assert dropped <= 4, "of the 80 in lower halves"


def test_seeds_that_disagree_widen_the_interval() -> None:
    steady, unsteady = (
        interval(
            [drawn(0.8, n) for n in range(4)],
            [drawn(rate, 50 + n) for n, rate in enumerate(rates)],
        )
        for rates in ([0.7, 0.7, 0.7, 0.7], [0.9, 0.5, 0.9, 0.5])
    )
    assert steady[0] > 0 > unsteady[0]
