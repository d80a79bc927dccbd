"""The benchmark that holds predictions of strings against a finished grid."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.search.oneshot import main as compare
from benchmarks.search.right_context import right_context
from benchmarks.shared.record import RESULTS
from lmsl.config.config import Config, dump_config
from tests.search.sweep_tools import write_sweep
from tests.small_runs import write_data

STRINGS = ("0000", "0011")


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """Runs as a sweep would leave them, with the settings of a training of two updates."""
    folder = write_sweep(tmp_path / "grid", dict.fromkeys(STRINGS, 0.3), seeds=(1, 2), size=10)
    data = str(write_data(tmp_path / "data"))
    config = Config(
        unmask=STRINGS, seed=(1, 2), data=data, max_steps=2, epochs=2, batch_size=4, device="cpu"
    )
    for string in STRINGS:
        for seed in config.seed:
            own = replace(config, unmask=(string,), seed=(seed,))
            path = folder / string / f"seed{seed}" / "config.yaml"
            path.write_text(dump_config(own), encoding="utf-8")
    return folder


def test_it_predicts_where_that_was_not_done(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    before = {path: path.stat().st_mtime_ns for path in grid.rglob("*") if path.is_file()}
    record = tmp_path / "record.json"
    assert compare([str(grid), "--output", str(record)]) == 0
    captured = capsys.readouterr()
    assert "epoch 1" in captured.err and "a perfect predictor would reach" in captured.out
    found = json.loads(record.read_text())
    assert found["seeds"] == [1, 2] and found["strings"] == list(STRINGS)
    assert set(found["splits"]) == {"dev", "test"}
    ours = {"one-shot", "short grid", "right context"}
    for name, split in found["splits"].items():
        assert set(split["predictors"]) == ours | ({"grid on dev"} if name == "test" else set())
        assert all(one["regret"] >= 0 for one in split["predictors"].values())
    # Two updates; by its log a run of the grid made 30.
    assert found["costs"]["one-shot"]["updates"] == pytest.approx(2 / 60)
    assert {path: path.stat().st_mtime_ns for path in before} == before, "the grid stays as it is"
    assert compare([str(grid), "--output", str(record)]) == 0
    assert "epoch" not in capsys.readouterr().err, "the second time all is there"


def test_what_is_no_grid_is_refused(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    output = tmp_path / "record.json"

    def refused(expected: str, *flags: str) -> None:
        assert compare([*flags, "--output", str(output)]) == 2
        assert expected in capsys.readouterr().err and not output.exists()

    refused("expected finished runs below it", str(tmp_path / "empty"))
    refused("one string, 0000", str(grid / "0000"))
    refused("expected a folder with oneshot.json", str(grid), "--oneshot", str(tmp_path / "empty"))
    (grid / "0011" / "seed2" / "lmsl.json").unlink()
    refused("seed 2 left out of the comparison", str(grid))


@pytest.mark.parametrize("path", sorted(RESULTS.glob("oneshot_*.json")), ids=lambda p: p.stem)
def test_right_context_is_what_the_records_say(path: Path) -> None:
    rows = json.loads(path.read_text(encoding="utf-8"))["predicted"]["candidates"]
    found = right_context({row["unmask"]: row["dev"] for row in rows})
    assert found is not None and found.scored == 6
    predicted = [found.predicted(row["unmask"]) for row in rows]
    assert predicted == [row["right_context"] for row in rows]


def test_bits_that_no_candidate_tells_apart_are_one_group() -> None:
    scores = {"000000": 0.3, "110011": 0.9, "000011": 0.5, "110000": 0.8}
    found = right_context(scores)
    assert found is not None and found.drops.keys() == {(0, 1), (4, 5)} and found.scored == 4
    predicted = [found.predicted(string) for string in scores]
    assert predicted == pytest.approx([0.4, 0.9, 0.5, 0.8])
    always = right_context({"011": 0.9, "010": 0.7})
    assert always is not None and always.hidden == 0.7, "a bit that all unmask stays open"


@pytest.mark.parametrize("strings", [("0000", "0011", "1111"), ("00", "0011"), ("causal", "1")])
def test_without_the_scores_that_it_takes_there_is_none(strings: tuple[str, ...]) -> None:
    assert right_context(dict.fromkeys(strings, 0.5)) is None
