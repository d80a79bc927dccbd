"""A run is given its temperature on dev, once, and answers with it ever after."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lmsl
from lmsl.cli import main
from lmsl.data.tags.sentence import Dataset, Sentence
from lmsl.run_directory.info import read_info
from lmsl.tagger.predictor import Tagged
from lmsl.training import stack
from lmsl.training.calibrate import LEAST_EACH, LEAST_FOUND, calibrated
from tests.small_runs import (
    DOUBTFUL,
    SHORT,
    evaluated,
    metrics_of,
    train,
    written,
)
from tests.training.training_tools import sweep


def temperature_of(run: Path) -> float:
    return read_info(run).temperature


def test_dev_gives_a_temperature_and_both_splits_are_scored_with_it(
    doubtful_run: Path, doubtful_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics, stored = metrics_of(doubtful_run), temperature_of(doubtful_run)
    assert stored > 1.1, "it is surer than right"
    assert json.loads((doubtful_run / "lmsl.json").read_text())["temperature"] == stored
    for split in ("dev", "test"):
        found = metrics[split]["calibration"]
        assert found["temperature"] == stored
        # Entities on words without a label are no part of it.
        counted = sum(each["count"] for each in found["bins"])
        assert 0 < counted <= metrics[split]["predicted"]
        assert evaluated(doubtful_run, doubtful_data / f"{split}.conll", capsys) == metrics[split]
    own = metrics["dev"]["calibration"]
    assert own["ece"] < own["ece_uncalibrated"] - 0.03


def test_it_is_said_and_changes_no_tag(
    doubtful_run: Path, doubtful_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = metrics_of(doubtful_run)["dev"]["calibration"]
    run = train(doubtful_data, tmp_path / "yes", *DOUBTFUL, "--calibrate", "yes")
    said = re.search(
        r"^  calibrated on dev: temperature (\S+); expected calibration error of entities (\S+) % "
        r"-> (\S+) %$",
        capsys.readouterr().err,
        re.MULTILINE,
    )
    assert said is not None and temperature_of(run) == temperature_of(doubtful_run)
    assert float(said[1]) == pytest.approx(own["temperature"], abs=0.006)
    assert float(said[2]) == pytest.approx(100 * own["ece_uncalibrated"], abs=0.06)
    assert float(said[3]) == pytest.approx(100 * own["ece"], abs=0.06)
    off = train(doubtful_data, tmp_path / "no", *DOUBTFUL, "--calibrate", "no")
    assert "calibrated" not in capsys.readouterr().err
    before = metrics_of(off)["dev"]["calibration"]
    assert before["temperature"] == temperature_of(off) == 1.0
    assert before["ece"] == before["ece_uncalibrated"] == own["ece_uncalibrated"]
    for name in ("adapter_model.safetensors", "predictions.dev.conll", "predictions.test.conll"):
        assert (off / name).read_bytes() == (doubtful_run / name).read_bytes()


def test_probabilities_are_those_of_logits_divided_by_it(doubtful_run: Path) -> None:
    """By the whole way from a text to an answer, for a word that is an entity of its own."""
    labeler = lmsl.Labeler.load(doubtful_run, device="cpu")
    labeler.info = replace(labeler.info, decode="argmax")
    tagged = labeler.tag([labeler.sentence(["Rome"])])
    (found,) = labeler.predict([["Rome"]])
    assert found and tagged.emissions is not None
    divided = tagged.emissions[0][0] / labeler.info.temperature
    chances = np.exp(divided) / np.exp(divided).sum()
    label = labeler.info.labels.names.index(f"B-{found[0].label}")
    assert found[0].score == pytest.approx(chances[label], rel=1e-9)
    assert found[0].score != pytest.approx(np.exp(tagged.emissions[0][0, label]), rel=1e-3)


def test_interrupted_or_in_a_stack_it_comes_to_the_same(
    doubtful_run: Path,
    doubtful_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save, saved = stack.save_checkpoint, []

    def interrupted(*arguments: Any) -> None:
        save(*arguments)
        saved.append(1)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(stack, "save_checkpoint", interrupted)
    line = ["train", "--unmask", "0011", "--data", str(doubtful_data)]
    line += ["--output", str(tmp_path / "killed"), *SHORT, *DOUBTFUL]
    assert main(line) == 130 and not (tmp_path / "killed" / "lmsl.json").exists()
    resumed = train(doubtful_data, tmp_path / "killed", *DOUBTFUL, "--resume")
    assert temperature_of(resumed) == temperature_of(doubtful_run)
    assert metrics_of(resumed)["test"] == metrics_of(doubtful_run)["test"]
    stacked = sweep(
        doubtful_data,
        tmp_path / "stack",
        *("--unmask", "0011", "--seed", "1", "2", "--stack", "2", *DOUBTFUL),
    )
    alone = temperature_of(doubtful_run)
    assert temperature_of(stacked / "0011" / "seed1") == pytest.approx(alone, rel=0.02)
    assert temperature_of(stacked / "0011" / "seed2") != pytest.approx(alone, rel=1e-3)


def test_plain_tags_have_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "a\tDT\ndog\tNN\n\na\tDT\ncat\tNN\n"
    data = written(tmp_path / "data", train=text, dev=text)
    run = train(data, tmp_path / "run", "--scheme", "plain", "--calibrate", "yes")
    assert (
        "  not calibrated: plain tags have no probabilities of spans\n" in capsys.readouterr().err
    )
    assert "temperature" not in json.loads((run / "lmsl.json").read_text())
    assert "calibration" not in metrics_of(run)["dev"] and temperature_of(run) == 1.0


def pretended(run: Path, right: int, wrong: int) -> tuple[lmsl.Labeler, Dataset, Tagged]:
    """A run without a model, and what it found: sentences of a word, as many right and wrong."""
    info = replace(read_info(run), temperature=1.0)
    # Nothing is asked of a model that is not there.
    nothing: Any = None
    labeler = lmsl.Labeler(nothing, nothing, info, torch.device("cpu"), None, compute=nothing)
    sentences, emissions = [], []
    rng = np.random.default_rng(0)
    for tag in ["B-PER"] * right + ["O"] * wrong:
        logits = rng.normal(size=len(info.labels))
        logits[info.labels.names.index("B-PER")] = 5
        sentences.append(Sentence(words=("a",), tags=(tag,)))
        emissions.append((logits - np.log(np.exp(logits).sum()))[None])
    sentences.append(Sentence(words=("b",), tags=("O",)))
    emissions.append(np.array([[0.0] + [-np.inf] * (len(info.labels) - 1)]))
    dataset = Dataset(sentences=tuple(sentences), plain=False, source="dev")
    return (
        labeler,
        dataset,
        Tagged(decoded=labeler._decode(emissions), examples=nothing, emissions=emissions),
    )


@pytest.mark.parametrize(
    ("how", "right", "wrong", "fitted"),
    [
        ("auto", LEAST_FOUND - LEAST_EACH, LEAST_EACH, True),
        ("auto", LEAST_FOUND - LEAST_EACH - 1, LEAST_EACH, False),
        ("auto", LEAST_EACH, LEAST_FOUND, True),
        ("auto", LEAST_EACH - 1, LEAST_FOUND, False),
        ("auto", LEAST_FOUND, LEAST_EACH - 1, False),
        ("yes", 1, 1, True),
        ("yes", 30, 0, False),
        ("yes", 0, 30, False),
        ("yes", 0, 0, False),
        ("no", 100, 100, False),
    ],
)
def test_when_there_is_enough_to_fit(
    how: Any, right: int, wrong: int, fitted: bool, doubtful_run: Path
) -> None:
    labeler, dataset, tagged = pretended(doubtful_run, right, wrong)
    said: list[str] = []
    after = calibrated(labeler, dataset, tagged, how, said.append)
    assert (labeler.info.temperature != 1.0) == fitted
    assert (after is tagged) == (not fitted)
    assert len(said) == (how != "no")
    if how != "no" and not fitted:
        assert said[0].startswith("  not calibrated, the temperature stays 1: ")
        assert f"{right} of them right; --calibrate {how} asks for" in said[0]


def test_the_temperature_makes_the_mean_probability_the_share_of_right_ones(
    doubtful_run: Path,
) -> None:
    """All are as sure and three in four are right: that is what the log-loss comes to."""
    labeler, dataset, tagged = pretended(doubtful_run, 75, 25)
    said: list[str] = []
    after = calibrated(labeler, dataset, tagged, "auto", said.append)
    scores = [score for each in after.decoded for score in each.scores if score is not None]
    assert np.mean(scores) == pytest.approx(0.75, abs=0.01)
    assert [each.tags for each in after.decoded] == [each.tags for each in tagged.decoded]
    assert min(tagged.decoded[0].scores) > 0.9  # type: ignore[type-var]


def test_where_no_temperature_is_enough_the_last_one_is_taken_and_said(
    doubtful_run: Path,
) -> None:
    labeler, dataset, tagged = pretended(doubtful_run, 10, 200)
    said: list[str] = []
    calibrated(labeler, dataset, tagged, "auto", said.append)
    assert labeler.info.temperature == 8.0 and math.isfinite(labeler.info.temperature)
    assert "temperature 8.00, the end of the search; " in said[0]
