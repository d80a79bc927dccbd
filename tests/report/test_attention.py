"""The figure of attention to the right: whose it is, what its shades and words are, and what the
page says where it cannot be drawn."""

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from lmsl.report.charts import charts
from lmsl.report.figures import GridChart
from lmsl.report.svg import svg
from lmsl.run_directory.influence import (
    INFLUENCE,
    Influence,
    RightAttention,
    read_influence,
    write_influence,
)
from lmsl.statistics.analysis import analyse
from tests.search.sweep_tools import html_of, write_sweep
from tests.small_runs import refused

SHARES = {"0000": 0.7, "0011": 0.15, "1111": 0.4}
HEADS = ((0.0, 0.0, 0.0), (0.25, 0.5, 1.0))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep whose best string is 0011."""
    return write_sweep(tmp_path / "sweep", SHARES, seeds=(1, 2), size=10)


def record(
    sweep: Path,
    seed: int,
    heads: Sequence[Sequence[float]] | None,
    string: str = "0011",
    even: Sequence[float] = (0.0, 0.5),
) -> None:
    attention = None
    if heads is not None:
        attention = RightAttention(heads=tuple(map(tuple, heads)), even=tuple(even))
    layers = (0.1,) * len(even)
    found = Influence(layers=layers, positions=9, sentences=3, attention=attention)
    folder = sweep / string / f"seed{seed}"
    write_influence(folder, found)
    assert read_influence(folder) == found


def drawn(sweep: Path) -> tuple[GridChart | None, str]:
    figures, missing = charts(analyse(sweep))
    found = [chart for chart in figures if chart.key == "attention"]
    assert len(found) <= 1
    chart = found[0] if found else None
    assert chart is None or isinstance(chart, GridChart)
    return chart, " ".join(line for line in missing if line.startswith("Attention"))


def test_it_is_that_of_the_best_string_over_seeds(sweep: Path) -> None:
    record(sweep, 1, HEADS)
    record(sweep, 2, ((0.0, 0.0, 0.0), (0.75, 0.5, 0.0)))
    record(sweep, 1, ((0.9, 0.9), (0.9, 0.9)), "1111", (0.5, 0.5))
    chart, said = drawn(sweep)
    assert chart is not None and said == "" and chart.title.endswith(": 0011")
    assert chart.rows == ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5)) and chart.even == (0.0, 0.5)
    text = html_of(sweep)
    assert 'id="attention"' in text and "layer 2, head 3: 0.500 (even 0.500)" in text


def test_a_shade_is_its_share(sweep: Path) -> None:
    record(sweep, 1, HEADS)
    chart, _ = drawn(sweep)
    assert chart is not None
    cells = re.findall(
        r'y="([\d.]+)"[^>]*class="cell" fill-opacity="([\d.]+)"><title>layer (\d), head (\d)',
        str(svg(chart)),
    )
    shades = {(int(layer), int(head)): float(shade) for _, shade, layer, head in cells}
    assert shades == {
        (row + 1, place + 1): share
        for row, shares in enumerate(HEADS)
        for place, share in enumerate(shares)
    }
    heights = {int(layer): float(y) for y, _, layer, _ in cells}
    assert heights[1] > heights[2], "the layer nearest to the input is lowest"
    assert ">even: 0.50</text>" in str(svg(chart))


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (2, 64), (126, 128)])
def test_every_size_fits(layers: int, heads: int) -> None:
    chart = GridChart(
        key="attention",
        title="t",
        note="n",
        x_axis="head",
        y_axis="layer",
        rows=((0.5,) * heads,) * layers,
        even=tuple(0.4 + 0.1 * (layer % 2) for layer in range(layers)),
    )
    text = str(svg(chart))
    width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', text).groups())  # type: ignore[union-attr]
    for x, y, wide, high in re.findall(
        r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', text
    ):
        assert float(x) >= 0 and float(x) + float(wide) <= width
        assert float(y) >= 0 and float(y) + float(high) <= height
    assert "nan" not in text and (layers == 1 or "even: 0.40 to 0.50" in text)
    places = [
        float(x)
        for x in re.findall(
            r'<text x="([\d.]+)" y="[\d.]+" class="tick" text-anchor="middle">\d+<', text
        )
    ]
    assert all(b - a >= 14 for a, b in itertools.pairwise(places))


def test_what_cannot_be_drawn_is_said(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drawn(sweep) == (None, ""), "that nothing was recorded is said of the influence"
    record(sweep, 1, None)
    chart, said = drawn(sweep)
    assert chart is None and "the influence.json of 0011 lacks it" in said
    record(sweep, 2, HEADS)
    chart, said = drawn(sweep)
    assert chart is not None and chart.rows == HEADS and said == ""
    record(sweep, 1, ((0.0, 0.0), (0.1, 0.2)))
    refused(capsys, ["report", str(sweep)], "expected as many layers and heads in the influence")
    for seed in (1, 2):
        record(sweep, seed, ((0.0, 0.0), (0.0, 0.0)), even=(0.0, 0.0))
    chart, said = drawn(sweep)
    assert chart is None and "0011 is causal, so that it is 0 in every head" in said
    document = json.loads((sweep / "0011" / "seed1" / INFLUENCE).read_text())
    (sweep / "0011" / "seed1" / INFLUENCE).write_text(json.dumps(document | {"attention": 7}))
    refused(capsys, ["report", str(sweep)], "influence.json: expected the influence")
