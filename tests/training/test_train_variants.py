"""Runs of every kind train, reload and evaluate to the numbers they reported."""

import json
from pathlib import Path

import pytest
import yaml

import lmsl
from lmsl.cli import main
from lmsl.statistics.read import read_sweep
from tests.small_runs import (
    ADAPTER,
    evaluated,
    metrics_of,
    rows,
    same_files,
    train,
    write_data,
    written,
)

VARIANTS = {
    "released": ("--recipe", "acl2024-released"),
    "repetition": ("--recipe", "repetition-sl", "--repeat", "1"),
    "exit": ("--exit-layer", "4"),
    "first": ("--label-at", "first", "--loss", "focal"),
    "mean": ("--label-at", "mean", "--decode", "argmax", "--lora-targets", "all-linear"),
    "windows": ("--max-length", "24"),
    "small-packs": ("--tokens-per-batch", "50", "--context", "20"),
}


@pytest.mark.parametrize("flags", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_kind_of_run_evaluates_to_its_own_numbers(
    flags: tuple[str, ...], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(data, tmp_path / "run", *flags, "--max-steps", "3")
    assert evaluated(run, data / "test.conll", capsys) == metrics_of(run)["test"]
    setting = yaml.safe_load((run / "config.yaml").read_text())[flags[0][2:].replace("-", "_")]
    assert setting == type(setting)(flags[1])


def test_a_dev_without_entities_chooses_no_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every epoch scores 0 there, and the first one, which had learnt nothing, was kept."""
    data = write_data(tmp_path / "data", {"train": 4, "dev": 1})
    (data / "dev.conll").write_text("Nothing\tO\nhappened\tO\n", encoding="utf-8")
    run = train(data, tmp_path / "run", "--epochs", "3", "--max-steps", "9")
    assert "dev holds no entity" in capsys.readouterr().err
    assert metrics_of(run)["selected_epoch"] == 3


def test_context_of_the_same_document_is_read(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the run remembers where documents begin."""
    start = "-DOCSTART- O\n\n"
    texts = {file.stem: file.read_text("utf-8").replace("\t", " ") for file in data.iterdir()}
    for name, text in texts.items():
        texts[name] = start + text.replace("\n\n", f"\n\n{start}", 1)
    folder = written(tmp_path / "data", **texts)
    read = train(folder, tmp_path / "run", "--context", "20")
    assert evaluated(read, folder / "test.conll", capsys) == metrics_of(read)["test"]
    assert (read / ADAPTER).read_bytes() != (run / ADAPTER).read_bytes()
    split = read_sweep(read).splits["dev"]
    assert (split.unit, split.hits.shape[-1], split.sentences) == ("documents", 2, 6)


def test_truncation_counts_the_entities_it_loses(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--overflow", "truncate", "--max-length", "24", "--max-steps", "3")
    run = train(data, tmp_path / "run", *flags)
    err = capsys.readouterr().err
    metrics, whole = metrics_of(run)["test"], list(rows(data / "test.conll"))
    gold = sum(row[1].startswith("B-") for sentence in whole for row in sentence)
    assert metrics["gold"] == gold and 0 < metrics["lost_to_truncation"] <= gold
    assert "sentences truncated" in err and "lost to truncation" in err
    assert evaluated(run, data / "test.conll", capsys) == metrics


def test_an_update_whose_sentences_are_all_cut_to_nothing(data: Path, tmp_path: Path) -> None:
    """No word fits under the maximum, so there is neither loss nor gradient, and no crash."""
    text = "Donaudampfschifffahrt\tB-X\n\na\tO\n"
    folder = written(tmp_path / "data", train=text, dev=text)
    flags = ("--overflow", "truncate", "--max-length", "2", "--batch-size", "1")
    run = train(folder, tmp_path / "run", *flags, "--quantize", "none", "--lora-rank", "2")
    metrics = metrics_of(run)["dev"]
    assert metrics["gold"] == 1 and metrics["lost_to_truncation"] == 1 and metrics["recall"] == 0


def test_plain_tags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "The\tDT\ndog\tNN\nbarks\tVBZ\n\nA\tDT\ncat\tNN\nsat\tVBD\n\n"
    data = written(tmp_path / "data", train=text, dev=text, test=text)
    run = train(data, tmp_path / "run", "--scheme", "plain", "--lr", "0.005")
    metrics = metrics_of(run)["test"]
    assert metrics["gold"] == 6 and metrics["accuracy"] == metrics["f1"]
    assert set(metrics["per_type"]) >= {"DT", "NN", "VBD", "VBZ"}
    assert evaluated(run, data / "test.conll", capsys) == metrics
    labeler = lmsl.Labeler.load(run, device="cpu")
    assert labeler.predict_tags([[], ["The", "cat"]])[0] == []
    with pytest.raises(lmsl.InputError, match="predict_tags"):
        labeler.predict(["The cat"])
    assert "predict_tags" in (run / "README.md").read_text()


def test_words_without_a_label_are_neither_trained_nor_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "Ada\tB-PER\nmet\t_\nBob\tB-PER\n.\tO\n\nall\t_\nunknown\t_\n\nRome\tB-LOC\n\n"
    data = written(tmp_path / "data", train=text, dev=text, test=text)
    run = train(data, tmp_path / "run", "--ignore-tag", "_", "--batch-size", "1")
    metrics = metrics_of(run)["test"]
    assert metrics["gold"] == 3
    assert evaluated(run, data / "test.conll", capsys, "--ignore-tag", "_") == metrics
    assert "\t_\t" in (run / "predictions.test.conll").read_text()


class TestSeveralRuns:
    def test_folders_and_sweep(self, run: Path, data: Path, tmp_path: Path) -> None:
        output = train(data, tmp_path / "sweep", unmask=("0011", "causal", "0000"))
        sweep = json.loads((output / "sweep.json").read_text())
        assert [row["run"] for row in sweep["runs"]] == ["0011/seed1", "causal/seed1"]
        assert sweep["best"] in ("0011", "causal")
        assert not (output / "0000").exists(), "0000 is causal, spelt otherwise"
        for row in sweep["runs"]:
            metrics = metrics_of(output / row["run"])
            assert (row["dev"], row["test"]) == (metrics["dev"]["f1"], metrics["test"]["f1"])
        # A run of a sweep is the run that one gets alone.
        same_files(run, output / "0011/seed1")
        assert main(["train", "--unmask", "0011", "--output", str(output)]) == 2

    def test_early_exit_makes_strings_equal(self, data: Path, tmp_path: Path) -> None:
        flags = ("--exit-layer", "4", "--max-steps", "1", "--overwrite")
        output = train(data, tmp_path / "run", *flags, unmask=("0011", "0000"))
        assert (output / "lmsl.json").is_file(), "strings that differ above the exit are one run"


def test_last_weights_can_be_kept(data: Path, tmp_path: Path) -> None:
    """Out of patience is a run of ``test_stack_resume.py``."""
    assert metrics_of(train(data, tmp_path / "last", "--select", "last"))["selected_epoch"] == 2
