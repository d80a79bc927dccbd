"""Operating points: what they promise is what decoding at their thresholds gives."""

from typing import Any

import numpy as np
import pytest

from lmsl.data.tags.decode import Decoded, Decoder, decode
from lmsl.data.tags.distribution import Floats
from lmsl.data.tags.metrics import score
from lmsl.data.tags.operating import LEVELS, operating_points
from lmsl.data.tags.schemes import IGNORED, spans_to_tags
from lmsl.data.tags.sentence import Sentence, Span
from lmsl.data.tags.thresholds import LEAST, thresholds_of
from lmsl.data.tags.vocabulary import LabelSet
from tests.data.test_decode import label_set, random_emissions

Data = tuple[list[Sentence], list[Floats], LabelSet]


def drawn(seed: int, ignored: float = 0.0, spread: float = 4.0) -> Data:
    """Sentences whose tags are drawn by the decoder's own words, so that scores tell something."""
    labels, rng = label_set(2), np.random.default_rng(seed)
    sentences, emissions = [], []
    for length in rng.integers(0, 9, size=80):
        own = random_emissions(rng, int(length), len(labels)) * spread
        own -= np.log(np.exp(own).sum(-1, keepdims=True))
        (best,) = decode([own + rng.gumbel(size=own.shape)], labels, "viterbi")
        tags = [IGNORED if rng.random() < ignored else tag for tag in best.tags]
        words = tuple(f"w{i}" for i in range(length))
        missed = ("LOC",) if rng.random() < 0.02 else ()
        sentences.append(Sentence(words=words, tags=tuple(tags), missed=missed))
        emissions.append(own)
    return sentences, emissions, labels


def decoded_at(data: Data, threshold: Any, decoder: Decoder) -> list[Decoded]:
    _, emissions, labels = data
    return decode(emissions, labels, decoder, thresholds=thresholds_of(threshold, labels))


def metrics_at(data: Data, threshold: Any, decoder: Decoder) -> dict[str, Any]:
    return score(data[0], [each.tags for each in decoded_at(data, threshold, decoder)])


def points_of(data: Data, decoder: Decoder) -> dict[str, Any]:
    return operating_points(data[0], decoded_at(data, LEAST, decoder), data[2])


def promised(own: dict[str, Any]) -> list[dict[str, Any]]:
    found = [own["best_f1"], *own["precision_at_recall"].values()]
    return [point for point in (*found, *own["recall_at_precision"].values()) if point]


def check(point: dict[str, Any], given: dict[str, Any]) -> None:
    assert {name: given[name] for name in point if name != "threshold"} == {
        name: value for name, value in point.items() if name != "threshold"
    }


@pytest.mark.parametrize("decoder", ["viterbi", "argmax"])
@pytest.mark.parametrize("ignored", [0.0, 0.15], ids=["labelled", "in part"])
def test_a_threshold_gives_what_is_printed_of_it(decoder: Decoder, ignored: float) -> None:
    """With one threshold for all types, of all types together and of each."""
    data = drawn(1, ignored)
    points = points_of(data, decoder)
    seen = 0
    for point in promised(points["all"]):
        check(point, metrics_at(data, point["threshold"], decoder))
        seen += 1
    for kind, own in points["per_type"].items():
        for point in promised(own):
            check(point, metrics_at(data, point["threshold"], decoder)["per_type"][kind])
            seen += 1
    assert seen >= 15


@pytest.mark.parametrize("decoder", ["viterbi", "argmax"])
def test_no_threshold_does_better(decoder: Decoder) -> None:
    data = drawn(2)
    points = points_of(data, decoder)["all"]
    lowest = decoded_at(data, LEAST, decoder)
    scores = sorted({score for each in lowest for score in each.scores if score is not None})
    curve = [metrics_at(data, threshold, decoder) for threshold in scores]
    assert points["best_f1"]["f1"] == max(each["f1"] for each in curve)
    for level in LEVELS:
        for asked, given in (("precision", "recall"), ("recall", "precision")):
            reached = [each[asked] for each in curve if each[given] >= float(level)]
            point = points[f"{asked}_at_{given}"][level]
            assert (point and point[asked]) == max(reached, default=None)
            assert point is None or point[given] >= float(level)
    assert points["precision_at_recall"]["0.99"] is None, "the missed entities are out of reach"
    assert points["recall_at_precision"]["0.90"] is not None


@pytest.mark.parametrize("decoder", ["viterbi", "argmax"])
def test_a_type_keeps_its_figures_while_the_others_are_lower(decoder: Decoder) -> None:
    """And, above a half, whatever the others have; below, a higher one may uncover a span."""
    changed = 0
    for seed in range(3, 6):
        data = drawn(seed, spread=0.8)
        kinds = data[2].types
        for kind, other in (kinds, kinds[::-1]):
            for point in promised(points_of(data, decoder)["per_type"][kind]):
                own = point["threshold"]
                for theirs in (LEAST, own / 2, own, (1 + own) / 2, 1.0):
                    if theirs < LEAST:
                        continue
                    given = metrics_at(data, {kind: own, other: theirs}, decoder)
                    if theirs <= own or own > 0.5:
                        check(point, given["per_type"][kind])
                    else:
                        changed += given["per_type"][kind]["predicted"] != point["predicted"]
                        assert given["per_type"][kind]["predicted"] >= point["predicted"]
    assert changed > 0


def found(score: float, kind: str = "LOC") -> Decoded:
    span = Span(start=0, end=1, type=kind)
    return Decoded(tags=spans_to_tags([span], 1), spans=(span,), scores=(score,))


def test_thresholds_are_as_short_as_the_gap_allows() -> None:
    gold = [Sentence(words=("a",), tags=(tag,)) for tag in ("B-LOC", "B-LOC", "O", "B-LOC")]
    own = [found(0.98765), found(0.7512), found(0.7509), found(0.0123)]
    points = operating_points(gold, own, label_set(1))["all"]
    assert points["recall_at_precision"]["0.99"]["threshold"] == 0.751
    assert points["precision_at_recall"]["0.80"]["threshold"] == 0.01
    assert points["best_f1"] == {
        **{"threshold": 0.01, "precision": 0.75, "recall": 1.0, "f1": 6 / 7},
        **{"gold": 3, "predicted": 4, "correct": 3},
    }


def test_a_round_score_below_stays_below() -> None:
    gold = [Sentence(words=("a",), tags=(tag,)) for tag in ("B-LOC", "O")]
    best = operating_points(gold, [found(0.512), found(0.5)], label_set(1))["all"]["best_f1"]
    assert (best["threshold"], best["predicted"]) == (0.51, 1)


def test_no_threshold_goes_between_scores_that_rounding_alone_tells_apart() -> None:
    gold = [Sentence(words=("a",), tags=(tag,)) for tag in ("O", "B-LOC")]
    own = [found(0.5), found(np.nextafter(0.5, 1))]
    points = operating_points(gold, own, label_set(1))["all"]
    assert points["best_f1"]["predicted"] == 2 and points["best_f1"]["threshold"] == 0.5
    assert points["recall_at_precision"]["0.80"] is None


def test_of_equal_scores_none_is_left_out() -> None:
    gold = [Sentence(words=("a",), tags=(tag,)) for tag in ("B-LOC", "O", "O")]
    points = operating_points(gold, [found(0.4)] * 3, label_set(1))["all"]
    assert points["best_f1"]["predicted"] == 3


def test_what_cannot_be_reached_is_none() -> None:
    gold = [Sentence(words=("a",), tags=("B-LOC",)), Sentence(words=("a",), tags=("O",))]
    silent = [Decoded(tags=("O",), spans=(), scores=())] * 2
    nothing = {
        "best_f1": None,
        "precision_at_recall": dict.fromkeys(LEVELS),
        "recall_at_precision": dict.fromkeys(LEVELS),
    }
    labels = label_set(2)
    points = operating_points(gold, silent, labels)
    assert points["all"] == nothing and points["per_type"] == dict.fromkeys(labels.types, nothing)
    # Of a type that the data does not have there is no recall, whatever is found.
    points = operating_points(gold, [found(0.9, labels.types[1]), found(0.2)], labels)
    assert points["per_type"][labels.types[1]] == nothing
    assert points["all"]["best_f1"]["f1"] == 0.0
    assert operating_points([], [], labels)["all"] == nothing
