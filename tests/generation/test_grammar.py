"""Answers: what is written is read back, and nothing that is read raises an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsl.errors import InputError
from lmsl.generation.grammar import Listed, escaped, read_answer, write_answer
from lmsl.generation.names import in_words

PIECES = st.one_of(
    st.sampled_from([";", "=", "\\;", "\\\\=", "\\", "a;b", "10:30", '"', "日本", "e\u0301", ":"]),
    st.text(min_size=1, max_size=6).filter(lambda text: text.split() == [text]),
)
WORDS = st.lists(PIECES, min_size=1, max_size=4).map(tuple)
LISTED = st.lists(st.builds(Listed, words=WORDS, type=WORDS.map(" ".join)), max_size=5)


def listed(*pairs: tuple[str, str]) -> list[Listed]:
    return [Listed(words=tuple(span.split()), type=kind) for span, kind in pairs]


@given(LISTED)
def test_every_answer_is_read_back_as_it_was_meant(spans: list[Listed]) -> None:
    text = write_answer(spans)
    answer = read_answer(text)
    assert list(answer.listed) == spans and answer.broken == 0
    assert len(text.splitlines()) <= 1 or not text.isprintable(), "an answer is one line"
    assert (text == "") == (not spans)


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        (
            [("Ada Lovelace", "person"), ("Paris", "location")],
            "Ada Lovelace = person ; Paris = location",
        ),
        ([], ""),
        ([("10:30", "time"), ("a;b", "code")], "10:30 = time ; a;b = code"),
        ([("x = y", "formula"), (";", "mark")], r"x \= y = formula ; \; = mark"),
        ([(r"\;", "mark ;")], r"\\; = mark \;"),
        ([("May", "person"), ("May", "date")], "May = person ; May = date"),
    ],
)
def test_the_grammar_is_that_of_its_description(pairs: list[tuple[str, str]], text: str) -> None:
    spans = listed(*pairs)
    assert write_answer(spans) == text
    assert list(read_answer(text).listed) == spans


@given(st.text(max_size=80), st.sampled_from(["default", "acl2024"]))
def test_no_text_raises_an_error(text: str, prompt: str) -> None:
    answer = read_answer(text, prompt)  # type: ignore[arg-type]
    assert all(each.words and each.type for each in answer.listed)
    assert answer.unparsable == (answer.broken > 0 and not answer.listed)


def test_an_answer_without_a_span_is_unparsable_where_something_stands_there() -> None:
    assert read_answer("I see no entity here").unparsable
    assert not read_answer("").unparsable and not read_answer(" \n").unparsable
    assert not read_answer(" ; ").unparsable, "marks alone list nothing"
    half = read_answer("Ada = person ; Charles Bab")
    assert half.listed == (Listed(words=("Ada",), type="person"),)
    assert half.broken == 1 and not half.unparsable, "what was cut off is dropped alone"
    assert read_answer("= person ; Ada =").broken == 2


def test_of_several_marks_the_last_parts_span_and_type() -> None:
    (one,) = read_answer("x = y = formula").listed
    assert one == Listed(words=("x", "=", "y"), type="formula")


def test_the_grammar_of_the_paper_has_no_escapes() -> None:
    spans = listed(("New York", "location"), ("10:30", "time"))
    text = write_answer(spans, "acl2024")
    assert text == "New York:location;10:30:time"
    assert list(read_answer(text + "\n", "acl2024").listed) == spans
    broken = read_answer(write_answer(listed(("a;b", "code")), "acl2024"), "acl2024")
    assert broken.broken == 1 and broken.listed[0].words == ("b",)


def test_types_are_called_by_words_and_no_two_alike() -> None:
    assert in_words(["PER", "LOC", "playlist_owner", "Ünïcode-x", "_"]) == (
        "person",
        "location",
        "playlist owner",
        "Ünïcode-x",
        "_",
    )
    # In words these two would be one.
    assert in_words(["PER", "person"]) == ("PER", "person")
    assert in_words(["a_b", "a b", "PER"]) == ("a_b", "a b", "PER")
    with pytest.raises(InputError, match="type 'a  b' cannot be told from others"):
        in_words(["a  b", "a b"])
    with pytest.raises(InputError, match="' ' cannot be told"):
        in_words([" "])
    assert escaped("a ; b") == r"a \; b"
