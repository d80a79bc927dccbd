"""JSON in: word lists, text with spans, and everything a span can get wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsl.data.formats.raw import CharSpan, Raw
from lmsl.data.formats.words import split_words
from lmsl.data.read import read
from lmsl.data.spans import align_spans
from lmsl.data.tags.schemes import IGNORED, tag_spans
from lmsl.data.tags.sentence import Dataset
from lmsl.errors import InputError


def load(folder: Path, *items: Any, **options: Any) -> Dataset:
    path = folder / "data.jsonl"
    path.write_text("\n".join(json.dumps(item) for item in items), encoding="utf-8")
    return read(path, **options)


def spans(*triples: tuple[int, int, str]) -> list[dict[str, Any]]:
    return [{"start": start, "end": end, "label": label} for start, end, label in triples]


def test_word_lists(tmp_path: Path) -> None:
    dataset = load(
        tmp_path,
        {"tokens": ["a b", "\u2028"], "tags": ["I-X", None], "id": 7, "doc": "d"},
        {"tokens": [], "tags": []},
    )
    (sentence,) = dataset.sentences
    assert sentence.words == ("a b", "\u2028") and sentence.tags == ("B-X", IGNORED)
    assert (sentence.id, sentence.document, sentence.text) == (7, "d", None)
    assert any("1 sentence without words" in note for note in dataset.notes)
    assert len(load(tmp_path, {"tokens": []}, {"tokens": ["x"]}, labelled=False)) == 2


def test_text_with_spans(tmp_path: Path) -> None:
    text = "Ada 👩‍🔬 met Babbage."
    start = text.index("Babbage")
    dataset = load(tmp_path, {"text": text, "spans": spans((start, start + 7, "PER"))})
    (sentence,) = dataset.sentences
    assert sentence.words == ("Ada", "👩‍🔬", "met", "Babbage", ".")
    assert sentence.tags == ("O", "O", "O", "B-PER", "O")
    assert sentence.offsets is not None
    assert [text[a:b] for a, b in sentence.offsets] == list(sentence.words)


def test_lost_spans_are_missed_and_counted_or_refused(tmp_path: Path) -> None:
    item = {
        "text": "New York City hall",
        "spans": spans((0, 8, "a"), (4, 13, "b"), (9, 13, "c"), (14, 16, "cut"), (4, 13, "b")),
    }
    dataset = load(tmp_path, item)
    (sentence,) = dataset.sentences
    assert sentence.tags == ("O", "B-b", "I-b", "O")
    assert sorted(sentence.missed) == ["a", "c", "cut"]
    assert [note.split()[0] for note in dataset.notes] == ["2", "1", "1"]
    for text, label in (("x y", "overlaps"), ("xy", "cuts")):
        broken = {"text": text, "spans": spans((0, len(text), "p"), (0, 1, "q"))}
        with pytest.raises(InputError, match=r"data\.jsonl:1: .*" + label):
            load(tmp_path, broken, strict_tags=True)
        assert len(load(tmp_path, broken).sentences[0].missed) == 1


@given(st.data())
def test_no_span_is_ever_lost_unseen(data: st.DataObject) -> None:
    text = data.draw(st.text("ab .é👍\u200d", min_size=1, max_size=12))
    bound = st.integers(0, len(text))
    drawn = data.draw(st.lists(st.tuples(bound, bound, st.sampled_from("XY")), max_size=6))
    offsets = split_words(text)
    wanted = [
        CharSpan(start=a, end=b, type=label)
        for a, b, label in drawn
        if any(a < end and b > start for start, end in offsets) and a < b
    ]
    raw = Raw(
        words=tuple(text[a:b] for a, b in offsets),
        where="f:1",
        spans=tuple(wanted),
        text=text,
        offsets=offsets,
    )
    found = align_spans(raw)
    assert len(found.spans) + len(found.missed) + found.repeated == len(wanted)
    assert all(a.end <= b.start for a, b in zip(found.spans, found.spans[1:], strict=False))
    for span in found.cutting:
        # A span that cuts a word has a word that sticks out of it on at least one side.
        assert any((a < span.start < b) or (a < span.end < b) for a, b in offsets), (text, span)


def test_array_nlupp_and_mismatched_text(tmp_path: Path) -> None:
    path = tmp_path / "fold0.json"
    slots = {"person": {"text": "Eve", "span": [0, 3]}, "time": {"text": "at", "span": [10, 13]}}
    items = [{"text": "Eve comes at six", "intents": ["x"], "slots": slots}, {"text": "ok"}]
    path.write_text(json.dumps(items, indent=1), encoding="utf-8")
    with pytest.raises(InputError, match="beside the text"):
        read(path, strict_tags=True)
    dataset = read(path)
    assert [len(tag_spans(s.tags or ())) for s in dataset] == [2, 0]
    assert sorted(note.split()[0] for note in dataset.notes) == ["1"]


def test_json_without_suffix_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text('{"text": "a", "spans": []}\n')
    assert read(path).sentences[0].text == "a"
    path.write_text("{ O\n} O\n")
    assert read(path).sentences[0].words == ("{", "}")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ([1], "expected a JSON object, got list"),
        ({"tokens": ["a", ""], "tags": ["O", "O"]}, "non-empty strings"),
        ({"tokens": "ab", "tags": ["O", "O"]}, "list of"),
        ({"tokens": ["a"]}, '"tags"'),
        ({"tokens": ["a"], "tags": []}, "as many tags as tokens .1., got 0"),
        ({"tokens": ["a"], "tags": [3]}, "got 3"),
        ({"tokens": ["a"], "tags": ["\0ignored"]}, "strings or null"),
        ({"tokens": ["a"], "tags": ["O"], "doc": [1]}, '"doc"'),
        ({"words": ["a"]}, '"tokens"'),
        ({"text": "a"}, '"spans"'),
        ({"text": "a", "spans": [{"start": 0}]}, "a span with"),
        ({"text": "a", "spans": spans((0, 2, "X"))}, r"within \[0, 1\)"),
        ({"text": "a", "spans": spans((-1, 1, "X"))}, "within"),
        ({"text": "a", "spans": spans((1, 1, "X"))}, "within"),
        ({"text": "a  b", "spans": spans((1, 2, "X"))}, "holds no word"),
        ({"text": "a", "spans": [{"start": 0.0, "end": 1, "label": "X"}]}, "whole number"),
        ({"text": "a", "spans": [{"start": 0, "end": 1, "label": " "}]}, "label"),
        ({"text": "", "slots": {"x": [0, 1]}}, "slot 'x'"),
    ],
)
def test_refusals_name_the_line(tmp_path: Path, item: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path, {"tokens": ["ok"], "tags": ["O"]}, item)
    assert "data.jsonl:2" in str(caught.value) and "\n" not in str(caught.value)


def test_broken_json(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"tokens": ["a"], "tags": ["O"]}\n{"tokens"\n')
    with pytest.raises(InputError, match=r"data\.jsonl:2: expected one JSON object a line"):
        read(path)
    path.write_text('[\n{"text": "a"},\n')
    with pytest.raises(InputError, match=r"data\.jsonl:\d: expected valid JSON"):
        read(path)
