"""What counts as which error, and how a sentence is cut up to show it."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsl.data.tags.metrics import score
from lmsl.data.tags.schemes import IGNORED
from lmsl.data.tags.sentence import Sentence
from lmsl.report.errors import ERRORS, MEANING, findings_of, pieces
from lmsl.visible import MOST_CHARACTERS, harmless, visible

TAGS = ("O", "B-X", "I-X", "B-Y", "I-Y", IGNORED)
Pairs = list[tuple[str, str]]


def kinds(gold: str, predicted: str) -> list[str]:
    found = findings_of(gold.split(), predicted.split(), plain=False)
    return [each.kind for each in found]


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        ("B-X I-X O", "B-X I-X O", ["right"]),
        ("B-X I-X O", "O O O", ["missed"]),
        ("O O O", "O B-X O", ["spurious"]),
        ("B-X I-X O", "B-Y I-Y O", ["type"]),
        ("B-X I-X O", "B-X O O", ["boundary"]),
        ("B-X I-X O", "B-X I-X I-X", ["boundary"]),
        ("B-X I-X O", "O B-Y I-Y", ["both"]),
        ("B-X I-X O", "B-Y O O", ["both"]),
        ("B-X I-X I-X", "B-Y B-X B-Y", ["spurious", "boundary", "spurious"]),
        ("B-X B-Y", "B-Y I-Y", ["missed", "boundary"]),
        ("B-X I-X O", "B-X B-X O", ["boundary", "spurious"]),
        ("B-X B-X O", "B-X I-X O", ["boundary", "missed"]),
        ("B-X O B-Y", "O B-X O", ["missed", "spurious", "missed"]),
        ("O I-X", "O I-X", []),
        ("B-X I-X I-X", "B-Y B-X I-X", ["spurious", "boundary"]),
    ],
)
def test_kinds_of_errors(gold: str, predicted: str, expected: list[str]) -> None:
    assert sorted(kinds(gold, predicted)) == sorted(expected)


def test_nothing_is_said_of_words_without_a_label() -> None:
    assert findings_of((IGNORED, "O"), ("B-X", "O"), plain=False) == []
    assert findings_of((IGNORED, "NOUN"), ("VERB", "NOUN"), plain=True) == []


def test_plain_tags_err_word_by_word() -> None:
    (found,) = findings_of(("NOUN", "B-x", "O"), ("NOUN", "O", "O"), plain=True)
    assert (found.kind, found.start, found.end) == ("type", 1, 2)
    assert "".join(found.label) == "O, should be B-x"


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS[:-1])), max_size=8))
def test_findings_add_up_to_the_metrics(pairs: Pairs) -> None:
    gold, predicted = tuple(g for g, _ in pairs), tuple(p for _, p in pairs)
    found = findings_of(gold, predicted, plain=False)
    words = tuple(map(str, range(len(pairs))))
    scored = score([Sentence(words=words, tags=gold)], [predicted])
    assert sum(each.kind == "right" for each in found) == scored["correct"]
    assert sum(each.gold is not None for each in found) == scored["gold"]
    assert sum(each.predicted is not None for each in found) == scored["predicted"]
    cut = pieces(words, found)
    assert [word for piece in cut for word in piece.words] == list(words)
    assert sorted(id(f) for piece in cut for f in piece.labels) == sorted(map(id, found))
    marked = sum(len(piece.words) for piece in cut if piece.gold)
    assert marked == sum(f.gold.end - f.gold.start for f in found if f.gold)


def test_labels_say_what_is_wrong() -> None:
    labels = [
        "".join(f.label)
        for f in findings_of(("B-X", "O", "B-X"), ("B-Y", "B-Y", "O"), plain=False)
    ]
    assert labels == ["Y, should be X", "Y spurious", "X missed"]
    (both,) = findings_of(("B-X", "I-X"), ("B-Y", "O"), plain=False)
    assert "".join(both.label) == "Y, wrong boundary, should be X"


def test_a_sentence_of_very_many_entities_is_matched_in_no_time() -> None:
    many = 20_000
    found = findings_of(("B-X", "I-X") * many, ("B-X", "B-X") * many, plain=False)
    assert Counter(each.kind for each in found) == {"boundary": many, "spurious": many}


def test_words_as_they_may_stand_on_a_page() -> None:
    assert visible("caf\u00e9 \U0001f600") == "caf\u00e9 \U0001f600"
    assert visible("a\u202eb\x1b\u2066") == "a\ufffdb\ufffd\ufffd"
    assert len(visible("x" * 10_000)) == MOST_CHARACTERS
    assert visible("\u200f\u2028\x00\x85\u061c") == "\ufffd" * 5
    assert harmless("a\nb\tc", kept="\n") == "a\nb\ufffdc"


def test_every_kind_is_explained() -> None:
    assert set(MEANING) == {"right", *ERRORS}
