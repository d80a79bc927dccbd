"""What a file is taken for: said where it is not plain, refused where it only looks like it."""

import json
from pathlib import Path
from typing import Any

import pytest

from lmsl.data.formats.cells import Peeked, by_separator
from lmsl.data.formats.options import ReadOptions
from lmsl.data.read import open_source, read
from lmsl.data.resolve import EMPTY_WORD
from lmsl.data.tags.notation import MAX_LABELS
from lmsl.data.tags.schemes import parse_tag, tag_spans
from lmsl.data.tags.sentence import Dataset
from lmsl.errors import InputError

SPAN = {"start": 0, "end": 1, "label": "PER"}


def load(folder: Path, text: str, name: str = "data.conll", **options: Any) -> Dataset:
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return read(folder / name, **options)


def found(dataset: Dataset) -> list[str]:
    """Every entity as ``words/type``."""
    return [
        f"{' '.join(s.words[e.start : e.end])}/{e.type}"
        for s in dataset
        for e in tag_spans(s.tags or ())
    ]


@pytest.mark.parametrize(
    "tags",
    ["B_GEO I_GEO O", "b-GEO i-GEO o", "GEO-B GEO-I o", "b:GEO i:GEO O", "B–GEO I–GEO o"],
)
def test_other_notations_are_read_and_said(tmp_path: Path, tags: str) -> None:
    begin, inside, outside = tags.split()
    text = f"Rio {begin}\nNegro {inside}\nfloods {outside}\n\nRio {begin}\n"
    dataset = load(tmp_path, text)
    assert found(dataset) == ["Rio Negro/GEO", "Rio/GEO"] and not dataset.repairs
    assert f"tags are read as B-GEO where '{begin}' is written" in dataset.notes
    with pytest.raises(InputError, match=r"conll:1: tag 'I-GEO' breaks the scheme iob2"):
        load(tmp_path, f"Rio {inside}\nruns {outside}\n\n{text}", strict_tags=True)


def test_small_letters_alone_and_a_small_o(tmp_path: Path) -> None:
    assert found(load(tmp_path, "Rio b\nNegro i\nfloods o\n")) == ["Rio Negro/_"]
    dataset = load(tmp_path, "Rio B-GEO\nfloods o\n")
    assert found(dataset) == ["Rio/GEO"] and "tag 'o' is read as O" in dataset.notes
    # Said to be tags of a scheme, they need no second letter to prove it.
    assert found(load(tmp_path, "Rio b-GEO\nfloods o\n", scheme="iob2")) == ["Rio/GEO"]


@pytest.mark.parametrize(
    ("tags", "reading"),
    [
        ("B_GEO I_GEO rest O O O O", "'B_GEO' look like B-TYPE.*'rest' does not.*--scheme"),
        ("BGEO IGEO O O O", "'BGEO' look like B-TYPE"),
        ("begin-GEO inside-GEO O O O", "look like B-TYPE"),
        ("b-geo O O O", "'b-geo' look like B-TYPE"),
        ("GEO O O VERB ADP ADV", "--scheme: bare .* or plain"),
        ("GEO _ _ _ ORG", "expected O .*, got '_' on most words"),
        ("GEO 0 0 0", "expected O .*, got '0' on most words"),
        ("_ _ _", "expected tags, got '_' on every word, .*--tag-column"),
        ("- -", "expected tags, got '-' on every word"),
        ("none", "expected tags, got 'none' on every word"),
        ("floods. dries.", "lines of a text"),
    ],
)
def test_no_set_of_tags_is_taken_for_plain_or_bare_in_silence(
    tmp_path: Path, tags: str, reading: str
) -> None:
    text = "".join(f"w {tag}\n" for tag in tags.split())
    with pytest.raises(InputError, match=rf"data.conll: .*{reading}"):
        load(tmp_path, text)
    assert load(tmp_path, text, scheme="plain").plain
    assert load(tmp_path, text, scheme="bare").scheme == "bare"


def test_a_word_that_means_something_may_stand_on_every_word(tmp_path: Path) -> None:
    assert load(tmp_path, "Ada NOUN\nmet NOUN\n").scheme == "plain"
    assert load(tmp_path, "Ada _\nmet _\n", ignore_tag="_").notes[-1].startswith("2 words have no")


def test_numbers_are_words_where_no_word_is_left_beside_them(tmp_path: Path) -> None:
    assert load(tmp_path, "1 NN\n2 VB\n").sentences[0].words == ("1", "2")
    for text in ("1\tB-N\n2\tI-N\n", "1 0 1 B-N\n2 2 3 I-N\n", "1\tB-N\tO\n2\tI-N\tO\n"):
        dataset = load(tmp_path, text, tag_column=-1)
        assert dataset.sentences[0].words == ("1", "2"), text
    with pytest.raises(InputError, match=r"holds the words.*--token-column 1"):
        load(tmp_path, "1 a O\n2 b O\n", tag_column=2)
    late = "1\ta\tO\n2\tb\tO\n\n" * 500 + "7\tc\tO\n"
    with pytest.raises(InputError, match=r":1501: expected 1, .*got '7'.*--token-column"):
        load(tmp_path, late)


def test_lines_that_end_in_carriage_returns_alone(tmp_path: Path) -> None:
    dataset = load(tmp_path, "Rio B-GEO\rfloods O\r\rAda B-PER\r")
    assert found(dataset) == ["Rio/GEO", "Ada/PER"] and dataset.sentences[1].where.endswith(":4")
    text = load(tmp_path, "one\rtwo two\r", "t.txt", labelled=False)
    assert [s.text for s in text] == ["one", "two two"]
    assert load(tmp_path, "a\rb O\nc O\n").sentences[0].words == ("a\rb", "c"), "part of a token"
    lines = load(tmp_path, '{"tokens": ["a"], "tags": ["O"]}\r' * 2, "l.jsonl")
    assert len(lines) == 2


def test_features_that_hold_the_tag(tmp_path: Path) -> None:
    rows = ["Ada\tX=1|ne=B-PER", "Byron\tne=I-PER|X=1", "sat\tX=2", "down\t_"]
    text = "".join(f"{i}\t{row}\n" for i, row in enumerate(rows, 1))
    dataset = load(tmp_path, text)
    assert found(dataset) == ["Ada Byron/PER"]
    assert "tags are those after ne= in column 3" in dataset.notes
    assert "2 words without ne= in column 3: read as O" in dataset.notes
    with pytest.raises(InputError, match=r"features \(X, ne; tags in X and ne\).*--tag-column"):
        load(tmp_path, text.replace("X=1", "X=O").replace("X=2", "X=O"))
    with pytest.raises(InputError, match=r"none of them a tag.*--scheme plain"):
        load(tmp_path, text.replace("B-", "").replace("I-", ""))
    assert load(tmp_path, text, scheme="plain").plain


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a B-X\nb I-X\n\t O\nc O\n", 3),
        ("a O\n\nb O\nc O\t\nd O\n", 4),
        ("a\tO\nb O\nc\tO\n", 2),
        ("a O\n\nb\n", 3),
    ],
)
def test_a_stray_separator_is_named_by_its_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(InputError, match=rf"data\.conll:{line}: expected"):
        load(tmp_path, text)


@pytest.mark.parametrize("mark", [",", ";", "|"])
def test_another_separator_is_named_and_read(tmp_path: Path, mark: str) -> None:
    text = f'Rio{mark}"B-GEO"\n"a ""{mark}"{mark}O\n{mark}\n"{mark}O\n'
    simple = f"Rio{mark}B-GEO\nfloods{mark}O\n"
    for labelled in (True, False):
        for name in ("data.conll", "data.txt"):
            with pytest.raises(InputError, match=rf"--separator '\{mark}'"):
                load(tmp_path, simple, name, labelled=labelled)
    dataset = load(tmp_path, text, separator=mark)
    assert [s.words for s in dataset] == [("Rio", f'a "{mark}'), ('"',)]
    assert dataset == load(tmp_path, text, separator=mark, token_column=1)
    assert by_separator(mark)(f'a{mark}""{mark}') == ["a", "", ""]


def test_a_header_names_the_columns(tmp_path: Path) -> None:
    table = (
        "Sentence #,Token,POS,Label\nS1,Rio,NP,B-GEO\n,dries,VB,O\nS2,Ada,NP,B-PER\nS2,sat,VB,O\n"
    )
    dataset = load(tmp_path, table, separator=",")
    assert [s.words for s in dataset] == [("Rio", "dries"), ("Ada", "sat")]
    assert any("names the columns (Sentence #, Token, POS, Label)" in n for n in dataset.notes)
    with pytest.raises(InputError, match="--separator ','"):
        load(tmp_path, table)
    assert len(load(tmp_path, "a\tO\nb\tO\n", separator="tab").sentences[0].words) == 2
    for bad in ("", "x", "\n"):
        with pytest.raises(InputError, match="--separator: expected"):
            load(tmp_path, table, separator=bad)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("# sent_id = 9\nAda NNP B-PER\nsat VBD O\n", "columns"),
        ("Ada B-PER\nvan M-PER\nLou E-PER\n", "columns"),
        ("Ada B_PER\nvan I_PER\nsat O\n", "columns"),
        ("The DT\ndog NN\nran VB\n", "columns"),
        ("-DOCSTART- O\n\na b\n", "columns"),
        ("The cat\nsat down\nran off\n", "text"),
        ("I met Ada.\nAda B-PER\n", "text"),
        ('[\n {"text": "a"}\n]\n', "json"),
        ('{"text": "a"}\n', "json"),
        ('{"text": "a"', "json"),
        ("{ O\n} O\n", "columns"),
    ],
)
def test_what_a_file_holds_tells_more_than_its_name(tmp_path: Path, text: str, kind: str) -> None:
    (tmp_path / "data.txt").write_text(text)
    options = ReadOptions(labelled=False)
    assert open_source(tmp_path / "data.txt", options, {"DT", "NN", "VB"}).kind == kind
    if kind == "columns":
        # Commands that need labels see the same words.
        unlabelled = open_source(tmp_path / "data.txt", options, {"DT", "NN", "VB"}).raws
        labelled = open_source(tmp_path / "data.txt", ReadOptions()).raws
        assert [raw.words for raw in unlabelled] == [raw.words for raw in labelled]


def test_no_more_lines_are_asked_for_than_decide() -> None:
    asked: list[str] = []

    def lines() -> Any:
        for line in ["Ada sat.", "Ada B-PER"]:
            asked.append(line)
            yield line

    peeked = Peeked(lines())
    assert next(peeked.peek()) == "Ada sat." and asked == ["Ada sat."]
    assert list(peeked) == ["Ada sat.", "Ada B-PER"]


def test_rows_without_a_word_are_words(tmp_path: Path) -> None:
    for text in ("so\tO\n\tB-GEO\n\tI-GEO\nok\tO\n", "so O\n B-GEO\n I-GEO\nok O\n"):
        dataset = load(tmp_path, text)
        assert found(dataset) == [f"{EMPTY_WORD} {EMPTY_WORD}/GEO"] and dataset.doubts == 2
        assert any(note.startswith("2 rows have a tag and no word") for note in dataset.notes)
        with pytest.raises(InputError, match=r"conll:2: expected a word beside the tag"):
            load(tmp_path, text, strict_tags=True)
        assert load(tmp_path, text, labelled=False).sentences[0].words[1] == EMPTY_WORD


@pytest.mark.parametrize(
    "item",
    [
        {"text": "Ada Lou sat", "label": [[0, 7, "PER"]]},
        {"text": "Ada Lou sat",
            "entities": [{"start_offset": 0, "end_offset": 7, "label": "PER"}]},
        {"tokenized_text": ["Ada", "Lou", "sat"], "ner": [[0, 1, "PER"]]},
        {"tokens": ["Ada", "Lou", "sat"], "ner_tags": ["B-PER", "I-PER", "O"]},
        {"data": {"text": "Ada Lou sat"}, "id": 3, "annotations": [
            {"was_cancelled": True, "result": []},
            {"result": [{"value": {"start": 0, "end": 7, "labels": ["PER"]}}]}]},
        {"text": "Ada Lou sat", "tokens": [{"text": "Ada", "start": 0, "end": 3},
            {"text": "Lou", "start": 4, "end": 7}, {"text": "sat", "start": 8, "end": 11}],
            "spans": [{"start": 0, "end": 7, "label": "PER"}], "answer": "accept"},
    ],
    ids=["doccano", "doccano-objects", "gliner", "hugging-face", "label-studio", "prodigy"],
)  # fmt: skip
def test_shapes_of_other_tools(tmp_path: Path, item: dict[str, Any]) -> None:
    dataset = load(tmp_path, json.dumps(item), "data.jsonl")
    assert found(dataset) == ["Ada Lou/PER"] and dataset.sentences[0].words[2] == "sat"
    assert any("1 sentence of" in note for note in dataset.notes) or "answer" in item
    same = load(tmp_path, json.dumps(item), "data.jsonl", labelled=False)
    assert [s.words for s in same] == [s.words for s in dataset]


def test_rejected_and_ignored_answers_are_left_out_and_counted(tmp_path: Path) -> None:
    spans = [{"start": 0, "end": 3, "label": "PER"}]
    items = [
        {"text": "Ada", "spans": spans, "answer": answer}
        for answer in ("accept", "reject", "ignore", "42")
    ]
    dataset = load(tmp_path, "\n".join(map(json.dumps, items)), "data.jsonl")
    assert len(dataset) == 2 and "2 lines answered reject or ignore, left out" in dataset.notes
    with pytest.raises(InputError, match=r"no sentence with words \(1 line answered"):
        load(tmp_path, json.dumps(items[1]), "data.jsonl")


@pytest.mark.parametrize("control", ["\t", "\n", "\x0b", "\x85", "\u2028"])
def test_types_with_control_characters_are_refused(tmp_path: Path, control: str) -> None:
    span = {"start": 0, "end": 1, "label": f"a{control}b"}
    for item in ({"text": "x", "spans": [span]}, {"tokens": ["x"], "tags": [f"B-a{control}b"]}):
        with pytest.raises(InputError, match=r"jsonl:1: expected .* control characters"):
            load(tmp_path, json.dumps(item), "data.jsonl")
    if control not in "\t\n":
        with pytest.raises(InputError, match=r"conll:2: expected tags without control"):
            load(tmp_path, f"w\tO\nx\tB-a{control}b\n")


def test_too_many_labels_are_a_mistake(tmp_path: Path) -> None:
    text = "".join(f"w\tB-{number}\n\n" for number in range(MAX_LABELS + 1))
    assert len(load(tmp_path, text.partition(f"w\tB-{MAX_LABELS}")[0])) == MAX_LABELS
    with pytest.raises(InputError, match=f"at most {MAX_LABELS} different labels.*--tag-column"):
        load(tmp_path, text)
    endless = "".join(f"w\tB-{number}\n\n" for number in range(9 * MAX_LABELS)) + "\0"
    with pytest.raises(InputError, match="different labels"):
        load(tmp_path, endless)


def test_equal_words_and_tags_are_read_once(tmp_path: Path) -> None:
    parse_tag.cache_clear()
    dataset = load(tmp_path, "Rio\tB-GEO\nNegro\tI-GEO\nfloods\tO\n\n" * 500)
    assert parse_tag.cache_info().misses <= 3
    assert len({id(word) for s in dataset for word in (*s.words, *(s.tags or ()))}) == 6


def test_messages_quote_eighty_characters(tmp_path: Path) -> None:
    long = "x" * 5000
    for text, name in (
        (f"w B-{long}\nv {long}\n", "a.conll"),
        (json.dumps({"tokens": ["a"], "tags": ["O"], "doc": [long]}), "a.jsonl"),
        (json.dumps({long: 1}), "a.jsonl"),
        (json.dumps({"text": "a", "spans": [{**SPAN, "end": 10**200, "label": long}]}), "a.jsonl"),
        (json.dumps({"text": "a", "spans": [long]}), "a.jsonl"),
    ):
        with pytest.raises(InputError) as caught:
            load(tmp_path, text, name)
        message = str(caught.value).replace(str(tmp_path), "")
        assert len(message) < 330 and long[:81] not in message
