"""Runs whose files or base changed: each used to load without a word and answer otherwise."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import lmsl
from lmsl.cli import main
from lmsl.data.tags.sentence import Dataset, Sentence
from lmsl.run_directory import digests
from lmsl.run_directory.digests import base_digests, data_digest, document_digest, file_digest
from tests.small_runs import ADAPTER, refused, signed, train


def flip(name: str) -> Callable[[Path], None]:
    """One exponent bit of the last number of a file."""

    def spoil(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 4
        (folder / name).write_bytes(bytes(content))

    return spoil


def zeroed(folder: Path) -> None:
    head = load_file(folder / "head.safetensors")
    save_file({k: torch.zeros_like(t) for k, t in head.items()}, folder / "head.safetensors")


def said(old: str, new: str, name: str = "lmsl.json") -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")

    return spoil


def swapped(folder: Path) -> None:
    """Two words of the vocabulary change places."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["the"], vocabulary["and"] = vocabulary["and"], vocabulary["the"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")


DAMAGES = {
    "adapter": (ADAPTER, flip(ADAPTER)),
    "head": ("head.safetensors", flip("head.safetensors")),
    "zeros": ("head.safetensors", zeroed),
    "alpha": (
        "adapter_config.json",
        said("0.1", "0.2", "adapter_config.json"),
    ),
    "string": ("lmsl.json", said('"0011"', '"0111"')),
    "label_at": ("lmsl.json", said('"last"', '"mean"')),
    "types": ("lmsl.json", said("PER", "GPE")),
    "tokenizer": ("tokenizer.json", swapped),
}


@pytest.mark.parametrize(("name", "spoil"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_runs_are_refused_everywhere(
    name: str,
    spoil: Callable[[Path], None],
    run: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = Path(shutil.copytree(run, tmp_path / "run"))
    spoil(broken)
    file, words = str(data / "dev.conll"), (f"{broken / name}: changed or damaged", "SHA-256")
    refused(capsys, ["predict", str(broken), file, "--device", "cpu"], *words)
    refused(capsys, ["evaluate", str(broken), file, "--device", "cpu"], *words)
    refused(capsys, ["probe", str(broken), "--device", "cpu"], *words)
    with pytest.raises(lmsl.InputError, match="changed or damaged"):
        lmsl.Labeler.load(broken, device="cpu")
    if name == "lmsl.json":
        refused(capsys, ["report", str(broken)], *words)
    if name.endswith("tensors"):
        # The record says so where the numbers themselves cannot be right.
        tensors = load_file(run / name)
        first = min(tensors)
        tensors[first].view(-1)[-1] = float("nan")
        save_file(tensors, broken / name)
        where = (f"{broken / name}: {first}", "finite")
        refused(capsys, ["predict", str(signed(broken)), "--device", "cpu"], *where)


def test_predictions_that_a_report_would_read(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Path(shutil.copytree(run, tmp_path / "run"))
    flip("predictions.dev.conll")(broken)
    refused(capsys, ["report", str(broken)], "predictions.dev.conll: changed or damaged")


def test_runs_older_than_digests_load_and_it_is_said(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = Path(shutil.copytree(run, tmp_path / "run"))
    document = json.loads((older / "lmsl.json").read_text(encoding="utf-8"))
    own = document.pop("digest")
    broken = json.dumps(document)
    del document["digests"]
    (older / "lmsl.json").write_text(json.dumps(document), encoding="utf-8")
    assert main(["predict", str(older), str(data / "dev.conll"), "--device", "cpu"]) == 0
    assert capsys.readouterr().err.count("older than digests") == 1
    for text in (broken, json.dumps({**document, "digest": own})):
        (older / "lmsl.json").write_text(text, encoding="utf-8")
        refused(capsys, ["predict", str(older)], "lmsl.json: changed or damaged")


@pytest.fixture(scope="module")
def based(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run over a folder of the user's, and that folder."""
    folder = tmp_path_factory.mktemp("based")
    base = Path(shutil.copytree(Path(lmsl.__file__).parent / "tiny", folder / "mine"))
    return train(data, folder / "run", "--model", str(base), "--max-steps", "1"), base


BASE_CHANGES: dict[str, Callable[[Path], None]] = {
    "config.json": said('"rope_theta": 10000', '"rope_theta": 20000', "config.json"),
    "model.safetensors": flip("model.safetensors"),
    "tokenizer.json": swapped,
}


@pytest.mark.parametrize(("name", "spoil"), BASE_CHANGES.items(), ids=BASE_CHANGES.keys())
def test_another_base_is_refused_unless_allowed(
    name: str,
    spoil: Callable[[Path], None],
    based: tuple[Path, Path],
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, base = based
    whole = (base / name).read_bytes()
    line = ["predict", str(run), str(data / "dev.conll"), "--device", "cpu"]
    try:
        spoil(base)
        refused(capsys, line, f"{base / name}: changed", "--allow-changed-base")
        assert main([*line, "--allow-changed-base"]) == 0
        assert f"{base / name}: changed" in capsys.readouterr().err
        probe = ["probe", str(run), "--device", "cpu"]
        refused(capsys, probe, f"{base / name}: changed", "--allow-changed-base")
        assert main([*probe, "--allow-changed-base"]) == 0
    finally:
        (base / name).write_bytes(whole)
    assert main(line) == 0


def test_a_large_base_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "REMEMBERED", 100)
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    (base / "model.safetensors").write_bytes(bytes(200))
    (base / "consolidated.safetensors").write_bytes(bytes(300))
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(digests, "file_digest", counted)
    first = base_digests(base, lambda line: None)
    assert set(first) == {"config.json", "model.safetensors"}
    assert base_digests(base, lambda line: None) == first
    assert read == ["config.json", "model.safetensors", "config.json"]
    # Another time stamp alone is reason enough to look again.
    (base / "model.safetensors").write_bytes(bytes(199) + b"1")
    assert base_digests(base, lambda line: None) != first
    (tmp_path / "cache" / "lmsl" / "digests.json").write_text("[")
    assert base_digests(base, lambda line: None).keys() == first.keys()


def test_a_model_in_the_cache_of_the_hub_has_the_digests_of_the_hub(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "commit"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / ("a" * 64)).write_bytes(b"never read")
    (blobs / ("b" * 40)).write_bytes(b"{}")
    index = {"weight_map": {"one": "model-1.safetensors", "two": "model-1.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    (snapshot / "model-1.safetensors").symlink_to(blobs / ("a" * 64))
    (snapshot / "config.json").symlink_to(blobs / ("b" * 40))
    found = base_digests(snapshot, lambda line: None)
    assert found["model-1.safetensors"] == "a" * 64
    assert found["config.json"] == file_digest(blobs / ("b" * 40))


def test_digests_of_data_follow_what_is_learned() -> None:
    sentence = Sentence(words=("a b", "c"), tags=("O", "B-X"), where="here:1")
    first = Dataset(sentences=(sentence,), plain=False, source="one")
    others = (
        replace(sentence, words=("a", "b c")),
        replace(sentence, tags=("O", "B-Y")),
        replace(sentence, missed=("X",)),
        replace(sentence, document="1"),
    )
    moved = replace(first, sentences=(replace(sentence, where="there:2"),), source="two")
    assert data_digest(first) == data_digest(moved)
    found = {data_digest(replace(first, sentences=(other,))) for other in others}
    assert len(found | {data_digest(first)}) == 5


def test_a_document_is_the_same_however_it_is_laid_out() -> None:
    document: dict[str, Any] = {"a": 1, "b": {"c": [1.5, "ü"]}}
    again = {"b": {"c": [1.5, "ü"]}, "digest": "x", "a": 1}
    assert document_digest(document) == document_digest(again)
    assert document_digest(document) != document_digest({**document, "a": 2})


@pytest.mark.parametrize("strings", ["0011", "0011 1111"])
def test_a_run_does_not_go_on_with_other_data(
    strings: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of several runs is finished, or the only one: neither is mixed with what comes now."""
    mine = Path(shutil.copytree(data, tmp_path / "data"))
    out = train(mine, tmp_path / "out", "--max-steps", "1", unmask=strings.split())
    if " " in strings:
        shutil.rmtree(out / "1111")
    text = (mine / "train.conll").read_text(encoding="utf-8")
    (mine / "train.conll").write_text(text.replace("B-PER", "B-LOC", 1), encoding="utf-8")
    line = ["train", "--unmask", *strings.split(), "--data", str(mine), "--output", str(out)]
    line += ["--max-steps", "1", "--epochs", "2", "--batch-size", "4", "--device", "cpu"]
    refused(capsys, [*line, "--resume"], "the data changed", "(train)", "--overwrite")
