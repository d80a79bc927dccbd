"""Runs of every kind train, reload and evaluate to the numbers they reported."""

import json
from pathlib import Path

import pytest
import yaml

import lmsl
from lmsl.cli import main
from tests.small_runs import ADAPTER, evaluated, metrics_of, rows, same_files, train

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
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert settings[flags[0][2:].replace("-", "_")] == type(
        settings[flags[0][2:].replace("-", "_")]
    )(flags[1])


def test_context_of_the_same_document_is_read(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for file in data.iterdir():
        text = "-DOCSTART- O\n\n" + file.read_text(encoding="utf-8").replace("\t", " ")
        (folder / file.name).write_text(text, encoding="utf-8")
    run = train(folder, tmp_path / "run", "--context", "20", "--max-steps", "3")
    without = train(data, tmp_path / "without", "--max-steps", "3")
    assert evaluated(run, folder / "test.conll", capsys) == metrics_of(run)["test"]
    assert (run / ADAPTER).read_bytes() != (without / ADAPTER).read_bytes()


def test_truncation_counts_the_entities_it_loses(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--overflow", "truncate", "--max-length", "24", "--max-steps", "3")
    run = train(data, tmp_path / "run", *flags)
    err = capsys.readouterr().err
    metrics, whole = metrics_of(run)["test"], list(rows(data / "test.conll"))
    gold = sum(row[1].startswith("B-") for sentence in whole for row in sentence)
    assert metrics["gold"] == gold and 0 < metrics["lost_to_truncation"] <= gold
    assert "sentences were truncated" in err and "lost to truncation" in err
    assert evaluated(run, data / "test.conll", capsys) == metrics


def test_an_update_whose_sentences_are_all_cut_to_nothing(data: Path, tmp_path: Path) -> None:
    """No word fits under the maximum, so there is neither loss nor gradient, and no crash."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "dev"):
        (folder / f"{split}.conll").write_text("Donaudampfschifffahrt\tB-X\n\na\tO\n")
    flags = (
        "--overflow",
        "truncate",
        "--max-length",
        "2",
        "--batch-size",
        "1",
        "--quantize",
        "none",
    )
    run = train(folder, tmp_path / "run", *flags, "--lora-rank", "2")
    metrics = metrics_of(run)["dev"]
    assert metrics["gold"] == 1 and metrics["lost_to_truncation"] == 1 and metrics["recall"] == 0


def test_plain_tags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "The\tDT\ndog\tNN\nbarks\tVBZ\n\nA\tDT\ncat\tNN\nsat\tVBD\n\n"
    (tmp_path / "data").mkdir()
    for split in ("train", "dev", "test"):
        (tmp_path / "data" / f"{split}.conll").write_text(text)
    run = train(tmp_path / "data", tmp_path / "run", "--scheme", "plain", "--lr", "0.005")
    metrics = metrics_of(run)["test"]
    assert metrics["gold"] == 6 and metrics["accuracy"] == metrics["f1"]
    assert set(metrics["per_type"]) >= {"DT", "NN", "VBD", "VBZ"}
    assert evaluated(run, tmp_path / "data" / "test.conll", capsys) == metrics
    labeler = lmsl.Labeler.load(run, device="cpu")
    assert labeler.predict_tags([[], ["The", "cat"]])[0] == []
    with pytest.raises(lmsl.InputError, match="predict_tags"):
        labeler.predict(["The cat"])
    assert "predict_tags" in (run / "README.md").read_text()


def test_words_without_a_label_are_neither_trained_nor_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "Ada\tB-PER\nmet\t_\nBob\tB-PER\n.\tO\n\nall\t_\nunknown\t_\n\nRome\tB-LOC\n\n"
    (tmp_path / "data").mkdir()
    for split in ("train", "dev", "test"):
        (tmp_path / "data" / f"{split}.conll").write_text(text)
    run = train(tmp_path / "data", tmp_path / "run", "--ignore-tag", "_", "--batch-size", "1")
    assert metrics_of(run)["test"]["gold"] == 3
    again = evaluated(run, tmp_path / "data" / "test.conll", capsys, "--ignore-tag", "_")
    assert again == metrics_of(run)["test"]
    assert "\t_\t" in (run / "predictions.test.conll").read_text()


class TestSeveralRuns:
    def test_folders_and_sweep(self, run: Path, data: Path, tmp_path: Path) -> None:
        output = train(
            data, tmp_path / "sweep", "--seed", "1", "2", unmask=("0011", "causal", "0000")
        )
        places = ["0011/seed1", "0011/seed2", "causal/seed1", "causal/seed2"]
        sweep = json.loads((output / "sweep.json").read_text())
        assert [row["run"] for row in sweep["runs"]] == places
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


def test_last_weights_can_be_kept_and_patience_stops(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = train(data, tmp_path / "last", "--select", "last")
    assert metrics_of(last)["selected_epoch"] == 2
    # A rate of 1e-30 changes nothing, so no epoch is better than the first.
    capsys.readouterr()
    flags = ("--epochs", "9", "--max-steps", "27", "--patience", "2", "--lr", "1e-30")
    patient = train(data, tmp_path / "patient", *flags)
    assert metrics_of(patient)["selected_epoch"] == 1
    assert "no better dev score in 2 epochs" in capsys.readouterr().err
    updates = [line for line in (patient / "log.jsonl").read_text().splitlines() if "loss" in line]
    assert len(updates) == 9
