"""Places a run cannot be written to, disks that fill up: one line, and nothing half-written."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch

import lmsl
from lmsl.cli import main
from lmsl.config.config import Config
from lmsl.console import Console
from lmsl.errors import TrainingError
from lmsl.run import train as train_python
from tests.small_runs import ADAPTER, SHORT, refused, snapshot


class TestOutput:
    def line(self, data: Path, output: Path, *flags: str, unmask: str = "0011") -> list[str]:
        named = ["--data", str(data), "--output", str(output)]
        return ["train", "--unmask", *unmask.split(), *named, *SHORT, "--max-steps", "1", *flags]

    def test_a_run_is_replaced_only_on_request(
        self, run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output = tmp_path / "run"
        shutil.copytree(run, output)
        (output / ".metrics.json.123.tmp").write_text("left by a killed process")
        before = snapshot(output)
        refused(capsys, self.line(data, output, unmask="1111"), "holds a run", "--overwrite")
        assert snapshot(output) == before
        assert main(self.line(data, output, "--overwrite", unmask="1111")) == 0
        assert lmsl.Labeler.load(output, device="cpu").info.unmask == "1111"
        assert {path.name for path in output.iterdir()} == {path.name for path in run.iterdir()}

    @pytest.mark.parametrize("flags", [(), ("--overwrite",), ("--resume",)])
    def test_foreign_files_are_never_touched(
        self,
        flags: tuple[str, ...],
        data: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (tmp_path / "thesis.tex").write_text("the only copy")
        refused(capsys, self.line(data, tmp_path, *flags), "thesis.tex")
        assert (tmp_path / "thesis.tex").read_text() == "the only copy"
        assert len(list(tmp_path.iterdir())) == 1

    def test_a_file_in_the_way(
        self, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").write_text("")
        for output in (tmp_path / "file", tmp_path / "file" / "a" / "b"):
            refused(capsys, self.line(data, output), "--output", "is a file")
            refused(capsys, self.line(data, output, unmask="0 1"), "--output", "is a file")

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder nobody writes to")
    def test_a_place_that_cannot_be_written(
        self, data: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        refused(capsys, self.line(data, Path("/proc/lmsl/run")), "--output /proc/lmsl/run")

    def test_a_name_too_long(
        self, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        refused(capsys, self.line(data, tmp_path / ("x" * 300)), "File name too long")

    def test_several_runs_do_not_go_into_a_run(
        self, run: Path, data: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = snapshot(run)
        refused(capsys, self.line(data, run, "--overwrite", unmask="0 1"), "found a run")
        assert snapshot(run) == before

    def test_resuming_with_other_settings(
        self, run: Path, data: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = snapshot(run)
        line = self.line(data, run, "--resume", "--lr", "0.5")
        refused(capsys, line, "--resume", "other settings", "lr: 0.5", "--overwrite")
        assert snapshot(run) == before

    @pytest.mark.parametrize(
        ("batch", "where"), [("4", "dev, after update 1"), ("1", "train.conll:")]
    )
    def test_numbers_that_are_not_finite_stop_the_run_and_leave_no_folder(
        self,
        batch: str,
        where: str,
        data: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        flags = ("--lr", "1e30", "--max-grad-norm", "1e30", "--max-steps", "4")
        line = self.line(data, tmp_path / "out", *flags, "--batch-size", batch)
        refused(capsys, line, where, "--lr", status=1)
        assert not (tmp_path / "out").exists()


class FullDisk:
    """Lets a number of files be written, then says what a full disk says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, files: int) -> None:
        self.left = files
        self.replace = os.replace
        monkeypatch.setattr("lmsl.run_directory.files.os.replace", self)

    def __call__(self, source: Path, target: Path) -> None:
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.left -= 1
        self.replace(source, target)


class TestFullDisk:
    # Log and checkpoint come first, then the two files of predictions, the adapter, ...
    @pytest.mark.parametrize("files", [0, 1, 3, 5, 7])
    def test_says_so_and_the_run_goes_on_later(
        self,
        files: int,
        run: Path,
        data: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        line = TestOutput().line(data, tmp_path / "out")
        with monkeypatch.context() as patch:
            FullDisk(patch, files)
            refused(capsys, line, "disk is full", "--resume", status=1)
        assert not (tmp_path / "out" / "lmsl.json").exists()
        if files > 1:
            assert main([*line, "--resume"]) == 0
            for name in (ADAPTER, "head.safetensors", "log.jsonl", "predictions.dev.conll"):
                assert (tmp_path / "out" / name).read_bytes() == (run / name).read_bytes()

    def test_of_the_tokenizers_library(
        self,
        data: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """It raises a bare Exception, and would leave half a file behind."""
        from transformers import PreTrainedTokenizerBase

        def full(self: object, folder: str, **_: object) -> None:
            Path(folder, "tokenizer.json").write_text("{")
            raise Exception("No space left on device (os error 28)")

        monkeypatch.setattr(PreTrainedTokenizerBase, "save_pretrained", full)
        refused(capsys, TestOutput().line(data, tmp_path / "out"), "disk is full", status=1)
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert not names & {"tokenizer.json", "lmsl.json"} and "checkpoint" in names

    def test_from_python_it_is_a_training_error(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        torch.set_num_threads(1)
        FullDisk(monkeypatch, 0)
        config = Config(unmask=("1",), data=str(data), output=tmp_path / "out", max_steps=1)
        with pytest.raises(TrainingError, match="disk is full"):
            train_python(config, Console(quiet=True))
