"""``lmsl sweep --mode oneshot``: what it writes, what it goes on with, what it refuses."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lmsl.cli import main
from lmsl.config.config import Config
from lmsl.mask.bits import layer_bits
from lmsl.run_directory.digests import Digests
from lmsl.run_directory.oneshot import below_line
from lmsl.search.oneshot import oneshot_run
from lmsl.training import stack
from tests.search.sweep_tools import html_of
from tests.small_runs import SHORT, metrics_of, refused, write_data

THREE = ("0000", "0011", "1111")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def line(data: Path, output: Path, *flags: str, unmask: Sequence[str] = THREE) -> list[str]:
    torch.set_num_threads(1)
    named = ("--data", str(data), "--output", str(output), "--mode", "oneshot")
    return ["sweep", "--unmask", *unmask, *named, *SHORT, *flags]


@pytest.fixture(scope="module")
def predicted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three strings, a short grid, and the best two trained."""
    output = tmp_path_factory.mktemp("sweeps") / "sweep"
    assert main(line(data, output, "--top", "2", "--short-grid")) == 0
    return output


def result(output: Path) -> dict[str, Any]:
    """``oneshot.json`` without times."""
    text = (output / "oneshot" / "oneshot.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    kept = {key: value for key, value in found.items() if "seconds" not in key}
    kept["share_of_grid"] = found["share_of_grid"]["updates"]
    kept.pop("short_grid", None)
    return kept


class TestCommand:
    def test_a_prediction_and_the_runs_it_chose(self, predicted: Path) -> None:
        document = result(predicted)
        assert {path.name for path in (predicted / "oneshot").iterdir()} == {
            *("oneshot.json", "config.yaml", "log.jsonl", "short")
        }
        rows = {row["unmask"]: row for row in document["candidates"]}
        assert tuple(rows) == THREE and set(document["ranking"]) == set(THREE)
        # Six updates teach nothing, and ranks of nothing are chance.
        assert not any(row["below_best"] for row in rows.values())
        assert "may be chance alone" in (below_line(document) or "")
        scores = [rows[string]["dev"] for string in document["ranking"]]
        assert scores == sorted(scores, reverse=True)
        assert document["updates"] == 6 and document["share_of_grid"] == pytest.approx(1 / 3)
        assert all(0 <= row["short_grid"] <= 1 for row in rows.values())
        best = document["ranking"][:2]
        sweep = json.loads((predicted / "sweep.json").read_text())
        assert [row["run"] for row in sweep["runs"]] == [
            f"{string}/seed1" for string in THREE if string in best
        ]
        assert metrics_of(predicted / best[0] / "seed1")["dev"]["gold"] > 0
        assert not list(predicted.rglob("checkpoint"))

        text = html_of(predicted)
        assert "Of 3 strings 2 were trained." in text and ">short grid</th>" in text
        assert 'id="influence"' in text and "did not record it" not in text

    def test_it_is_not_done_twice(
        self, predicted: Path, data: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        flags = ("--top", "2")
        refused(capsys, line(data, predicted, *flags), "holds a run already")
        assert main(line(data, predicted, *flags, "--resume", "--short-grid")) == 0
        said = capsys.readouterr().err
        assert "predicted already" in said and "  epoch" not in said

    def test_what_was_found_on_other_data_is_not_taken(
        self, predicted: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copytree(predicted / "oneshot", tmp_path / "oneshot")
        file = data / "dev.conll"
        before = file.read_text(encoding="utf-8")
        try:
            file.write_text(before.replace("B-PER", "B-LOC", 1), encoding="utf-8")
            flags = ("--top", "0", "--resume")
            refused(capsys, line(data, tmp_path, *flags), "oneshot: the data changed", "(dev)")
        finally:
            file.write_text(before, encoding="utf-8")

    def test_interrupted_it_comes_to_the_same_end(
        self,
        predicted: Path,
        data: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Stopped after the first epoch of the one-shot, and among the runs of the short grid."""
        output, honest = tmp_path / "sweep", stack.save_checkpoint

        saved: list[Path] = []

        def save(folder: Path, *arguments: Any) -> None:
            honest(folder, *arguments)
            saved.append(folder.relative_to(output))
            if len(saved) in (1, 3):
                raise KeyboardInterrupt

        monkeypatch.setattr(stack, "save_checkpoint", save)
        flags = ("--top", "0", "--short-grid")
        assert main(line(data, output, *flags)) == 130
        assert (output / "oneshot" / "checkpoint").is_dir()
        refused(capsys, line(data, output, *flags), "holds a one-shot already")
        refused(
            capsys, line(data, output, *flags, "--lr", "1", "--resume"), "other settings", "lr: 1"
        )
        assert main(line(data, output, *flags, "--resume")) == 130
        assert "going on after update 3" in capsys.readouterr().err
        assert (output / "oneshot" / "oneshot.json").exists()
        assert main(line(data, output, *flags, "--resume")) == 0
        assert "predicted already" in capsys.readouterr().err
        runs = [Path("oneshot"), *(Path("oneshot/short") / string for string in THREE)]
        assert saved == [runs[0], runs[0], *runs[1:]], "what was over is not trained again"
        assert result(output) == result(predicted)
        logs = [(path / "oneshot" / "log.jsonl").read_bytes() for path in (output, predicted)]
        assert logs[0] == logs[1]
        assert not (output / "sweep.json").exists(), "nothing was trained for real"

    def test_overwritten_it_begins_anew(self, data: Path, tmp_path: Path) -> None:
        old = tmp_path / "sweep" / "oneshot"
        (old / "short" / "0000").mkdir(parents=True)
        (old / "oneshot.json").write_text("{}")
        flags = ("--top", "0", "--max-steps", "1", "--overwrite")
        assert main(line(data, old.parent, *flags, "--seed", "3", unmask=("0011", "1111"))) == 0
        assert result(old.parent)["seed"] == 3 and not (old / "short").exists()

    @pytest.mark.parametrize(
        ("flags", "unmask", "expected"),
        [
            (("--top", "4"), THREE, "--top: expected 0 to 3, the number of strings, got 4"),
            (("--top", "-1"), THREE, "--top: expected 0 to 3"),
            (("--stack", "2"), THREE, "--stack: expected it left out"),
            ((), ("0011",), "--unmask: expected two or more strings"),
            (("--exit-layer", "4"), ("0011", "0010"), "got 1"),
            (("--mode", "full", "--top", "1"), THREE, "--top: expected it with --mode oneshot"),
            (("--mode", "full", "--short-grid"), THREE, "--short-grid: expected it with"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
    )
    def test_bad_input_is_refused_before_anything_is_written(
        self,
        flags: tuple[str, ...],
        unmask: tuple[str, ...],
        expected: str,
        data: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        output = tmp_path / "out"
        refused(capsys, line(data, output, *flags, unmask=unmask), expected)
        assert not output.exists()

    def test_a_foreign_folder_is_left_alone(
        self, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        mine = tmp_path / "out" / "oneshot" / "thesis.tex"
        mine.parent.mkdir(parents=True)
        mine.write_text("words")
        refused(capsys, line(data, tmp_path / "out", "--overwrite"), "found thesis.tex")
        assert mine.read_text() == "words"


def test_one_seed_predicts_for_all() -> None:
    strings = {string: [layer_bits(string, 8)] for string in THREE}
    run = oneshot_run(Config(unmask=("grid",), seed=(5, 6)), strings, Path("out"), Digests())
    assert run.bits == [bits for (bits,) in strings.values()]
    assert run.seed == 5 and run.config.unmask == THREE and run.folder == Path("out/oneshot")
    assert run.name == "one-shot over 3 strings, seed 5"
