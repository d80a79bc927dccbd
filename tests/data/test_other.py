"""ABSA XML, seq.in/seq.out, folders, running text and hub datasets."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lmsl.data.formats.options import ReadOptions
from lmsl.data.from_hub import from_hub, read_hub
from lmsl.data.read import read
from lmsl.data.tags.schemes import IGNORED, tag_spans
from lmsl.data.tags.sentence import Dataset
from lmsl.errors import InputError

ABSA = """<?xml version="1.0" encoding="UTF-8"?>
<sentences><sentence id="3"><text>Fish &amp; chips, d&#233;j&#xE0; vu</text><aspectTerms>
<aspectTerm term="Fish &amp; chips" polarity="positive" from="0" to="12"/>
<aspectTerm term="chips" polarity="negative" from="7" to="12"/>
<aspectTerm term="vu" polarity="conflict" from="19" to="21"/>
</aspectTerms></sentence><sentence id="4"><text>Fine.</text></sentence></sentences>"""


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def spans(dataset: Dataset) -> list[list[str]]:
    return [
        [f"{' '.join(s.words[e.start : e.end])}/{e.type}" for e in tag_spans(s.tags or ())]
        for s in dataset
    ]


def test_absa(tmp_path: Path) -> None:
    dataset = read(written(tmp_path, {"rest.xml": ABSA}) / "rest.xml")
    assert spans(dataset) == [["Fish & chips/positive", "vu/conflict"], []]
    assert dataset.sentences[0].missed == ("negative",)
    assert dataset.sentences[0].text == "Fish & chips, déjà vu"
    assert [s.id for s in dataset] == ["3", "4"]
    assert read(tmp_path / "rest.xml", labelled=False).sentences[0].tags is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</sentences>", "", r"rest\.xml:6: not valid XML"),
        ("<text>Fine.</text>", "", "sentence 2: expected a <text>"),
        ('polarity="conflict" ', "", "sentence 1: expected <aspectTerm> to have 'polarity'"),
        ('from="19"', 'from="x"', "whole number, got 'x'"),
        ('to="21"', 'to="99"', r"within \[0, 21\)"),
        ("&amp; chips, d", "&nonsense; d", "not valid XML"),
    ],
)
def test_broken_absa(tmp_path: Path, old: str, new: str, message: str) -> None:
    written(tmp_path, {"rest.xml": ABSA.replace(old, new)})
    with pytest.raises(InputError, match=message):
        read(tmp_path / "rest.xml")


def test_xml_of_another_kind(tmp_path: Path) -> None:
    written(tmp_path, {"a.xml": "<html/>"})
    with pytest.raises(InputError, match="<html> without any"):
        read(tmp_path / "a.xml")


def test_seq_pairs(tmp_path: Path) -> None:
    files = {"seq.in": "a  b \n\nc\u00a0d e\n", "seq.out": "O B-x \n\nB-y\tO"}
    dataset = read(written(tmp_path, files))
    assert [s.words for s in dataset] == [("a", "b"), ("c\u00a0d", "e")]
    assert spans(dataset) == [["b/x"], ["c\u00a0d/y"]]
    assert any("1 empty line skipped" in note for note in dataset.notes)
    assert read(tmp_path / "seq.in") == dataset or read(tmp_path / "seq.in").sentences
    for tags, message in (
        ("O\n\nO O", r"seq\.out:1: expected 2 tags"),
        ("O O", "expected 3 lines"),
    ):
        written(tmp_path, {"seq.out": tags})
        with pytest.raises(InputError, match=message):
            read(tmp_path)


def test_folder_of_documents(tmp_path: Path) -> None:
    files = {
        "b.tsv": "x\tEVENT\ny\tEVENT\nz\tO\nz\tO\nz\tO\n",
        "a.tsv": "-DOCSTART-\tO\n\nx\tO\n\n-DOCSTART-\tO\n\ny\tO\n",
        "README.txt": "not data",
        "LICENSE": "not data",
    }
    dataset = read(written(tmp_path, files))
    assert [s.document for s in dataset] == ["a:1", "a:2", "b"]
    assert spans(dataset) == [[], [], ["x/EVENT", "y/EVENT"]]
    assert dataset.scheme == "bare" and not dataset.plain
    written(tmp_path, {"c.json": "[]"})
    with pytest.raises(InputError, match=r"one kind, found files in \.json, \.tsv"):
        read(tmp_path)


def test_folder_of_splits_is_no_split(tmp_path: Path) -> None:
    written(tmp_path, {"train.txt": "a O\n", "test.txt": "b O\n"})
    with pytest.raises(InputError, match="expected one split, found several"):
        read(tmp_path)
    with pytest.raises(InputError, match="found none"):
        read(written(tmp_path / "sub", {"x.md": "a"}))


def test_running_text_keeps_empty_lines(tmp_path: Path) -> None:
    path = written(tmp_path, {"t.txt": "Hello, you.\n\n  \n😀\r\n"}) / "t.txt"
    dataset = read(path, format="text", labelled=False)
    assert [len(s.words) for s in dataset] == [4, 0, 0, 1]
    with pytest.raises(InputError, match="for prediction only"):
        read(path, format="text")
    assert [s.text for s in read(path, labelled=False)] == ["Hello, you.", "", "  ", "😀"]
    with pytest.raises(InputError, match=r":3: expected 1 column, got 2.*--format text"):
        read(written(tmp_path, {"t.tsv": "a\n\nb c\n"}) / "t.tsv", labelled=False)


class Rows(list[dict[str, Any]]):
    """As much of a hub dataset as the reader touches."""

    def __init__(self, rows: list[dict[str, Any]], names: list[str] | None) -> None:
        super().__init__(rows)
        inner = SimpleNamespace(names=names) if names else SimpleNamespace()
        self.features = {"id": None, "tokens": None, "ner_tags": SimpleNamespace(feature=inner)}


def test_hub_rows() -> None:
    rows = [{"id": "0", "tokens": ["Ada", "x"], "ner_tags": [1, -100]}]
    found = from_hub({"train": Rows(rows, ["O", "B-PER"])}, "name", ReadOptions())
    assert found["train"].sentences[0].tags == ("B-PER", IGNORED)
    strings = [{"id": None, "tokens": ["Ada"], "ner_tags": ["I-PER"]}]
    split = {"train": Rows(strings, None), "validation": Rows(strings, None)}
    assert set(from_hub(split, "name", ReadOptions())) == {"train", "dev"}
    with pytest.raises(InputError, match="tag number 7"):
        from_hub({"train": Rows([{"tokens": ["a"], "ner_tags": [7]}], ["O"])}, "n", ReadOptions())
    with pytest.raises(InputError, match="expected a split train, found test"):
        from_hub({"test": Rows(rows, ["O", "B-PER"])}, "n", ReadOptions())
    bad = Rows(rows, None)
    bad.features = {"sentence": None}
    with pytest.raises(InputError, match="expected a column tokens or words, found sentence"):
        from_hub({"train": bad}, "n", ReadOptions())


def test_hub_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(InputError, match=r"no such folder.*pip install -e '\.\[datasets\]' in"):
        read_hub("conll2003", ReadOptions())
