"""What a training says of itself: its string, its end, and nothing where that is asked for."""

import json
from pathlib import Path
from typing import Any

import pytest

from lmsl.cli import main
from lmsl.cli.closing import closing_lines, type_lines
from tests.small_runs import write_data


def rates(gold: int, f1: float) -> dict[str, Any]:
    return {"gold": gold, "precision": 1.0, "recall": 0.5, "f1": f1}


def test_types_come_by_their_number_and_the_weak_ones_are_named() -> None:
    per_type = {
        "rare": rates(9, 0.0),
        "a": rates(1200, 0.9),
        "b": rates(10, 0.25),
        "c": rates(50, 0.7),
        "d": rates(50, 0.3),
    }
    assert list(type_lines("test", per_type)) == [
        "  test     gold  precision  recall     F1",
        "  a       1,200     100.00   50.00  90.00",
        "  c          50     100.00   50.00  70.00",
        "  d          50     100.00   50.00  30.00",
        "  b          10     100.00   50.00  25.00",
        "  rare        9     100.00   50.00   0.00",
        "  weakest of those with 10 or more: b 25.00, d 30.00, c 70.00",
    ]


def test_many_types_are_cut_and_counted() -> None:
    lines = list(type_lines("dev", {f"t{k:02}": rates(20, k / 100) for k in range(40)}))
    assert len(lines) == 1 + 12 + 2 and lines[-2] == "  and 28 more in metrics.json"
    assert lines[-1].endswith("t00 0.00, t01 1.00, t02 2.00")


def test_a_type_that_turns_the_line_around_is_shown_and_does_not() -> None:
    (_, line) = type_lines("dev", {"a\u202eb": rates(20, 0.5)})
    assert "\u202e" not in line and "a\ufffdb" in line


def test_types_that_look_alike_when_cut_keep_their_rows() -> None:
    long = "x" * 100
    lines = list(type_lines("dev", {long + "a": rates(20, 0.5), long + "b": rates(30, 0.5)}))
    assert len(lines) == 3 and max(map(len, lines)) < 130


def test_few_types_need_no_weakest_and_none_no_table() -> None:
    assert len(list(type_lines("dev", {"a": rates(20, 0.5)}))) == 2
    assert list(type_lines("dev", {})) == []


def test_one_run_and_several(tmp_path: Path) -> None:
    run = tmp_path / "1"
    run.mkdir()
    scores = {"per_type": {"per": rates(20, 0.5)}}
    (run / "metrics.json").write_text(json.dumps({"dev": scores, "selected_epoch": 1}))
    lines = list(closing_lines([run], comparable=True))
    assert lines[0].split() == ["dev", "gold", "precision", "recall", "F1"]
    assert any(f"lmsl report {run} " in line for line in lines)
    settings = run / "config.yaml"
    again = f"lmsl sweep --config {settings} --unmask grid --seed 1 2 3"
    assert any(again in line for line in lines)
    spaced = tmp_path / "my runs" / "1"
    spaced.parent.mkdir()
    run.rename(spaced)
    assert any(
        f"lmsl report '{spaced}' " in one for one in closing_lines([spaced], comparable=True)
    )
    spaced.rename(run)
    assert not any("--unmask" in line for line in closing_lines([run], comparable=False))
    several = [tmp_path / "2" / string / "seed1" for string in ("0000", "0011")]
    assert list(closing_lines(several, comparable=True)) == [
        "next:",
        f"  lmsl report {tmp_path / '2'}  which string, and is that more than noise",
    ]
    assert list(closing_lines([], comparable=True)) == []


def test_a_decoder_has_a_string_by_default_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data")
    flags = ["--data", str(data), "--output", str(tmp_path / "run"), "--max-steps", "1"]
    assert main(["train", *flags, "--device", "cpu", "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    known = {"run": str(tmp_path / "run"), "unmask": "0011", "seed": 1}
    assert json.loads(line) == known | metrics and err == ""
    settings = str(tmp_path / "run" / "config.yaml")
    again = ["train", "--config", settings, "--output", str(tmp_path / "again")]
    assert main(again) == 0
    out, err = capsys.readouterr()
    assert out == "" and "chosen for you" not in err and "next:" in err
    assert main(["train", *flags, "--device", "cpu", "--overwrite"]) == 0
    assert "unmask 0011: chosen for you; --unmask grid" in capsys.readouterr().err
