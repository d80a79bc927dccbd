"""Writing, converting and describing."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsl.data.describe import check, percentile
from lmsl.data.formats.options import ReadOptions
from lmsl.data.read import read, read_with
from lmsl.data.resolve import EMPTY_WORD
from lmsl.data.tags.schemes import IGNORED, tag_spans
from lmsl.data.tags.sentence import Dataset, Sentence
from lmsl.data.write import column_lines, convert, write_columns, write_json

WORDS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\t\n\r"), min_size=1, max_size=5
).filter(lambda word: word != "-DOCSTART-")


@given(st.lists(st.lists(st.tuples(WORDS, st.sampled_from(["O", "B-X"])), min_size=1), min_size=1))
@settings(max_examples=60)
def test_any_words_survive_columns_and_json(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[tuple[str, str]]]
) -> None:
    folder = tmp_path_factory.mktemp("written")
    sentences = [
        Sentence(words=tuple(w for w, _ in row), tags=tuple(t for _, t in row)) for row in rows
    ]
    gold = [sentence.tags or () for sentence in sentences]
    assert write_columns(folder / "p.conll", sentences, gold, gold) == 0
    write_json(folder / "p.jsonl", sentences)
    for name in ("p.conll", "p.jsonl"):
        back = read(folder / name, scheme="iob2", token_column=1)
        assert [(s.words, s.tags) for s in back] == [(s.words, s.tags) for s in sentences], name


ODD = st.sampled_from(
    ["\t", "a\nb\r", "-DOCSTART-", "-DOCSTART- x", "\\t", " ", " a ", "#x", "# a = b"]
)
TYPES = st.sampled_from(["X", " X ", "\u3000Y", "a\\nb", "-"])


@given(
    st.lists(st.lists(st.tuples(WORDS | ODD, TYPES), min_size=1), min_size=1),
    st.booleans(),
)
@settings(max_examples=60)
def test_any_words_and_types_survive_conversion_both_ways(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[tuple[str, str]]], tagged: bool
) -> None:
    folder = tmp_path_factory.mktemp("converted")
    options = ReadOptions(labelled=tagged, scheme="iob2")
    sentences = [
        Sentence(words=tuple(w for w, _ in row), tags=tuple(f"B-{t}" for _, t in row), document=d)
        for row, d in zip(rows, [None, "a", "a", None, "b"] * len(rows), strict=False)
    ]
    write_json(folder / "0.jsonl", sentences)
    for source, target, kind in (
        ("0.jsonl", "1.conll", "columns"),
        ("1.conll", "2.jsonl", "json"),
    ):
        convert(folder / source, folder / target, kind, options)  # type: ignore[arg-type]
        back = read_with(folder / target, options).sentences
        assert [s.words for s in back] == [s.words for s in sentences], target
        assert not tagged or [s.tags for s in back] == [s.tags for s in sentences], target
        changes = [a.document != b.document for a, b in pairwise(back)]
        assert changes == [a.document != b.document for a, b in pairwise(sentences)]


def test_words_stated_beside_a_text_stay_the_words(tmp_path: Path) -> None:
    tokens = [{"text": "Rio-", "start": 0, "end": 4}, {"text": "x", "start": 4, "end": 5}]
    item = {"text": "Rio-x", "tokens": tokens, "spans": [{"start": 0, "end": 4, "label": "GEO"}]}
    (tmp_path / "in.jsonl").write_text(json.dumps(item))
    convert(tmp_path / "in.jsonl", tmp_path / "out.jsonl", "json")
    assert json.loads((tmp_path / "out.jsonl").read_text()) == item
    assert read(tmp_path / "out.jsonl").sentences[0].words == ("Rio-", "x")


def test_a_word_that_was_lost_is_written_as_a_placeholder(tmp_path: Path) -> None:
    (tmp_path / "in.conll").write_text("so\tO\n\tB-X\n")
    for kind, name in (("columns", "out.conll"), ("json", "out.jsonl")):
        convert(tmp_path / "in.conll", tmp_path / name, kind)  # type: ignore[arg-type]
        (sentence,) = read(tmp_path / name, strict_tags=True)
        assert (sentence.words, sentence.tags) == (("so", EMPTY_WORD), ("O", "B-X"))


def test_prediction_columns() -> None:
    sentences = [
        Sentence(words=("a\tb", "c\r\n"), tags=("O", IGNORED), document="d"),
        Sentence(words=(), tags=()),
        Sentence(words=("\u200b",), tags=("O",), document="e"),
    ]
    gold = [s.tags or () for s in sentences]
    lines, escaped = column_lines(sentences, gold, [["B-X", "O"], [], ["O"]])
    assert lines == ["a\\tb\tO\tB-X", "c\\r\\n\t_\tO", "", "\u200b\tO\tO", ""]
    assert escaped == 2


def test_names_that_are_numbers_stay_numbers_and_0_is_a_name(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(
        '{"tokens": ["a"], "tags": ["O"], "id": 0, "doc": 0}\n'
        '{"tokens": ["b"], "tags": ["O"], "id": "0"}\n',
        encoding="utf-8",
    )
    convert(source, tmp_path / "out.jsonl", "json")
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0]).items() >= {"id": 0, "doc": 0}.items()
    assert json.loads(lines[1])["id"] == "0" and "doc" not in json.loads(lines[1])
    convert(source, tmp_path / "out.conll", "columns")
    text = (tmp_path / "out.conll").read_text(encoding="utf-8")
    assert text.count("-DOCSTART-") == 2


def test_conversions(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(
        '{"text": "Ada met Babbage.", "id": "1", "doc": "x", "spans": '
        '[{"start": 8, "end": 15, "label": "PER"}, {"start": 8, "end": 10, "label": "CUT"}]}\n'
        '{"tokens": ["n"], "tags": [null], "doc": "y"}\n',
        encoding="utf-8",
    )
    columns, lines = tmp_path / "out.conll", tmp_path / "out.jsonl"
    assert any("1 missed" in note for note in convert(source, columns, "columns"))
    again = read(columns, ignore_tag="_")
    assert [s.words for s in again] == [("Ada", "met", "Babbage", "."), ("n",)]
    assert [s.tags for s in again] == [("O", "O", "B-PER", "O"), (IGNORED,)]
    assert len({s.document for s in again}) == 2
    convert(source, lines, "json")
    back = read(lines)
    assert [(s.words, s.tags, s.text, s.id, s.document) for s in back] == [
        (s.words, s.tags, s.text, s.id, s.document) for s in read(source)
    ]
    plain = tmp_path / "pos.conll"
    plain.write_text("a DT\nb NN\n")
    convert(plain, lines, "json")
    assert read(lines).plain
    convert(plain, columns, "columns", ReadOptions(labelled=False))
    assert columns.read_text() == "a\nb\n\n"


def dataset(*sentences: tuple[str, str], plain: bool = False) -> Dataset:
    return Dataset(
        sentences=tuple(
            Sentence(words=tuple(w.split()), tags=tuple(t.split()), missed=("LOST",) * (i == 0))
            for i, (w, t) in enumerate(sentences)
        ),
        plain=plain,
        source="made",
        notes=("something was done",),
        repairs=3,
    )


def test_report() -> None:
    train = dataset(("a b", "B-X I-X"), ("a b", "O O"), ("c", "B-Y"))
    test = dataset(("a b", "O B-Z"), ("z", "O"))
    report = check(
        {"train": train, "test": test}, lambda words: [0 if word == "z" else 2 for word in words]
    )
    for part in (
        "3 sentences, 5 words, 3 entities",
        "scheme iob2, 3 tags repaired",
        "types: X 1 (50.0%), Y 1 (50.0%)",
        "words a sentence: 2 (50 %), 2 (90 %), 2 (99 %), 2 at most",
        "entities that tags cannot express: LOST 1",
        "repeated sentences: 1 (1 tagged differently)",
        "note: something was done",
        "sub-words a sentence: 4 (50 %), 4 (90 %), 4 (99 %), 4 at most; 2.00 a word",
        "1 word has none",
        "test: 1 sentence (50.0%) is also in train",
        "test: labels unknown to train: Z",
    ):
        assert part in report, (part, report)


def test_report_of_plain_tags_and_of_nothing() -> None:
    assert "labels: NN 2 (66.7%)" in check({"f": dataset(("a b c", "NN NN DT"), plain=True)})
    assert "0 sentences, 0 words, 0 entities" in check({"f": dataset()})
    assert [percentile([5, 1, 3], p) for p in (0, 33, 34, 100)] == [1, 1, 3, 5]
    assert percentile([], 50) == 0
    assert not tag_spans(("O",))
