"""The column reader: every quirk real files are known to have."""

from pathlib import Path

import pytest

from lmsl.data.read import read
from lmsl.data.tags.schemes import IGNORED
from lmsl.data.tags.sentence import Dataset
from lmsl.errors import InputError


def load(folder: Path, text: str | bytes, name: str = "data.conll", **options: object) -> Dataset:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, **options)  # type: ignore[arg-type]


def words(dataset: Dataset) -> list[tuple[str, ...]]:
    return [sentence.words for sentence in dataset]


@pytest.mark.parametrize(
    "separator", ["", " ", "\t", "  \t ", "\u200b", "\ufeff\u200b", "\u00a0", "\n\n\t\n"]
)
def test_anything_invisible_separates(tmp_path: Path, separator: str) -> None:
    dataset = load(tmp_path, f"\n{separator}\na\tO\nb\tB-X\n{separator}\nc\tO")
    assert words(dataset) == [("a", "b"), ("c",)]


def test_crlf_bom_and_odd_line_separators(tmp_path: Path) -> None:
    text = "\ufeffa\u2028b O\r\n\x0bc\x85 B-X\r\n\r\nd\u3000 O\r\n"
    dataset = load(tmp_path, text)
    assert words(dataset) == [("a\u2028b", "\x0bc\x85"), ("d\u3000",)]
    assert dataset.sentences[0].tags == ("O", "B-X")
    assert dataset.sentences[1].where.endswith("data.conll:4")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\u200b\tO\nx\u200b\tB-X\n\ufeff \tI-X\n", "\u200b|x\u200b|\ufeff "),
        (
            "# id = 7\n# free remark here\n#\tO\n#tag\tB-X\n# a = b\tO\n\n#\tO\n",
            "#|#tag|# a = b||#",
        ),
        ("# x = 1\n# O\n#tag O\n", "#|#tag"),
        ("# O\n\n# O\n", "#||#"),
        ("1 x O\n3 x O\n", "1|3"),
        ("a O\r\nb O\r\n", "a|b"),
        ("a O\n# key = value\nb O\n", "a|b"),
    ],
)
def test_words_are_told_from_remarks_and_numbers(tmp_path: Path, text: str, expected: str) -> None:
    for labelled in (True, False):
        found = words(load(tmp_path, text, labelled=labelled))
        assert "||".join("|".join(sentence) for sentence in found) == expected


def test_documents(tmp_path: Path) -> None:
    text = (
        "a O\n\n-DOCSTART- -X- O O\n\nb O\n\nc O\n-DOCSTART-\nd O\n\n"
        "# newdoc id = n1\n# sent_id = s-9\ne O\n\n#begin document (bc/x); part 000\nf O\n"
        "\n#end document\n# doc_id = 5\ng O\n"
    )
    dataset = load(tmp_path, text)
    documents = [s.document for s in dataset]
    assert words(dataset) == [("a",), ("b",), ("c",), ("d",), ("e",), ("f",), ("g",)]
    assert documents[0] is None and documents[1] == documents[2]
    assert len(set(documents)) == 6 and documents[4] == "n1" and documents[6] == "5"
    assert dataset.sentences[4].id == "s-9"


def test_numbered_words_and_skipped_nodes(tmp_path: Path) -> None:
    text = (
        "# text = Im Haus.\n1-2\tIm\t_\t_\n"
        "1\tIn\tO\tx\n2\tdem\tO\tx\n2.1\t-\t_\t_\n3\tHaus\tB-X\tx\n"
        "\n1\tJa\tO\tx\n"
    )
    dataset = load(tmp_path, text, tag_column=3)
    assert words(dataset) == [("In", "dem", "Haus"), ("Ja",)]
    assert dataset.sentences[0].tags == ("O", "O", "B-X")
    assert any("2 multiword" in note for note in dataset.notes)
    assert dataset.sentences[0].where.endswith(":3")
    chosen = load(tmp_path, text, tag_column=-2, token_column=2, scheme="plain")
    assert chosen.sentences[0].words[0] == "Im"


def test_tag_column_counts_from_one(tmp_path: Path) -> None:
    text = "a DT B-X\nb NN I-X\n"
    assert load(tmp_path, text, tag_column=2).plain
    assert load(tmp_path, text, tag_column=3) == load(tmp_path, text, tag_column=-1)
    for column in (0, 4, -4):
        with pytest.raises(
            InputError, match=f"--tag-column {column}: .*3 columns, counted from 1"
        ):
            load(tmp_path, text, tag_column=column)
    with pytest.raises(InputError, match="holds the words"):
        load(tmp_path, text, tag_column=1)


def test_invalid_tags_are_repaired_and_counted_or_refused(tmp_path: Path) -> None:
    text = "a B-X\nb I-Y\n\nc O\nd I-X\n\ne B-X\n"
    dataset = load(tmp_path, text)
    assert [s.tags for s in dataset] == [("B-X", "B-Y"), ("O", "B-X"), ("B-X",)]
    assert dataset.repairs == 2 and any(note.startswith("2 tags") for note in dataset.notes)
    with pytest.raises(InputError, match=r"data\.conll:2: tag 'I-Y'"):
        load(tmp_path, text, strict_tags=True)


def test_partial_annotation(tmp_path: Path) -> None:
    dataset = load(tmp_path, "a ?\nb B-X\nc ?\n", ignore_tag="?")
    assert dataset.sentences[0].tags == (IGNORED, "B-X", IGNORED)
    assert any("2 words have no label" in note for note in dataset.notes)
    assert any("'?'" in n for n in load(tmp_path, "a O\n", ignore_tag="?").notes)


def test_unlabelled(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r":1: expected a word and a tag"):
        load(tmp_path, "a\nb\n")
    dataset = load(tmp_path, "a\n#b\n\nc\n", labelled=False)
    assert words(dataset) == [("a", "#b"), ("c",)] and dataset.sentences[0].tags is None
    assert load(tmp_path, "a nonsense\nb tags\n", labelled=False).sentences[0].tags is None


def test_one_odd_tag_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.conll:2: .*'PER'"):
        load(tmp_path, "a B-PER\nb PER\n")
    assert load(tmp_path, "a B-PER\nb PER\n", scheme="plain").plain


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n \t\r\n", "empty"),
        (b"-DOCSTART- O\n", "no words"),
        (b"# a = b\n", "no words"),
        (b"a O\n\x00\x01\n", ":2: .*NUL"),
        ("a O\n".encode("utf-16"), "NUL"),
        (b"a O\n\xff O\n", ":2: .*0xff"),
        (b"a O\nb\nc O\n", ":2: expected 2 columns, got 1"),
        (b"a\tO\nb\tX\tO\n", ":2: expected 2 columns, got 3"),
        (b"a\tO\nb\t \n", ":2: expected a tag for 'b'"),
        (b"\xf0\x9f", ":1: .*0xf0"),
    ],
)
def test_refusals_name_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path, content)
    assert "\n" not in str(caught.value) and "data.conll" in str(caught.value)


def test_missing_file_and_bad_options(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "none.txt")
    for name, option in (("format", "--format"), ("scheme", "--scheme")):
        with pytest.raises(InputError, match=option):
            load(tmp_path, "a O\n", **{name: "nonsense"})


def test_a_remark_inside_a_sentence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r":2: expected 2 columns, got 4"):
        load(tmp_path, "a O\n# not a comment\nb O\n")
    with pytest.raises(InputError, match=r":5: tag 'I-Z'"):
        load(tmp_path, "a O\n# k = v\nb O\n# k = v\nc I-Z\n", strict_tags=True, scheme="iob2")
