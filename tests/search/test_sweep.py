"""The table of several runs, and what is said where their folder cannot be compared."""

import json
from pathlib import Path

import pytest

from lmsl.console import Console
from lmsl.data.tags.sentence import Sentence
from lmsl.data.tags.vocabulary import LabelSet
from lmsl.search.summary import summarise, table
from tests.search.sweep_tools import write_run, write_sweep


def row(dev: float, test: float | None, metric: str = "f1") -> dict[str, object]:
    scores = {"dev": dev} | ({} if test is None else {"test": test})
    return {"metric": metric, "seconds": 60.4, **scores}


def test_mean_and_deviation_over_seeds():
    rows = {"0011": [row(0.8, 0.7), row(0.9, 0.72)], "0000": [row(0.5, 0.4), row(0.5, 0.4)]}
    assert table(rows, best="0011") == [
        "| unmask | runs | dev F1 | test F1 | seconds |",
        "|---|---|---|---|---|",
        "| **0011** | 2 | 85.00 ± 7.07 | 71.00 ± 1.41 | 60 |",
        "| 0000 | 2 | 50.00 ± 0.00 | 40.00 ± 0.00 | 60 |",
    ]


def test_one_seed_has_no_deviation_and_no_test_no_figure():
    lines = table({"1111": [row(0.8, None, "accuracy")]}, best="1111")
    assert lines[0].split(" | ")[2] == "dev accuracy"
    assert lines[2] == "| **1111** | 1 | 80.00 |  | 60 |"


def test_runs_of_another_task_beside_a_sweep_do_not_undo_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(tmp_path, {"0000": 0.6, "1111": 0.2}, (1,), size=6, test=False)
    folders = sorted(tmp_path.glob("*/seed1"))
    gold = [Sentence(words=("run", "dog"), tags=("VERB", "NOUN"))]
    labels = LabelSet(("NOUN", "VERB"), plain=True)
    tags = {"dev": (gold, [("VERB", "NOUN")])}
    write_run(tmp_path / "pos" / "seed1", "0011", 1, tags, plain=True, labels=labels)
    summarise(tmp_path, folders, Console())
    said = capsys.readouterr().err
    assert "| **1111** | 1 |" in said and "nothing can be concluded" in said
    assert "expected runs of one task, found entities and plain tags" in said
    assert json.loads((tmp_path / "sweep.json").read_text())["best"] == "1111"
