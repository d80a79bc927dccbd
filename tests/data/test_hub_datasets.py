"""Token datasets through the real `datasets` library, in folders laid out as on the hub."""

import json
from pathlib import Path
from typing import Any

import pytest

from lmsl.data import from_hub as read_hub
from lmsl.data.formats.options import ReadOptions
from lmsl.data.splits import load_splits
from lmsl.data.tags.schemes import IGNORED
from lmsl.errors import InputError
from tests.small_runs import metrics_of, train

datasets = pytest.importorskip("datasets", reason="needs the package datasets")

ROWS = {
    "id": [0, 1, 2, 3],
    "doc_id": [0, 0, 1, 1],
    "tokens": [["Ada", "Love\u2028lace", "met"], ["Röme"], [], ["x", "y"]],
    "ner_tags": [[1, 2, 0], [3], [], [-100, None]],
}
NAMES = ["O", "B-PER", "I-PER", "B-LOC"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def parquet(folder: Path, splits: tuple[str, ...] = ("train", "validation", "test")) -> Path:
    features = datasets.Features(
        {
            "id": datasets.Value("int64"),
            "doc_id": datasets.Value("int64"),
            "tokens": datasets.Sequence(datasets.Value("string")),
            "ner_tags": datasets.Sequence(datasets.ClassLabel(names=NAMES)),
        }
    )
    rows = datasets.Dataset.from_dict(ROWS, features=features)
    (folder / "data").mkdir(parents=True)
    for split in splits:
        rows.to_parquet(str(folder / "data" / f"{split}-00000-of-00001.parquet"))
    return folder


def json_lines(folder: Path, *rows: dict[str, Any], split: str = "train") -> Path:
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_class_labels_in_parquet(tmp_path: Path) -> None:
    splits = load_splits(data=f"{parquet(tmp_path / 'set')}:default")
    assert set(splits.labels.names) == {*NAMES, "I-LOC"}
    for dataset in (splits.train, splits.dev, splits.test):
        assert dataset is not None
        first, second, last = dataset.sentences
        assert first.words == ("Ada", "Love\u2028lace", "met")
        assert first.tags == ("B-PER", "I-PER", "O") and second.tags == ("B-LOC",)
        assert last.tags == (IGNORED, IGNORED)
        assert [(s.id, s.document) for s in dataset] == [(0, 0), (1, 0), (3, 1)]
    assert any("1 sentences without words" in note for note in splits.notes)
    assert any("words from 'tokens', tags from 'ner_tags'" in note for note in splits.notes)


def test_tags_as_text_in_json_lines(tmp_path: Path) -> None:
    row = {"words": ["Ada", "sat"], "tags": ["I-PER", "O"]}
    folder = json_lines(tmp_path / "set", row, row)
    json_lines(folder, row, split="dev")
    found = read_hub.read_hub(str(folder), ReadOptions())
    assert set(found) == {"train", "dev"}
    assert [s.tags for s in found["train"]] == [("B-PER", "O")] * 2


def test_a_run_trains_on_it(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "set")
    run = train(Path(f"{folder}:default"), tmp_path / "run", "--max-steps", "1")
    assert metrics_of(run)["dev"]["gold"] == metrics_of(run)["test"]["gold"] == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": "Ada sat", "tags": ["O", "O"]}, "row 0: expected tokens to be a list"),
        ({"tokens": ["Ada"], "labels": 1}, "row 0: expected labels to be a list, got 1"),
        ({"tokens": [["Ada"]], "tags": ["O"]}, "row 0: expected tokens to be strings"),
        ({"tokens": ["Ada"], "tags": [4]}, "row 0: tag number 4 has no name"),
        ({"tokens": ["Ada"], "tags": [0.5]}, r"row 0: expected tags to be .*, got 0\.5"),
        ({"tokens": ["Ada"], "tags": ["O", "O"]}, "row 0: expected 1 tags, got 2"),
        ({"text": "Ada"}, "expected a column tokens or words, found text"),
    ],
)
def test_columns_of_another_kind(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = json_lines(tmp_path / "set", row)
    with pytest.raises(InputError, match=message):
        read_hub.read_hub(str(folder), ReadOptions())


def test_what_the_library_refuses_is_one_line(tmp_path: Path) -> None:
    """Its own errors are of no built-in kind, and came out as a page of frames."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "train.parquet").write_bytes(b"no parquet")
    (tmp_path / "empty").mkdir()
    unequal = json_lines(tmp_path / "unequal", {"tokens": ["a"], "tags": ["O"]}, split="train-1")
    json_lines(unequal, {"words": ["a"]}, split="train-2")
    for folder in (broken, tmp_path / "empty", unequal):
        with pytest.raises(InputError, match="cannot be loaded as a dataset") as caught:
            load_splits(data=f"{folder}:default")
        assert "\n" not in str(caught.value)
    test_alone = parquet(tmp_path / "test", splits=("test",))
    with pytest.raises(InputError, match="expected a split train, found test"):
        load_splits(data=f"{test_alone}:default")


def test_without_a_network_only_the_cache_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []

    def load(path: str, name: str | None) -> Any:
        asked.append((path, name))
        raise ConnectionError("nothing cached")

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(read_hub, "unreachable", lambda *_, **__: "name not known")
    with pytest.raises(InputError, match=r"no such folder, .* cannot be reached \(name not known"):
        read_hub.read_hub("org/name:de", ReadOptions())
    assert not asked
    (tmp_path / "cache" / "org___name").mkdir(parents=True)
    with pytest.raises(InputError, match="nothing cached"):
        read_hub.read_hub("org/name:de", ReadOptions())
    assert asked == [("org/name", "de")]
