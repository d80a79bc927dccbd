"""The benchmark of stacks, on next to nothing, and the replay of pruning on curves made up."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.search import prune_replay
from benchmarks.search import stacks as sweep

SMALL = ("--data", "synthetic", "--sentences", "8", "--batch-size", "2", "--rounds", "1")


def test_sizes_are_timed_behind_a_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "sweep.json"
    assert sweep.main([*SMALL, "--sizes", "1", "2", "--output", str(output)]) == 0
    record = json.loads(output.read_text())
    assert [one["runs"] for one in record["sizes"]] == [1, 2]
    assert all(one["ratio"] > 0 and one["processor_ratio"] > 0 for one in record["sizes"])
    assert all(0 < one["floor_ratio"] < 1.5 for one in record["sizes"])
    assert record["gate"]["difference"] < 1e-4
    assert "gate: stacked and alone differ" in capsys.readouterr().out
    # The plot is drawn where the extra `plots` is installed, and nothing is lost without it.
    assert output.with_suffix(".png").exists() == (find_spec("matplotlib") is not None)
    monkeypatch.setattr(sweep, "gate", lambda *_: float("nan"))
    assert sweep.main([*SMALL, "--sizes", "2", "--output", str(tmp_path / "none.json")]) == 1
    assert not (tmp_path / "none.json").exists(), "no figures behind a red gate"


@pytest.mark.parametrize("sizes", ["0", "17"])
def test_sizes_out_of_range_are_refused(sizes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.main([*SMALL, "--sizes", sizes]) == 2
    assert "from 1 to 16" in capsys.readouterr().err


def write_curves(folder: Path, curves: dict[str, list[int]]) -> Path:
    for string, correct in curves.items():
        run = folder / string / "seed1"
        run.mkdir(parents=True)
        rows = [
            {"step": number, "dev": {"gold": 400, "predicted": 400, "correct": found}}
            for number, found in enumerate(correct, start=1)
        ]
        (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_clear_winner_is_kept_and_the_losers_cost_little(tmp_path: Path) -> None:
    curves = {"00": [40, 50, 60], "01": [300, 360, 390], "10": [60, 60, 60], "11": [50, 50, 60]}
    found = prune_replay.read_curves([write_curves(tmp_path, curves)])
    outcome = prune_replay.replay(found, 250, seed=1)
    assert outcome.winner_kept and outcome.regret == 0.0
    assert outcome.share == pytest.approx((4 + 2 + 1) / 12)


def test_who_wins_late_may_be_lost(tmp_path: Path) -> None:
    """What the share of kept winners is there to say."""
    curves = {"00": [40, 50, 399], "01": [300, 300, 300], "10": [290, 290, 290]}
    found = prune_replay.read_curves([write_curves(tmp_path, curves)])
    outcome = prune_replay.replay(found, 250, seed=1)
    assert not outcome.winner_kept and outcome.regret > 0.1


def test_curves_that_cannot_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_curves(tmp_path, {"00": [1, 2], "01": [1, 2, 3]})
    assert prune_replay.main([str(tmp_path)]) == 2
    assert "the same epoch" in capsys.readouterr().err
    assert prune_replay.main([str(tmp_path), "--repeats", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err


def test_what_a_replay_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_curves(tmp_path, {"00": [40, 50, 60], "01": [300, 360, 390]})
    assert prune_replay.main([str(tmp_path), "--repeats", "3"]) == 0
    assert "2 strings, 3 repeats: winner kept in 100 %, regret 0.00" in capsys.readouterr().out
