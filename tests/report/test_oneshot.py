"""One-shot against true on the page: how it is judged, and what can be missing."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmsl.report.oneshot import OneShotSection, oneshot_section
from lmsl.report.svg import svg
from lmsl.statistics.analysis import Analysis, analyse
from lmsl.statistics.foretold import judge
from tests.search.sweep_tools import html_of, write_oneshot, write_sweep
from tests.small_runs import refused

SHARES = {"0000": 0.8, "0001": 0.6, "0011": 0.1, "0110": 0.3, "1111": 0.45}
DEV = {"0000": 0.2, "0001": 0.4, "0011": 0.45, "0110": 0.5, "1111": 0.3}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    folder = write_sweep(tmp_path_factory.mktemp("sweeps") / "s", SHARES, seeds=(1, 2), size=40)
    write_oneshot(folder, DEV, short_grid={name: 1.0 - share for name, share in SHARES.items()})
    return analyse(folder)


def found(sweep: Analysis) -> OneShotSection:
    section, why = oneshot_section(sweep)
    assert section is not None and why == ""
    return section


def top(folder: Path, strings: int, dev: Mapping[str, float] = DEV, **more: Any) -> Path:
    """A sweep of the strings that the one-shot puts first, and of no others."""
    first = sorted(dev, key=dev.__getitem__, reverse=True)[:strings]
    shares = {name: SHARES[name] for name in first}
    write_sweep(folder, shares, seeds=(1,), size=20, **more)
    write_oneshot(folder, dev)
    return folder


def test_predictors_are_judged_against_the_reported_split(sweep: Analysis) -> None:
    rows = {row[0]: row[1:] for row in found(sweep).rows}
    own = "own dev score"
    assert list(rows) == ["one-shot", "short grid", own]
    truth = sweep.results["test"].means
    expected = judge(np.array(list(DEV.values())), truth, np.random.default_rng(0))
    rank, loses, top_loses, cost = rows["one-shot"]
    assert rank.startswith(f"{expected.spearman.value:.3f} [") and cost == "6.2 %"
    assert loses == f"{100 * expected.regret:.2f}" != "0.00"
    assert top_loses == "0.00" == f"{100 * expected.regret_of_top:.2f}"
    assert rows["short grid"][0].startswith("1.000") and rows["short grid"][3] == "10.0 %"
    assert rows[own][3] == "200.0 %"


def test_the_page_has_a_dot_for_every_trained_string(sweep: Analysis) -> None:
    section, test = found(sweep), sweep.results["test"].means
    dots = {line.label: line for line in section.chart.lines}
    for name, true in zip(SHARES, test, strict=True):
        assert dots[name].points == ((pytest.approx(100 * DEV[name]), pytest.approx(100 * true)),)
    assert dots["0011"].tone == "accent" and dots["0110"].named
    assert str(svg(section.chart)).count("<circle") == 5
    assert any("perfect predictor" in note for note in section.notes)
    assert not any("were trained. The figures" in note for note in section.notes)
    text = html_of(sweep.sweep.folder)
    assert "Did one run foretell it?" in text and "the best of its first 3 loses" in text
    assert 'tabindex="0" role="region" aria-label="Predictors of strings"' in text


def test_where_only_the_first_were_trained_that_is_said(tmp_path: Path) -> None:
    three = found(analyse(top(tmp_path / "three", 3)))
    assert three.notes[0].startswith("Of 5 strings 3 were trained.")
    rank, _, top_loses, _ = three.rows[0][1:]
    assert top_loses == "\u2013" and rank != "\u2013" and "[" not in rank
    folder = top(tmp_path / "two", 2)
    two = found(analyse(folder))
    assert two.rows[0][1] == "\u2013" and two.rows[-1][4] == "40.0 %"
    assert "Of 5 strings 2 were trained." in html_of(folder)


def test_sweeps_that_lack_something(tmp_path: Path) -> None:
    section = found(analyse(top(tmp_path / "no test", 3, test=False)))
    assert [row[0] for row in section.rows] == ["one-shot"]
    assert section.chart.y_axis == "dev F1 when trained, %"
    folder = top(tmp_path / "one string", 1)
    nothing, why = oneshot_section(analyse(folder))
    assert nothing is None and "fewer than two" in why
    text = html_of(folder)
    assert why in text and "Did one run foretell it?" not in text
    (folder / "oneshot" / "oneshot.json").unlink()
    assert oneshot_section(analyse(folder)) == (None, "")
    assert "One-shot" not in html_of(folder)


def test_what_the_file_says_is_shown_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = top(tmp_path / "s", 3)
    path = folder / "oneshot" / "oneshot.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for below, expected in (((), "chance alone"), (("0000",), "1 of the 4 other strings")):
        for row in document["candidates"]:
            row["below_best"] = row["unmask"] in below
        path.write_text(json.dumps(document), encoding="utf-8")
        assert any(expected in note for note in found(analyse(folder)).notes)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"metric": "accuracy"}, "expected scores in f1, as its runs have, got 'accuracy'"),
        ({"ranking": ["0000"]}, "ranking and candidates name different strings"),
        ({"share_of_grid": {}}, "expected the result of a one-shot: KeyError('updates')"),
        ({"candidates": [{"unmask": "0000"}]}, "expected the result of a one-shot"),
    ]
    texts = [(json.dumps(document | change), expected) for change, expected in changes]
    for text, expected in (*texts, ("{", "expected JSON")):
        path.write_text(text, encoding="utf-8")
        # What is wrong comes right behind the file, however long its path is.
        refused(capsys, ["report", str(folder)], f"oneshot.json: {expected}")
