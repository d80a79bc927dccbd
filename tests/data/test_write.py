"""Writing, converting and describing."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsl.data.describe import check, percentile
from lmsl.data.formats.options import ReadOptions
from lmsl.data.read import read
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
        "1 words have none",
        "test: 1 sentences (50.0%) are also in train",
        "test: labels unknown to train: Z",
    ):
        assert part in report, (part, report)


def test_report_of_plain_tags_and_of_nothing() -> None:
    assert "labels: NN 2 (66.7%)" in check({"f": dataset(("a b c", "NN NN DT"), plain=True)})
    assert "0 sentences, 0 words, 0 entities" in check({"f": dataset()})
    assert [percentile([5, 1, 3], p) for p in (0, 33, 34, 100)] == [1, 1, 3, 5]
    assert percentile([], 50) == 0
    assert not tag_spans(("O",))
