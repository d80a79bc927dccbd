"""Partial credit: worked by hand, and as another implementation counts it."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsl.data.tags.metrics import score
from lmsl.data.tags.schemes import tag_spans
from lmsl.data.tags.sentence import Sentence, Span
from lmsl.report.errors import match
from lmsl.report.semeval import SemEval, semeval_scores

Counts = tuple[int, int, int, int, int]
"""COR, INC, PAR, MIS, SPU."""

AGREED = [
    ("B-X I-X O B-Y", "B-X I-X O B-Y", *[(2, 0, 0, 0, 0)] * 4),
    (
        *("B-X I-X O B-Y", "B-X O O B-X"),
        *((0, 2, 0, 0, 0), (1, 1, 0, 0, 0), (1, 0, 1, 0, 0), (1, 1, 0, 0, 0)),
    ),
    (
        *("B-X O B-Y O O B-Z", "O B-X B-Y I-Y O O"),
        *((0, 1, 0, 2, 1), (0, 1, 0, 2, 1), (0, 0, 1, 2, 1), (1, 0, 0, 2, 1)),
    ),
    (
        *("O B-X I-X O B-Y O", "B-Y I-Y I-Y O O B-X"),
        *((0, 1, 0, 1, 1), (0, 1, 0, 1, 1), (0, 0, 1, 1, 1), (0, 1, 0, 1, 1)),
    ),
    (
        *("B-X B-X B-Y O", "B-X B-Y O B-Y"),
        *((1, 1, 0, 1, 1), (2, 0, 0, 1, 1), (2, 0, 0, 1, 1), (1, 1, 0, 1, 1)),
    ),
    (
        *("B-X I-X B-X I-X", "O B-Y B-X I-X"),
        *((1, 1, 0, 0, 0), (1, 1, 0, 0, 0), (1, 0, 1, 0, 0), (1, 1, 0, 0, 0)),
    ),
    ("O O", "O O", *[(0, 0, 0, 0, 0)] * 4),
]
"""Strict, exact, partial and type as nervaluate 1.2.1 counts them too."""

SCHEMATA = ("strict", "exact", "partial", "type")


def scores(gold: str, predicted: str) -> dict[str, SemEval]:
    found = match(tag_spans(gold.split()), tag_spans(predicted.split()))
    return {each.schema: each for each in semeval_scores(Counter(f.kind for f in found))}


def counts(score: SemEval) -> Counts:
    return score.correct, score.incorrect, score.partial, score.missing, score.spurious


@pytest.mark.parametrize(("gold", "predicted", *SCHEMATA), AGREED)
def test_counts_that_nervaluate_shares(
    gold: str, predicted: str, strict: Counts, exact: Counts, partial: Counts, type: Counts
) -> None:
    found = scores(gold, predicted)
    assert {name: counts(each) for name, each in found.items()} == {
        "strict": strict,
        "exact": exact,
        "partial": partial,
        "type": type,
    }


def test_of_two_that_share_words_with_one_the_better_has_it() -> None:
    """nervaluate 1.2.1 gives the gold entity to the first: of type 0 COR, 1 INC and 1 SPU."""
    assert counts(scores("B-Y I-Y", "B-Z B-Y")["type"]) == (1, 0, 0, 0, 1)


def test_one_pairing_serves_all_schemata() -> None:
    """nervaluate 1.2.1 finds two partial pairs here, each of another type than in gold."""
    found = scores("B-X I-X B-Y I-Y", "O B-Y I-Y B-Y")
    assert counts(found["partial"]) == (0, 0, 1, 1, 1)
    assert counts(found["type"]) == (1, 0, 0, 1, 1)


def test_rates_by_hand() -> None:
    # Gold: X on 0-1, Y on 3, Z on 5. Found: X on 0 (boundary), Z on 3 (type), nothing on 5, and X
    # on 7, which is spurious.
    found = scores("B-X I-X O B-Y O B-Z O O", "B-X O O B-Z O O O B-X")
    assert {name: counts(each) for name, each in found.items()} == {
        "strict": (0, 2, 0, 1, 1),
        "exact": (1, 1, 0, 1, 1),
        "partial": (1, 0, 1, 1, 1),
        "type": (1, 1, 0, 1, 1),
    }
    assert found["partial"].precision == found["partial"].recall == pytest.approx(1.5 / 3)
    assert found["exact"].f1 == pytest.approx(1 / 3) and found["strict"].f1 == 0
    empty = scores("O", "O")["partial"]
    assert (empty.precision, empty.recall, empty.f1) == (0, 0, 0)


TAGS = st.sampled_from(("O", "B-X", "I-X", "B-Y", "I-Y"))


@settings(max_examples=150)
@given(st.lists(st.tuples(TAGS, TAGS), max_size=9))
def test_strict_is_the_f1_of_the_metrics_and_all_count_every_entity(
    pairs: list[tuple[str, str]],
) -> None:
    gold, predicted = tuple(g for g, _ in pairs), tuple(p for _, p in pairs)
    metrics = score([Sentence(words=("w",) * len(pairs), tags=gold)], [predicted])
    found = scores(" ".join(gold), " ".join(predicted))
    for each in found.values():
        known = each.correct + each.incorrect + each.partial
        assert known + each.missing == metrics["gold"]
        assert known + each.spurious == metrics["predicted"]
    strict = found["strict"]
    assert (strict.precision, strict.recall) == (metrics["precision"], metrics["recall"])
    assert strict.f1 == pytest.approx(metrics["f1"])
    assert strict.f1 <= found["exact"].f1 <= found["partial"].f1
    assert strict.f1 <= found["type"].f1


def drawn(rng: random.Random, length: int) -> list[str]:
    tags, before = [], ""
    for _ in range(length):
        tag = rng.choice(["O", "O", "B-X", "B-Y", "B-Z", *([f"I-{before}"] * 3 if before else [])])
        tags.append(tag)
        before = tag[2:]
    return tags


def overlapping_once(gold: Sequence[Span], found: Sequence[Span]) -> bool:
    pairs = [(g, f) for g in gold for f in found if g.start < f.end and f.start < g.end]
    return all(max(Counter(side).values(), default=0) < 2 for side in zip(*pairs, strict=True))


def test_nervaluate_counts_alike_where_entities_overlap_once() -> None:
    """Not installed with this package; without it the cases above hold what it gave."""
    theirs = pytest.importorskip("nervaluate.strategies", reason="nervaluate is not installed")
    entity = pytest.importorskip("nervaluate.entities").Entity
    strategies = {
        "strict": theirs.StrictEvaluation(),
        "exact": theirs.ExactEvaluation(),
        "partial": theirs.PartialEvaluation(),
        "type": theirs.EntityTypeEvaluation(),
    }
    rng, compared = random.Random(1), 0
    for _ in range(4000):
        length = rng.randint(1, 12)
        sides = gold, found = [tag_spans(drawn(rng, length)) for _ in range(2)]
        theirs_of = [[entity(s.type, s.start, s.end - 1) for s in side] for side in sides]
        ours = semeval_scores(Counter(f.kind for f in match(gold, found)))
        once = overlapping_once(gold, found)
        compared += once
        for each in ours:
            result, _ = strategies[each.schema].evaluate(*theirs_of, [])
            assert result.correct == each.correct or each.schema == "type"
            if once:
                assert counts(each) == (
                    *(result.correct, result.incorrect, result.partial),
                    *(result.missed, result.spurious),
                )
                assert (each.precision, each.recall) == (result.precision, result.recall)
                assert each.f1 == pytest.approx(result.f1)
    assert compared > 1500
