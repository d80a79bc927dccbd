"""Real data sets load with the counts their documentation states.

Entities are counted a second time here, by means too simple to share a mistake with the readers.
"""

import json
import re
from pathlib import Path

import pytest

from lmsl.data.formats.options import ReadOptions
from lmsl.data.read import read
from lmsl.data.splits import load_splits
from lmsl.data.tags.schemes import tag_spans
from lmsl.data.tags.sentence import Dataset
from lmsl.errors import InputError
from tests.shared import DATA, SHARED, needs_shared

pytestmark = needs_shared


def entities(dataset: Dataset) -> int:
    """Every gold entity, those that tags cannot express included."""
    return sum(len(tag_spans(s.tags or ())) + len(s.missed) for s in dataset)


def count(path: Path, pattern: str) -> int:
    return len(re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize(
    ("name", "sentences"),
    [
        ("conll2000/train.txt", 8936),
        ("conll2000/test.txt", 2012),
        ("wnut17/wnut17train.conll", 3394),
        ("wnut17/emerging.dev.conll", 1009),
        ("wnut17/emerging.test.annotated", 1287),
    ],
)
def test_columns(name: str, sentences: int) -> None:
    dataset = read(DATA / name, strict_tags=True)
    assert len(dataset) == sentences
    assert entities(dataset) == count(DATA / name, r"[ \t]B-\S+$")
    words = [word for sentence in dataset for word in sentence.words]
    assert len(words) == count(DATA / name, r"[ \t]\S+$")
    assert dataset.scheme == "iob2" and dataset.repairs == 0


def test_zero_width_characters_of_wnut_are_kept() -> None:
    path = DATA / "wnut17" / "emerging.dev.conll"
    words = [word for sentence in read(path) for word in sentence.words]
    given = path.read_text(encoding="utf-8")
    for character in "\u200b\ufeff":
        assert sum(word.count(character) for word in words) == given.count(character) > 0
    assert words.count("#") == count(path, r"^#\t")


def test_a_release_with_several_tags_a_word_is_read_as_stated() -> None:
    dataset = read(DATA / "wnut17" / "emerging.test.conll")
    assert len(dataset) == 1287
    assert any("," in tag for sentence in dataset for tag in sentence.tags or ())


@pytest.mark.parametrize(
    ("language", "sentences", "repairs"),
    [
        ("Danish-DDT", (4383, 564, 565), (6, 0, 1)),
        ("Swedish-Talbanken", (4303, 504, 1219), (0,) * 3),
    ],
)
def test_uner(language: str, sentences: tuple[int, ...], repairs: tuple[int, ...]) -> None:
    folder = DATA / "uner" / f"UNER_{language}"
    splits = load_splits(data=str(folder), options=ReadOptions(tag_column=3))
    assert splits.test is not None
    parts = (splits.train, splits.dev, splits.test)
    assert tuple(len(part) for part in parts) == sentences
    assert tuple(part.repairs for part in parts) == repairs
    for part in parts:
        stated = count(Path(part.source), r"^\d+\t[^\t]+\tB-")
        assert entities(part) == stated + part.repairs
    documents = {s.document for s in splits.train}
    assert len(documents) == (62 if language.startswith("Swedish") else 1)


def test_snips() -> None:
    splits = load_splits(data=str(DATA / "snips"))
    assert splits.test is not None
    for part, sentences in ((splits.train, 13084), (splits.dev, 700), (splits.test, 700)):
        assert len(part) == sentences
        assert entities(part) == count(Path(part.source) / "seq.out", r"\bB-\S+")
    assert len(splits.labels.types) == 39


@pytest.mark.parametrize(
    ("domain", "sentences", "lost"), [("banking", 2071, 1), ("hotels", 1009, 2)]
)
def test_nlupp(domain: str, sentences: int, lost: int) -> None:
    folder = DATA / "nlupp" / "data" / domain
    dataset = read(folder)
    items = [item for path in folder.glob("*.json") for item in json.loads(path.read_text())]
    assert len(dataset) == len(items) == sentences
    assert entities(dataset) == sum(len(item.get("slots", {})) for item in items)
    assert sum(len(sentence.missed) for sentence in dataset) == lost


def test_mams() -> None:
    splits = load_splits(data=str(DATA / "mams_atsa"))
    assert splits.test is not None
    for part, sentences in ((splits.train, 4297), (splits.dev, 500), (splits.test, 500)):
        assert len(part) == sentences
        assert entities(part) == count(Path(part.source), "<aspectTerm ")
    assert splits.labels.types == ("negative", "neutral", "positive")
    assert not any("beside the text" in note for note in splits.notes)


def test_litbank() -> None:
    folder = DATA / "litbank_events" / "tsv"
    splits = load_splits(train=folder, split_seed=5)
    assert len(splits.train) + len(splits.dev) == 8562
    assert entities(splits.train) + entities(splits.dev) == 7849
    documents = [{s.document for s in part} for part in (splits.train, splits.dev)]
    assert documents[0].isdisjoint(documents[1]) and len(documents[0] | documents[1]) == 100
    assert 0.08 < len(splits.dev) / 8562 < 0.15


# Sentences, words and entities of each file, or words of its refusal.
CASES = """
json-deep-nesting: d.json nested too deeply, d.jsonl d.jsonl:2: nested too deeply
cr-only-line-ends: cr.conll 2 3 2
number-words-taken-as-ids: num.conll 2 3 2, num1.conll 1 3 1
predict-txt-columns-as-text: bmes.txt 2 9 3, cols.txt 2 4 2
underscore-lower-suffix-tags: under.conll 1 7 2, suffix.conll 1 7 2
underscore-lower-suffix-tags: lower.conll 1 6 2, lower2.conll 1 7 2
conllu-misc-tags: norne.conllu 1 3 1
prodigy-answers: prodigy_notok.jsonl 1 6 1
prodigy-token-objects: prodigy.jsonl 1 6 1
error-names-wrong-line: blanktoken.txt blanktoken.txt:4:, trailsp.conll trailsp.conll:4:
any-separator: comma.txt --separator, pipe.txt --separator, csv.csv --separator
label-with-tab-or-newline: labelsp.jsonl control, typenl.jsonl control, typetab.jsonl control
label-with-tab-or-newline: docst.jsonl 1 2 1, one.jsonl 1 1 1
other-json-shapes: doccano_ents.jsonl 1 6 1, doccano_label.jsonl 1 6 2, labelstudio.json 1 6 1
other-json-shapes: gliner.jsonl 1 3 1, hf_strs.jsonl 1 3 1, hf_ints.jsonl keys id
.: empty-word.conll 1 5 2, span-beside-text.jsonl 1 4 2
"""


@pytest.mark.skipif(not (SHARED / "cases").is_dir(), reason="the awkward cases are not there")
@pytest.mark.parametrize("line", CASES.strip().split("\n"))
def test_awkward_cases(line: str) -> None:
    folder, _, cases = line.partition(": ")
    for name, expected in (case.split(" ", 1) for case in cases.split(", ")):
        path = SHARED / "cases" / folder / name
        if expected[0].isdigit():
            dataset = read(path)
            words = [len(sentence.words) for sentence in dataset]
            assert f"{len(words)} {sum(words)} {entities(dataset)}" == expected, name
        else:
            with pytest.raises(InputError, match=re.escape(expected)):
                read(path)
        if folder == "any-separator":
            dataset = read(path, separator="|" if name == "pipe.txt" else ",")
            assert sum(len(sentence.words) for sentence in dataset) == 4, name
