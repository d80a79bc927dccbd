"""Sweeps that were interrupted, cut into other stacks, or thinned out on the way."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lmsl.search import pruning
from lmsl.search.racing import Dropped
from tests.small_runs import SHORT, environment, metrics_of, refused, snapshot, updates_of
from tests.training.training_tools import STRINGS, assert_near_runs, sweep

THREE = ("--unmask", *STRINGS, "--stack", "3")

KILLED = """
import os, signal, sys
from lmsl.training import stack
from lmsl.cli import main
honest, saved = stack.save_checkpoint, []
def save(*arguments):
    honest(*arguments)
    saved.append(1)
    if len(saved) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
stack.save_checkpoint = save
sys.exit(main(sys.argv[2:]))
"""


def line(data: Path, output: Path, *flags: str) -> list[str]:
    return ["sweep", "--data", str(data), "--output", str(output), *SHORT, *THREE, *flags]


def test_a_killed_sweep_goes_on_and_comes_to_the_same_end(
    swept: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed between two checkpoints of the second epoch: one run is an epoch ahead."""
    output = tmp_path / "sweep"
    arguments = [sys.executable, "-c", KILLED, "4", *line(data, output)]
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    left = {path.name for path in (output / "0011" / "seed1").iterdir()}
    assert left == {"checkpoint", "log.jsonl"} and (output / ".lmsl.lock").exists()
    refused(capsys, line(data, output), "--resume", "interrupted run")
    sweep(data, output, *THREE, "--resume")
    said = capsys.readouterr().err
    assert "going on after update 3" in said
    assert "stack of 2 runs" in said, "the one ahead needs no company"
    for string in STRINGS:
        run = output / string / "seed1"
        assert_near_runs(run, swept / string / "seed1")
        assert [update["step"] for update in updates_of(run)] == [1, 2, 3, 4, 5, 6]
        assert not (run / "checkpoint").exists()
    assert (output / "sweep.json").is_file() and not (output / ".lmsl.lock").exists()


def test_finished_runs_are_never_trained_again(
    swept: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(swept)
    sweep(data, swept, *THREE, "--seed", "1", "2", "--resume")
    assert capsys.readouterr().err.count("finished already") == 6
    after = snapshot(swept)
    table = str(swept / "sweep.json")
    assert before.pop(table) and after.pop(table)
    assert after == before


def test_how_runs_are_stacked_changes_rounding_alone(
    swept: Path, data: Path, tmp_path: Path
) -> None:
    """One by one, over the one base: masks, adapters and heads of the last must not stay."""
    output = sweep(data, tmp_path / "sweep", *THREE, "--stack", "1")
    for string in STRINGS:
        assert_near_runs(output / string / "seed1", swept / string / "seed1")


def drop_last_string(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real rule would need a task on which a tiny sweep differs beyond chance."""

    def last(counts: dict[str, list[torch.Tensor]], *, seed: int) -> dict[str, Dropped]:
        assert all(len(own) == 1 and own[0].shape == (6, 3) for own in counts.values())
        leader = Dropped(score=0.1, leader="0011", leader_score=0.5, interval=(0.2, 0.6))
        return {"0000": leader} if "0000" in counts else {}

    monkeypatch.setattr(pruning, "losers", last)


@pytest.mark.parametrize("size", ["3", "2"])
def test_a_pruned_run_says_so_and_the_others_are_as_ever(
    size: str,
    swept: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In stacks of 2 every epoch ends with a change of stacks, from and to the checkpoints."""
    drop_last_string(monkeypatch)
    output = sweep(data, tmp_path / "sweep", *THREE, "--stack", size, "--prune")
    run = output / "0000" / "seed1"
    assert {path.name for path in run.iterdir()} == {"pruned.json", "log.jsonl"}
    why: dict[str, Any] = json.loads((run / "pruned.json").read_text())
    assert why["updates"] == 3 and why["leader"] == "0011" and why["interval"] == [0.2, 0.6]
    assert [update["step"] for update in updates_of(run)] == [1, 2, 3]
    document = json.loads((output / "sweep.json").read_text())
    assert [row["unmask"] for row in document["runs"]] == ["0011", "1101"]
    assert [row["run"] for row in document["pruned"]] == ["0000/seed1"]
    for string in ("0011", "1101"):
        assert_near_runs(output / string / "seed1", swept / string / "seed1")
    said = capsys.readouterr().err
    assert "pruned after update 3: 0000" in said and "has the best mean F1 on dev" in said
    alone = ["train", "--unmask", "0000", "--data", str(data), "--output", str(run)]
    refused(capsys, alone, "a sweep with --prune dropped", "--overwrite")
    before = (run / "pruned.json").stat().st_mtime_ns
    sweep(data, output, *THREE, "--stack", size, "--prune", "--resume")
    assert "pruned already" in capsys.readouterr().err
    assert (run / "pruned.json").stat().st_mtime_ns == before


def test_out_of_patience_a_run_leaves_its_stack(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rate of 1e-30 changes nothing, so no epoch is better than the first."""
    flags = ("--epochs", "3", "--max-steps", "9", "--patience", "1", "--lr", "1e-30")
    output = sweep(data, tmp_path / "sweep", *THREE, *flags)
    assert capsys.readouterr().err.count("no better dev score in 1 epoch\n") == 3
    for string in STRINGS:
        run = output / string / "seed1"
        assert metrics_of(run)["selected_epoch"] == 1
        assert len(updates_of(run)) == 6
