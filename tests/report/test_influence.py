"""The figure of right-context influence: what it draws, what it says of runs that lack it."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from lmsl.report.charts import charts
from lmsl.report.figures import PlaneChart
from lmsl.report.svg import svg
from lmsl.run_directory.influence import INFLUENCE, Influence, write_influence
from lmsl.statistics.analysis import analyse
from tests.search.sweep_tools import html_of, write_sweep
from tests.small_runs import refused

SHARES = {"0000": 0.7, "0011": 0.15, "0101": 0.5, "1111": 0.4}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "sweep", SHARES, seeds=(1, 2), size=10)


def record(sweep: Path, string: str, seed: int, layers: Sequence[float]) -> Path:
    folder = sweep / string / f"seed{seed}"
    write_influence(folder, Influence(layers=tuple(layers), positions=9, sentences=3))
    return folder / INFLUENCE


def drawn(sweep: Path) -> tuple[PlaneChart | None, str]:
    """The figure, and what the page says of it under what it lacks."""
    figures, missing = charts(analyse(sweep))
    found = [chart for chart in figures if chart.key == "influence"]
    assert len(found) <= 1
    chart = found[0] if found else None
    assert chart is None or isinstance(chart, PlaneChart)
    return chart, " ".join(line for line in missing if line.startswith("Right-context"))


def test_lines_are_means_over_seeds_by_layer(sweep: Path) -> None:
    for seed in (1, 2):
        record(sweep, "0000", seed, (0.0, 1e-8, 0.0))
        record(sweep, "0011", seed, (0.0, 0.2 * seed, 0.5))
        record(sweep, "0101", seed, (0.1, 0.1, 0.1))
        record(sweep, "1111", seed, (0.3, 0.4, 0.5 * seed))
    chart, said = drawn(sweep)
    assert chart is not None and said == "" and chart.from_zero
    lines = {line.label: line for line in chart.lines}
    assert lines["0011"].points == ((1.0, 0.0), (2.0, pytest.approx(0.3)), (3.0, 0.5))
    assert lines["1111"].points[2] == (3.0, 0.75)
    assert [lines[s].tone for s in SHARES] == ["ink", "accent", "muted", "ink"]
    assert [lines[s].dash for s in SHARES] == ["dashed", "solid", "solid", "dotted"]
    assert [line.named for line in chart.lines] == [False, True, True, True]
    text = html_of(sweep)
    assert 'id="influence"' in text and "did not record it" not in text


@pytest.mark.parametrize("layers", [(0.8, 0.9), (0.4,)], ids=["high", "one layer"])
def test_the_axis_begins_at_0(layers: tuple[float, ...], sweep: Path) -> None:
    record(sweep, "1111", 1, layers)
    chart, _ = drawn(sweep)
    assert chart is not None
    text = str(svg(chart))
    assert ">0</text>" in text and ">0.75</text>" not in text and "nan" not in text


def test_runs_that_did_not_record_it_are_counted(sweep: Path) -> None:
    chart, said = drawn(sweep)
    assert chart is None and said.startswith("Right-context influence by layer: 8 of the runs")
    assert "lmsl probe RUN --save" in said
    record(sweep, "0011", 2, (0.0, 0.5))
    chart, said = drawn(sweep)
    assert chart is not None and [line.label for line in chart.lines] == ["0011"]
    assert chart.lines[0].points[1] == (2.0, 0.5) and "7 of the runs" in said
    assert "7 of the runs did not record it" in html_of(sweep)


def test_a_broken_file_is_named(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record(sweep, "0011", 1, (0.0, 0.5))
    path.write_text(json.dumps({"layers": "0.5"}), encoding="utf-8")
    refused(capsys, ["report", str(sweep)], f"{path}: expected the influence")
    record(sweep, "0011", 1, (0.0, 0.5))
    record(sweep, "0011", 2, (0.0, 0.5, 0.6))
    refused(capsys, ["report", str(sweep)], "of every seed, got 2 and 3")
