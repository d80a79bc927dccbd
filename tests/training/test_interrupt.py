"""Trainings that are asked to stop, or saved inside an epoch: nothing is lost, to the bit."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from lmsl.cli import main
from lmsl.config.config import Config
from lmsl.console import Bar, Console
from lmsl.run import train
from lmsl.training import epochs
from lmsl.training.log import Log
from tests.small_runs import SHORT, same_files, write_data
from tests.small_runs import train as train_whole


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def line(data: Path, output: Path, *flags: str) -> list[str]:
    named = ["--unmask", "0011", "--data", str(data), "--output", str(output)]
    return ["train", *named, *SHORT, *flags]


@pytest.mark.parametrize(
    ("number", "status", "step"),
    [(signal.SIGTERM, 143, 2), (signal.SIGINT, 130, 2), (signal.SIGTERM, 143, 3)],
)
def test_asked_to_stop_it_saves_and_goes_on_to_the_same_end(
    number: signal.Signals,
    status: int,
    step: int,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Inside the first epoch of three updates, and with its last one."""
    whole, output = train_whole(data, tmp_path / "whole"), tmp_path / "run"
    advance = Bar.advance

    def asked(self: Bar, done: int, *told: Any) -> None:
        advance(self, done, *told)
        if done == step:
            signal.raise_signal(number)

    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with monkeypatch.context() as patched:
        patched.setattr(Bar, "advance", asked)
        assert main(line(data, output)) == status
    told = capsys.readouterr().err
    assert "asked to stop" in told and told.rstrip().endswith("go on with --resume")
    assert (output / "checkpoint" / "state.pt").exists()
    assert before == [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    assert main(line(data, output, "--resume")) == 0
    assert f"going on after update {step}" in capsys.readouterr().err
    same_files(whole, output)


@pytest.mark.parametrize(
    ("step", "where", "words"),
    [
        (2, "warming", ("the warm-up has no checkpoints", "no checkpoint to go on from")),
        (0, "behind", ("interrupted", "going on after the warm-up")),
    ],
)
def test_a_warm_up_is_not_made_twice_where_it_came_to_its_end(
    step: int,
    where: str,
    words: tuple[str, str],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    warm = ("--warmup-mntp", "4")
    whole, output = train_whole(data, tmp_path / "whole", *warm), tmp_path / "run"
    advance, calls = Bar.advance, []

    def asked(self: Bar, done: int, *told: Any) -> None:
        calls.append(done)
        advance(self, done, *told)
        if len(calls) == (step if where == "warming" else 4 + step):
            signal.raise_signal(signal.SIGINT)

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    capsys.readouterr()
    with monkeypatch.context() as patched:
        if where == "behind":
            patched.setattr("lmsl.run.fit", stop)
        else:
            patched.setattr(Bar, "advance", asked)
        assert main(line(data, output, *warm)) == 130
    assert words[0] in capsys.readouterr().err
    assert main(line(data, output, *warm, "--resume")) == 0
    told = capsys.readouterr().err
    assert words[1] in told and ("warm-up: 4 updates" in told) == (where == "warming")
    same_files(whole, output)


def test_asked_twice_it_ends_at_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient(self: Bar, *told: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second one was swallowed")

    monkeypatch.setattr(Bar, "advance", impatient)
    assert main(line(data, tmp_path / "run")) == 130
    assert not (tmp_path / "run").exists()


def test_checkpoints_inside_an_epoch(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed without a word right after one, a run goes on from there."""
    saved: list[int] = []
    within = epochs._save_within

    def counted(stack: Any, update: Any, seconds: float) -> None:
        within(stack, update, seconds)
        saved.append(update.step)
        if len(saved) == 3:
            raise RuntimeError("killed")

    settings: dict[str, Any] = {"unmask": ("0011", "1100"), "data": str(data), "device": "cpu"}
    short: dict[str, Any] = {"max_steps": 6, "epochs": 2, "batch_size": 4, "save_minutes": 0}
    config = Config(**settings, **short, output=tmp_path / "runs")
    whole = Config(**settings, **{**short, "save_minutes": 10}, output=tmp_path / "whole")
    torch.set_num_threads(1)
    train(whole, Console(quiet=True), stack=2)
    monkeypatch.setattr(epochs, "_save_within", counted)
    with pytest.raises(RuntimeError, match="killed"):
        train(config, Console(quiet=True), stack=2)
    assert saved == [1, 2, 4], "the third and the last update end epochs, which are saved anyway"
    monkeypatch.setattr(epochs, "_save_within", within)
    said = Said()
    resumed = Config(**settings, **short, output=tmp_path / "runs", resume=True)
    train(resumed, said, stack=2)
    assert any("going on after update 4" in each for each in said.lines)
    for string in ("0011", "1100"):
        same_files(tmp_path / "whole" / string / "seed1", tmp_path / "runs" / string / "seed1")


class Said(Console):
    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    @contextmanager
    def bar(self, name: str, total: int, done: int = 0) -> Iterator[Bar]:
        with super().bar(name, total, done) as bar:
            yield bar


def test_what_a_killed_process_left_is_swept(data: Path, tmp_path: Path) -> None:
    """Killed while it wrote, or between the last file of a run and the end of its checkpoint."""
    output = train_whole(data, tmp_path / "run", "--max-steps", "1")
    kept = {path.name for path in output.iterdir()}
    (output / "checkpoint").mkdir()
    (output / "checkpoint" / "state.pt").write_bytes(b"stale")
    (output / ".metrics.json.77.tmp").write_text("{")
    (output / ".tokenizer.x.tmp").mkdir()
    assert main([*line(data, output, "--resume"), "--max-steps", "1"]) == 0
    assert {path.name for path in output.iterdir()} == kept
    assert os.listdir(output.parent) == ["run"]


def test_damaged_lines_of_a_log_are_dropped_and_counted(tmp_path: Path) -> None:
    """Half a line at its end used to be a traceback on resumption."""
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 3}\n\xff\n[1]\n{"st')
    log = Log(path, 2)
    assert log.damaged == 3
    log.flush()
    assert path.read_text(encoding="utf-8") == '{"step": 1}\n'
