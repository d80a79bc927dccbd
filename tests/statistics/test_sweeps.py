"""From a folder of runs to a verdict: what is read, what is refused, what is said."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lmsl.data.tags.counts import Entities, sentence_counts
from lmsl.data.tags.schemes import IGNORED
from lmsl.data.tags.sentence import Sentence
from lmsl.data.tags.vocabulary import LabelSet
from lmsl.data.write import column_lines
from lmsl.errors import InputError
from lmsl.statistics.analysis import analyse
from lmsl.statistics.bootstrap import run_scores
from lmsl.statistics.predictions import read_predictions
from lmsl.statistics.read import read_sweep
from lmsl.statistics.words import verdict_lines
from tests.search.sweep_tools import noisy, sentences, write_run, write_sweep

SHARES = {"0000": 0.7, "0011": 0.15, "0110": 0.3, "1111": 0.2}
LABELS = LabelSet(("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("sweeps") / "one", SHARES, seeds=(1, 2, 3))


def verdict(folder: Path) -> list[str]:
    return verdict_lines(analyse(folder))


def copied(sweep: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sweep, tmp_path / "copy"))


def test_scores_means_and_the_choice(sweep: Path) -> None:
    analysis, read = analyse(sweep), read_sweep(sweep)
    assert read.names == tuple(SHARES) and read.seeds == (1, 2, 3) and read.notes == ()
    for split, made in read.splits.items():
        assert made.hits.shape == (4, 3, 60) and made.unit == "sentences" and made.beyond == 0
        f1 = [[run.metrics[split]["f1"] for run in runs] for runs in read.runs]
        assert run_scores(made) == pytest.approx(np.array(f1), abs=1e-12)
        result = analysis.results[split]
        assert result.means == pytest.approx(np.mean(f1, axis=1))
        assert result.deviations == pytest.approx(np.std(f1, axis=1, ddof=1))
    assert analysis.sweep.names[analysis.best] == "0011" and analysis.exploratory
    assert (analysis.causal, analysis.middle, analysis.full) == (0, 2, 3)
    dev, test = analysis.results["dev"], analysis.results["test"].scores
    assert not dev.tied[0] and dev.tied[analysis.best]
    assert [gain.name for gain in analysis.gains] == ["1111", "0110"]
    # Each other pair of seeds picks on dev, the third reports on test.
    picked = [np.delete(dev.scores, seed, axis=1).mean(axis=1).argmax() for seed in range(3)]
    fresh = [test[string, seed] - test[3, seed] for seed, string in enumerate(picked)]
    assert analysis.gains[0].fresh_seeds == pytest.approx(np.mean(fresh))


def test_the_verdict_is_the_same_every_time_and_says_everything(sweep: Path) -> None:
    lines = verdict(sweep)
    assert lines == verdict(sweep)
    text = "\n".join(lines)
    for words in (
        "exploratory: 3 seeds",
        "0011 has the best mean F1 on dev",
        "distinguishable from noise",
        "the best of 4 equal strings with 3 seeds",
        "Against 0000 (causal) it is +",
        "Holm-corrected",
        "Over always 1111 (every layer unmasked)",
        "Over always 0110 (the middle unmasked)",
        "on seeds that took no part in the choice",
        "Spearman",
        "without the causal ones by",
    ):
        assert words in text, words


@pytest.mark.parametrize(
    ("shares", "seeds", "said", "unsaid"),
    [
        (
            {"0000": 0.8, "1111": 0.05, "0011": 0.5},
            5,
            (
                "1111 is distinguishable from noise: on dev no other",
                "The choice is 1111 itself, so it gains nothing",
            ),
            "exploratory",
        ),
        (
            dict.fromkeys(("0001", "0011", "0111"), 0.3),
            5,
            ("is not distinguishable from noise: on dev",),
            "causal",
        ),
        ({"0011": 0.2}, 1, ("exploratory: one seed", "0011: mean F1 on dev"), "Against"),
    ],
    ids=["clear winner", "equals", "one run"],
)
def test_what_is_said_and_what_is_not(
    shares: dict[str, float], seeds: int, said: tuple[str, ...], unsaid: str, tmp_path: Path
) -> None:
    text = "\n".join(verdict(write_sweep(tmp_path / "s", shares, range(1, seeds + 1))))
    assert all(words in text for words in said) and unsaid not in text, text


def test_one_seed_knows_nothing_of_seeds_and_no_test_reports_none(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"0000": 0.5, "1111": 0.2}, seeds=(1,))
    analysis = analyse(folder)
    assert analysis.results["test"].deviations is None and analysis.luck is None
    assert analysis.results["test"].half_widths is not None
    assert analysis.gains[0].fresh_seeds is None
    assert analyse(folder / "1111" / "seed1").sweep.names == ("1111",), "one run is a sweep of one"
    lines = verdict(write_sweep(tmp_path / "dev", {"0011": 0.2}, seeds=(7,), test=False))
    assert len(lines) == 2 and "no test data" in lines[1]


@pytest.mark.parametrize("size", [0, 1])
def test_hardly_any_sentences(size: int, tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"0000": 0.5, "1111": 0.2}, seeds=(1,), size=size)
    analysis = analyse(folder)
    assert analysis.results["dev"].half_widths is None
    assert all(analysis.results["dev"].tied)
    assert "too little to resample" in "\n".join(verdict(folder))


def test_zero_gold_entities(tmp_path: Path) -> None:
    gold = [Sentence(words=("a", "b"), tags=("O", "O")) for _ in range(8)]
    for string in ("0000", "1111"):
        for seed in (1, 2):
            splits = {split: (gold, [("O", "O")] * 8) for split in ("dev", "test")}
            write_run(tmp_path / string / f"seed{seed}", string, seed, splits)
    analysis = analyse(tmp_path)
    assert analysis.results["test"].means.tolist() == [0.0, 0.0]
    assert all(analysis.results["test"].tied)
    assert "undefined" not in "\n".join(verdict(tmp_path))


def test_documents_are_resampled_where_they_are_known(tmp_path: Path) -> None:
    gold = [replace(s, document=str(i // 4)) for i, s in enumerate(sentences(24))]
    predicted = noisy(gold, 0.3, (1,))
    folder = write_run(tmp_path / "run", "0011", 1, {"dev": (gold, predicted)})
    assert read_sweep(folder).splits["dev"].unit == "sentences"
    lines, _ = column_lines(gold, [s.tags or () for s in gold], predicted, documents=True)
    (folder / "predictions.dev.conll").write_text("\n".join([*lines, ""]), encoding="utf-8")
    analysis = analyse(folder)
    split, result = analysis.sweep.splits["dev"], analysis.results["dev"]
    assert (split.unit, result.units, split.sentences) == ("documents", 6, 24)
    assert result.scores[0, 0] == pytest.approx(analysis.sweep.runs[0][0].metrics["dev"]["f1"])


def test_gold_that_no_tag_shows_counts(tmp_path: Path) -> None:
    gold = sentences(10)
    gold[0] = replace(gold[0], missed=("LOC", "PER"))
    run = write_run(tmp_path / "run", "0011", 1, {"dev": (gold, noisy(gold, 0.2, (1,)))})
    split = read_sweep(run).splits["dev"]
    f1 = json.loads((run / "metrics.json").read_text())["dev"]["f1"]
    assert split.beyond == 2 and run_scores(split)[0, 0] == pytest.approx(f1)


def test_words_without_a_label_and_hostile_words_come_back(tmp_path: Path) -> None:
    words = ("#", "-DOCSTART-", "\u200b", "a\tb", "\u202eמזל", "x" * 500, "_")
    tags = ("B-LOC", IGNORED, "O", "O", "B-PER", "I-PER", "O")
    gold = [Sentence(words=words, tags=tags), Sentence(words=("-DOCSTART-",), tags=("B-LOC",))]
    predicted = [("B-LOC", "B-LOC", *("O",) * 5), ("O",)]
    run = write_run(tmp_path / "run", "0011", 1, {"dev": (gold, predicted)}, labels=LABELS)
    read = read_predictions(run / "predictions.dev.conll", LABELS)
    assert read.sentences[0].words == (*words[:3], "a\\tb", *words[4:])
    assert read.sentences[0].tags == tags
    assert {sentence.document for sentence in read.sentences} == {None}
    counts = sentence_counts(read.sentences, read.predicted, Entities(plain=False))
    assert counts.tolist() == [[2, 1, 1], [1, 0, 0]]
    assert read_sweep(run).splits["dev"].hits.tolist() == [[[2.0, 0.0]]]


def test_an_underscore_may_be_a_plain_tag(tmp_path: Path) -> None:
    gold = [Sentence(words=("a", "b"), tags=("_", "X"))]
    labels = LabelSet(("O", "X", "_"), plain=True)
    splits = {"dev": (gold, [("_", "_")])}
    run = write_run(tmp_path / "run", "0011", 1, splits, plain=True, labels=labels)
    read = read_predictions(run / "predictions.dev.conll", labels)
    assert read.sentences[0].tags == ("_", "X")
    assert read_sweep(run).metric == "accuracy"
    assert run_scores(read_sweep(run).splits["dev"])[0, 0] == 0.5


def test_strings_that_lack_seeds_are_left_out_and_named(sweep: Path, tmp_path: Path) -> None:
    folder = copied(sweep, tmp_path)
    shutil.rmtree(folder / "0110" / "seed2")
    read = read_sweep(folder)
    assert read.names == ("0000", "0011", "1111") and read.seeds == (1, 2, 3)
    assert read.notes == ("0110 left out of the comparison: it lacks seed 2",)
    for string in ("0000", "0011"):
        shutil.rmtree(folder / string / "seed2")
    read = read_sweep(folder)
    assert read.names == tuple(SHARES) and read.seeds == (1, 3)
    assert read.notes == ("seed 2 left out of the comparison: not every string has it",)
    assert verdict(folder)[-1] == read.notes[0]


def test_unfinished_and_pruned_runs_are_counted(sweep: Path, tmp_path: Path) -> None:
    folder = copied(sweep, tmp_path)
    (folder / "1011" / "seed1" / "checkpoint").mkdir(parents=True)
    (folder / "1011" / "seed2").mkdir()
    (folder / "1011" / "seed2" / "pruned.json").write_text("{}")
    assert read_sweep(folder).notes == (
        "1 unfinished run left out",
        "1 pruned run left out, of strings that had lost on dev",
    )


def test_further_axes_are_part_of_the_name(tmp_path: Path) -> None:
    gold = sentences(12)
    for axis, string in (("lr=0.1", "0000"), ("lr=0.1", "1111"), ("lr=0.2", "1111")):
        splits = {"dev": (gold, noisy(gold, 0.3, (len(axis), len(string))))}
        write_run(tmp_path / axis / string / "seed1", string, 1, splits)
    read = read_sweep(tmp_path)
    assert read.names == ("lr=0.1/0000", "lr=0.1/1111", "lr=0.2/1111")
    assert analyse(tmp_path).causal == 0


def test_runs_that_contradict_are_refused(sweep: Path, tmp_path: Path) -> None:
    run = copied(sweep, tmp_path) / "0011" / "seed1"
    tags, scores = run / "predictions.dev.conll", run / "metrics.json"
    metrics = json.loads(scores.read_text(encoding="utf-8"))
    texts = {path: path.read_text(encoding="utf-8") for path in (tags, scores)}
    changes = [
        (scores, "{", "metrics.json: expected JSON"),
        (tags, texts[tags].replace("w0.1\tO\tO", "w0.1\tO", 1), "got 2 columns"),
        (tags, texts[tags].replace("w0.1\t", "x\t", 1), "one task at a time"),
        (tags, texts[tags].split("\n\n", 1)[1], "one task at a time"),
        (tags, texts[tags].replace("\tO\n", "\tB-LOC\n"), "not of one run"),
        (scores, json.dumps({"test": metrics["test"]}), "expected scores on dev"),
        (scores, json.dumps({"dev": metrics["dev"]}), "expected scores on test"),
    ]
    for path, text, expected in changes:
        assert text != texts[path]
        path.write_text(text, encoding="utf-8")
        refused(run.parents[1], expected)
        path.write_text(texts[path], encoding="utf-8")
    tags.unlink()
    refused(run.parents[1], "no such file")
    tags.write_text(texts[tags], encoding="utf-8")
    shutil.copytree(run, run.with_name("seed01"))
    refused(run.parents[1], "has seed 1 already")


def refused(folder: Path, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        read_sweep(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "expected finished runs below it")
    refused(tmp_path / "none", "no such folder")
