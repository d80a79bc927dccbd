"""Spans of answers in their sentences: places, repeats, overlaps, and what is not there."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsl.data.tags.schemes import spans_to_tags
from lmsl.data.tags.sentence import Span
from lmsl.generation.grammar import read_answer
from lmsl.generation.locate import COUNTED, in_short, locate

TYPES, NAMES = ("LOC", "PER"), ("location", "person")


def found(text: str, *words: str) -> tuple[list[tuple[int, int, str]], dict[str, int]]:
    spans, counts = locate(words, read_answer(text).listed, TYPES, NAMES)
    return [(span.start, span.end, span.type) for span in spans], dict(counts)


def test_spans_stand_where_their_words_do() -> None:
    places, counts = found(
        "Ada Lovelace = person ; Paris = location", "Ada", "Lovelace", "saw", "Paris"
    )
    assert places == [(0, 2, "PER"), (3, 4, "LOC")] and counts == {"spans": 2}


def test_repeats_go_to_successive_places() -> None:
    words = ("May", "saw", "May", "in", "May")
    assert found("May = person ; May = person ; May = location", *words)[0] == [
        (0, 1, "PER"),
        (2, 3, "PER"),
        (4, 5, "LOC"),
    ]
    places, counts = found("May = person ; " * 4, *words)
    assert len(places) == 3 and counts == {"spans": 4, "overlap": 1}


def test_a_span_is_looked_for_behind_the_one_before_it_first() -> None:
    words = ("May", "5", "in", "May")
    assert found("5 = location ; May = person", *words)[0] == [(1, 2, "LOC"), (3, 4, "PER")]
    # Out of order it is still found.
    assert found("in = location ; 5 = person", *words)[0] == [(1, 2, "PER"), (2, 3, "LOC")]


@pytest.mark.parametrize(
    ("text", "words", "place", "way"),
    [
        ("ada LOVELACE = person", ("Ada", "Lovelace"), (0, 2), "case"),
        ("e\u0301mile = person", ("É\u006dile",), (0, 1), "case"),
        ("STRASSE = location", ("Straße",), (0, 1), "case"),
        ("Babbage. = person", ("met", "Babbage", "."), (1, 3), "spacing"),
        ("北京 大学 = location", ("在", "北", "京", "大", "学"), (1, 5), "spacing"),
        ("York = location", ("New-York", "is"), (0, 1), "partial"),
        ("York City = location", ("New-York", "City", "is"), (0, 2), "partial"),
        ("ada love = person", ("Ada", "Lovelace"), (0, 2), "partial"),
    ],
)
def test_what_is_written_otherwise_is_found_and_counted(
    text: str, words: tuple[str, ...], place: tuple[int, int], way: str
) -> None:
    places, counts = found(text, *words)
    assert [each[:2] for each in places] == [place] and counts == {"spans": 1, way: 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Rome = location", ("Ada", "saw", "Paris")),
        ("a = person", ("cats",)),
        ("at = person", ("a", "taxi")),
        ("Ada saw Paris today = person", ("Ada", "saw", "Paris")),
        ("Ada = person", ()),
        ("Ada = person", ("", " ")),
    ],
)
def test_what_is_not_there_is_hallucinated(text: str, words: tuple[str, ...]) -> None:
    assert found(text, *words) == ([], {"spans": 1, "hallucinated": 1})


def test_exact_places_are_given_before_others() -> None:
    places, counts = found("apple = person ; Apple = location", "Apple", "and", "more")
    assert places == [(0, 1, "LOC")] and counts == {"spans": 2, "overlap": 1}


def test_a_word_is_given_once_to_the_span_listed_first() -> None:
    words = ("New", "York", "Times")
    assert found("New York = location ; New York Times = person", *words) == (
        [(0, 2, "LOC")],
        {"spans": 2, "overlap": 1},
    )
    assert found("York = location ; York = person", *words)[0] == [(1, 2, "LOC")]


def test_types_are_known_by_their_words_in_any_case() -> None:
    assert found("Ada = Person ; Ada = planet", "Ada") == (
        [(0, 1, "PER")],
        {"spans": 2, "unknown_type": 1},
    )
    # Of types that differ in case alone only the one that is written is meant.
    spans, counts = locate(["Ada"], read_answer("Ada = A").listed, ("a", "b"), ("A", "a"))
    assert spans == [Span(start=0, end=1, type="a")] and counts == Counter(spans=1)


def test_words_with_spaces_in_them_are_matched_whole() -> None:
    assert found("New York = location", "in", "New York", ".")[0] == [(1, 2, "LOC")]
    places, counts = found("York . = location", "in", "New York", ".")
    assert places == [(1, 3, "LOC")] and counts == {"spans": 1, "partial": 1}


@given(
    st.lists(st.text(max_size=5) | st.sampled_from(["a", "A b", ";", "ﷺ", "¨"]), max_size=6),
    st.text(max_size=40)
    | st.lists(st.sampled_from(["a", "b", "A", ";", "=", "person", "location"])).map(" ".join),
)
def test_no_answer_and_no_sentence_raises_an_error(words: list[str], text: str) -> None:
    answer = read_answer(text)
    spans, counts = locate(words, answer.listed, TYPES, NAMES)
    # Disjoint and inside, or this would fail.
    assert len(spans_to_tags(spans, len(words))) == len(words)
    lost = sum(counts[name] for name in ("unknown_type", "hallucinated", "overlap"))
    assert len(spans) + lost == counts["spans"] == len(answer.listed)
    assert set(counts) <= set(COUNTED)


@given(st.lists(st.sampled_from(["a", "b", "B", "ab", "c d"]), min_size=1, max_size=7), st.data())
def test_spans_of_different_words_are_found_where_they_were(
    words: list[str], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(start + 1, len(words)))
    text = " ".join(words[start:end])
    ((first, last, _),), counts = found(f"{text} = person", *words)
    assert " ".join(words[first:last]) == text and counts == {"spans": 1}
    assert (first, last) <= (start, end)


def test_a_line_says_what_was_wrong() -> None:
    counts = Counter(answers=8, unparsable=2, truncated=1, spans=5, overlap=1, unknown_type=2)
    assert in_short(counts) == (
        "; 25.0 % of answers unparsable; 12.5 % of answers truncated"
        "; of 5 spans 2 unknown type, 1 overlap"
    )
    assert in_short(Counter()) == "; 0.0 % of answers unparsable"
