"""Finding splits, holding dev data out, and the label vocabulary."""

from pathlib import Path

import pytest

from lmsl.data.formats.options import ReadOptions
from lmsl.data.splits import find_splits, hold_out, load_splits
from lmsl.data.tags.schemes import IGNORED
from lmsl.data.tags.sentence import Dataset, Sentence
from lmsl.data.tags.vocabulary import IGNORED_ID, check_labels, label_vocabulary
from lmsl.errors import InputError

TEXT = "a B-X\nb I-X\n\nc O\n\nd B-Y\n\ne O\n"


def folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name.replace("_", ".", 1)).write_text(text, encoding="utf-8")
    return path


def dataset(*sizes: int, known: bool = True) -> Dataset:
    """One document of each size; sentences all differ."""
    return Dataset(
        sentences=tuple(
            Sentence(words=(f"{doc}-{i}",), tags=("O",), document=f"d{doc}" if known else None)
            for doc, size in enumerate(sizes)
            for i in range(size)
        ),
        plain=False,
        source="made",
    )


def test_folder_names(tmp_path: Path) -> None:
    folder(tmp_path, train_txt=TEXT, val_txt=TEXT, test_txt=TEXT, README_txt="x")
    assert [p.name for p in find_splits(tmp_path).values()] == ["train.txt", "val.txt", "test.txt"]
    splits = load_splits(data=str(tmp_path))
    assert splits.test is not None and len(splits.train) == len(splits.dev) == 4
    assert splits.labels.names == ("O", "B-X", "I-X", "B-Y", "I-Y")
    other = folder(tmp_path / "o", **{"da-ud-train_iob2": TEXT, "da-ud-dev_iob2": TEXT})
    assert set(find_splits(other)) == {"train", "dev"}
    explicit = load_splits(data=str(other), dev=tmp_path / "test.txt")
    assert explicit.dev.source.endswith("test.txt") and explicit.test is None


def test_sub_folders_and_bad_folders(tmp_path: Path) -> None:
    for name in ("train", "valid"):
        sub = tmp_path / name
        sub.mkdir()
        (sub / "seq.in").write_text("a b\nc\n")
        (sub / "seq.out").write_text("O B-X\nO\n")
    assert len(load_splits(data=str(tmp_path)).dev) == 2
    (tmp_path / "dev.txt").write_text("a O\n")
    with pytest.raises(InputError, match=r"expected one dev file, found dev\.txt, valid"):
        load_splits(data=str(tmp_path))
    with pytest.raises(InputError, match=r"expected train\.\*.*found one.txt"):
        load_splits(data=str(folder(tmp_path / "bad", one_txt="a O\n")))
    with pytest.raises(InputError, match="no training data"):
        load_splits(dev=tmp_path / "dev.txt")
    with pytest.raises(InputError, match="expected a folder or a name"):
        load_splits(data=str(tmp_path / "dev.txt"))
    for dial in ("2", "x", "nan"):
        with pytest.raises(InputError, match="from 0 to 1"):
            load_splits(data=f"synthetic:{dial}")


@pytest.mark.parametrize("sizes", [(10,) * 20, (1, 1, 1, 97), (50, 50), (3, 200, 3, 4, 5, 6)])
def test_held_out_documents_stay_whole(sizes: tuple[int, ...]) -> None:
    whole = dataset(*sizes)
    train, dev, note = hold_out(whole, 3)
    assert {s.document for s in train}.isdisjoint({s.document for s in dev})
    assert len(train) + len(dev) == sum(sizes) and len(train) and len(dev)
    assert set(train) | set(dev) == set(whole)
    assert "whole documents" in note and "split seed 3" in note and str(len(dev)) in note
    assert hold_out(whole, 3)[1] == dev


def test_held_out_sentences_and_seeds() -> None:
    whole = dataset(*[1] * 200, known=False)
    parts = [hold_out(whole, seed) for seed in range(4)]
    assert {len(dev) for _, dev, _ in parts} == {20}
    assert len({dev.sentences for _, dev, _ in parts}) == 4
    assert all("single sentences" in note for *_, note in parts)
    order = [s.words for s in whole]
    assert [s.words for s in parts[0][1]] == [
        w for w in order if w in {s.words for s in parts[0][1]}
    ]
    assert "single sentences" in hold_out(dataset(10), 0)[2]
    assert [len(part) for part in hold_out(dataset(2), 0)[:2]] == [1, 1]
    with pytest.raises(InputError, match="name it with --dev"):
        hold_out(dataset(1), 0)


def test_a_seed_of_the_split_is_refused_where_dev_is_given(tmp_path: Path) -> None:
    data = folder(tmp_path, train_txt=TEXT, dev_txt=TEXT)
    with pytest.raises(InputError, match=r"--split-seed 3: expected data without dev, .*dev\.txt"):
        load_splits(data=str(data), split_seed=3)
    assert len(load_splits(data=str(data), split_seed=0).dev)


def test_a_label_that_only_the_held_out_part_has_is_known(tmp_path: Path) -> None:
    text = "\n".join(f"a B-T{i}\n" for i in range(20))
    path = folder(tmp_path, train_txt=text) / "train.txt"
    splits = load_splits(train=path, split_seed=1)
    assert len(splits.labels.types) == 20 and len(splits.dev) == 2
    assert any("no dev data" in note for note in splits.notes)


def test_unknown_labels_are_refused(tmp_path: Path) -> None:
    folder(tmp_path, train_txt=TEXT, dev_txt="a O\n\nb B-Z\n", test_txt="a NN\nb VB\nc DT\n")
    with pytest.raises(InputError, match=r"dev\.txt:3: tag 'B-Z' of 'b' .* types X, Y") as caught:
        load_splits(data=str(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"test\.txt: expected spans .* got plain tags"):
        load_splits(train=tmp_path / "train.txt", test=tmp_path / "test.txt")


def test_schemes_of_train_hold_for_all(tmp_path: Path) -> None:
    folder(
        tmp_path,
        train_txt="a NN\nb VB\nc DT\n\nd NN\n",
        dev_txt="a VB\nb VB\nc NN\n",
        test_txt="a VB\n",
    )
    splits = load_splits(data=str(tmp_path))
    assert splits.dev.plain and splits.test is not None and splits.test.plain
    assert splits.labels.names == ("DT", "NN", "VB")
    bare = folder(tmp_path / "b", train_txt="a E\nb O\nc O\n", dev_txt="a E\nb E\n")
    assert load_splits(data=str(bare)).dev.sentences[0].tags == ("B-E", "B-E")


def test_vocabulary() -> None:
    def made(*tags: str, plain: bool = False) -> Dataset:
        sentence = Sentence(words=("w",) * len(tags), tags=tags, missed=("M",), where="f:1")
        return Dataset(sentences=(sentence,), plain=plain, source="f")

    labels = label_vocabulary([made("I-b", IGNORED), made("B-a-c", "O")])
    assert labels.names == ("O", "B-a-c", "I-a-c", "B-b", "I-b")
    assert labels.types == ("a-c", "b")
    assert labels.ids(["O", IGNORED, "I-b"]) == [0, IGNORED_ID, 4]
    assert label_vocabulary([made("NN", "DT", plain=True)]).names == ("DT", "NN")
    assert label_vocabulary([made("O")]).names == ("O",)
    check_labels(made(IGNORED, "B-b"), labels)
    with pytest.raises(InputError, match=r"^f:1: tag 'B-q'"):
        check_labels(made("O", "B-q"), labels)


@pytest.mark.parametrize(
    ("tags", "options"),
    [
        ("O", ReadOptions()),
        ("_", ReadOptions(ignore_tag="_")),
        ("NN", ReadOptions(scheme="plain")),
    ],
)
def test_one_label_alone_is_nothing_to_learn(
    tags: str, options: ReadOptions, tmp_path: Path
) -> None:
    words = "".join(f"word\t{tags}\n\n" for _ in range(30))
    folder(tmp_path, train_txt=words, dev_txt=words)
    with pytest.raises(InputError, match="expected two labels or more to tell apart"):
        load_splits(data=str(tmp_path), options=options)


def test_all_unknown_tags_are_named_at_once(tmp_path: Path) -> None:
    folder(tmp_path, train_txt=TEXT, dev_txt="a O\nb B-Z\nc B-W\n")
    with pytest.raises(InputError, match="'B-Z' of 'b' does not occur, nor do B-W, in the"):
        load_splits(data=str(tmp_path))
