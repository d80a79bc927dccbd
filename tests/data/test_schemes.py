"""Schemes and spans, against seqeval and against conversions written the other way round."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.scheme import IOB2, Entities

from lmsl.data.tags.schemes import IGNORED, detect_scheme, spans_to_tags, tag_spans, to_iob2
from lmsl.data.tags.sentence import Span
from lmsl.errors import InputError

TYPES = st.sampled_from(["PER", "creative-work", "ø", "B-X", "o", "日本"])
LOOSE_TAGS = st.lists(
    st.one_of(st.just("O"), st.builds("{}-{}".format, st.sampled_from("BI"), TYPES)), max_size=12
)


@st.composite
def entities(draw: st.DrawFn) -> tuple[list[Span], int]:
    """Disjoint spans over a sentence, some touching, and its length."""
    spans, position = [], 0
    for gap, length, type_ in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), TYPES), max_size=5)
    ):
        start = position + gap
        spans.append(Span(type=type_, start=start, end=start + length))
        position = start + length
    return spans, position + draw(st.integers(0, 2))


def as_iob1(spans: list[Span], length: int) -> list[str]:
    tags = ["O"] * length
    for i, span in enumerate(spans):
        touches = i > 0 and spans[i - 1].end == span.start and spans[i - 1].type == span.type
        tags[span.start : span.end] = [f"I-{span.type}"] * (span.end - span.start)
        if touches:
            tags[span.start] = f"B-{span.type}"
    return tags


def as_bioes(spans: list[Span], length: int, letters: str = "BIES") -> list[str]:
    tags = ["O"] * length
    begin, inside, end, single = list(letters)
    for span in spans:
        if span.end - span.start == 1:
            tags[span.start] = f"{single}-{span.type}"
            continue
        middle = [f"{inside}-{span.type}"] * (span.end - span.start - 2)
        row = [f"{begin}-{span.type}", *middle, f"{end}-{span.type}"]
        tags[span.start : span.end] = row
    return tags


@given(LOOSE_TAGS)
def test_spans_are_those_of_seqeval_strict(tags: list[str]) -> None:
    theirs = [(e.start, e.end, e.tag) for e in Entities([tags], IOB2).entities[0]]
    assert [(s.start, s.end, s.type) for s in tag_spans(tags)] == theirs


def test_an_inside_tag_that_continues_nothing_is_no_entity() -> None:
    assert tag_spans(["I-X", "O", "B-X", "I-Y", "I-X", "B-X", "B-X", "I-X"]) == [
        Span(type="X", start=2, end=3),
        Span(type="X", start=5, end=6),
        Span(type="X", start=6, end=8),
    ]
    assert tag_spans([]) == []
    assert tag_spans(["B-X", IGNORED, "I-X"]) == [Span(type="X", start=0, end=1)]
    with pytest.raises(InputError, match="E-X"):
        tag_spans(["E-X"])


@given(entities())
def test_spans_survive_every_scheme(case: tuple[list[Span], int]) -> None:
    spans, length = case
    written = {
        "iob2": spans_to_tags(spans, length),
        "iob1": as_iob1(spans, length),
        "bioes": as_bioes(spans, length),
    }
    for scheme, tags in written.items():
        converted, broken = to_iob2(tags, scheme, strict=True)
        assert broken == ()
        assert tag_spans(converted) == spans, scheme
    for letters in ("BILU", "BMES"):
        assert tag_spans(to_iob2(as_bioes(spans, length, letters), "bioes")[0]) == spans


@given(entities())
def test_detection_never_changes_what_is_read(case: tuple[list[Span], int]) -> None:
    spans, length = case
    for tags in (as_iob1(spans, length), spans_to_tags(spans, length), as_bioes(spans, length)):
        scheme = detect_scheme([tags]).scheme
        assert tag_spans(to_iob2(tags, scheme, strict=True)[0]) == spans


@given(LOOSE_TAGS)
def test_repaired_tags_need_no_repair_and_keep_every_word_tagged(tags: list[str]) -> None:
    converted, broken = to_iob2(tags, "iob2")
    assert to_iob2(converted, "iob2") == (converted, ())
    assert [tag == "O" for tag in converted] == [tag == "O" for tag in tags]
    assert [i for i, tag in enumerate(tags) if converted[i] != tag] == list(broken)


@given(st.lists(st.sampled_from(["O", *(f"{p}-{t}" for p in "BIES" for t in "XY")]), max_size=9))
@settings(max_examples=60)
def test_hostile_bioes_gives_valid_iob2(tags: list[str]) -> None:
    converted, broken = to_iob2(tags, "bioes")
    assert to_iob2(converted, "iob2")[1] == ()
    assert len(set(broken)) == len(broken)
    if broken:
        with pytest.raises(InputError, match=f"word {broken[0]}:"):
            to_iob2(tags, "bioes", strict=True)


def test_broken_bioes_is_counted() -> None:
    assert to_iob2(["B-X", "O", "E-X", "I-X", "S-X", "I-X"], "bioes") == (
        ("B-X", "O", "B-X", "B-X", "B-X", "B-X"),
        (0, 2, 3, 5),
    )


@pytest.mark.parametrize(
    ("sequences", "scheme"),
    [
        ([], "iob2"),
        ([["O", "O"]], "iob2"),
        ([["B-X", "I-X"], ["I-X"]], "iob2"),
        ([["I-X", "I-X", "B-X"], ["O", "I-Y"]], "iob1"),
        ([["O", "S-X"]], "bioes"),
        ([["B-X", "L-X"]], "bioes"),
        ([["B", "I", "O"]], "iob2"),
        ([["DT", "NN", "VBZ"]], "plain"),
        ([["O", "O", "O", "EVENT", "EVENT"]], "bare"),
        ([["N", "V", "E", "O", "U", "I-think"]], "iob2"),
        ([["N", "V", "E", "L"]], "plain"),
    ],
)
def test_detected_scheme(sequences: list[list[str]], scheme: str) -> None:
    assert detect_scheme(sequences).scheme == scheme


def test_bare_types_and_missing_types() -> None:
    bare, broken = to_iob2(["O", "EVENT", "EVENT", IGNORED], "bare")
    assert (bare, broken) == (("O", "B-EVENT", "B-EVENT", IGNORED), ())
    assert to_iob2(["B", "I-", "O"], "iob2")[0] == ("B-_", "I-_", "O")
    assert to_iob2(["NN", "B-?", "I-X"], "plain") == (("NN", "B-?", "I-X"), ())


def test_a_foreign_tag_is_refused_by_place() -> None:
    with pytest.raises(InputError, match=r"^f:7: .*'PER'"):
        to_iob2(["B-X", "PER"], "iob2", where=lambda word: f"f:{6 + word}")
    with pytest.raises(InputError, match=r"scheme iob2.*'S-X'"):
        to_iob2(["S-X"], "iob2")
