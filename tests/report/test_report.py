"""The page of a sweep as a file: what it holds, what it escapes, how large it gets."""

import json
import re
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from lmsl.cli import main
from lmsl.data.tags.sentence import Sentence
from lmsl.data.tags.vocabulary import LabelSet
from lmsl.report.charts import charts
from lmsl.report.figures import PlaneChart
from lmsl.report.png import write_pngs
from lmsl.report.sentences import MOST_SENTENCES, MOST_WORDS, find_sentences
from lmsl.report.svg import svg, ticks
from lmsl.report.tables import string_table
from lmsl.run_directory.influence import Influence, write_influence
from lmsl.statistics.analysis import analyse
from tests.search.sweep_tools import (
    html_of,
    noisy,
    sentences,
    write_oneshot,
    write_run,
    write_sweep,
)
from tests.small_runs import refused

SHARES = {"0000": 0.7, "0011": 0.15, "1111": 0.4}
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</p></main>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202e\u05de\u05d6\u05dc",
    "\u0645\u0631\u062d\u0628\u0627",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "x" * 5000,
    "&amp;<!--",
)


class Page(HTMLParser):
    """Counts elements, collects attributes and the text of the document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("sweeps") / "my sweep", SHARES, seeds=(1, 2))


def test_the_command_writes_a_page_and_prints_the_verdict(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "deep" / "page.html"
    assert main(["report", str(sweep), "--output", str(target)]) == 0
    captured = capsys.readouterr()
    assert "exploratory" in captured.out and "0011 has the best mean F1" in captured.out
    assert str(target) in captured.err
    found = Page(target.read_text(encoding="utf-8"))
    for line in captured.out.splitlines():
        assert line in found.text.replace("\u00a0", " ")
    assert main(["report", str(sweep)]) == 0
    assert (sweep / "report.html").read_bytes() == target.read_bytes()


def test_the_page_needs_nothing_else_and_has_the_figures_of_the_runs(sweep: Path) -> None:
    text = html_of(sweep)
    found = Page(text)
    assert found.elements["script"] == found.elements["style"] == 1
    assert not found.elements.keys() & {"link", "img", "iframe", "object", "base"}
    assert [value for name, value in found.attributes if name == "href"] == ["#sentences"]
    assert not [name for name, _ in found.attributes if name.startswith("on") or name == "src"]
    assert "default-src 'none'" in text and "@import" not in text and "url(" not in text
    for string in SHARES:
        for split in ("dev", "test"):
            runs = [json.loads(p.read_text()) for p in sweep.glob(f"{string}/*/metrics.json")]
            mean = sum(run[split]["f1"] for run in runs) / len(runs)
            assert f"{100 * mean:.2f}" in found.text


def test_all_figures_are_there(sweep: Path) -> None:
    drawn, missing = charts(analyse(sweep))
    assert [chart.key for chart in drawn] == ["scores", "scatter", "types", "curves", "cost"]
    assert len(missing) == 1 and "influence" in missing[0]
    for chart in drawn:
        found = Page(str(svg(chart)))
        assert found.elements["svg"] == 1 and "nan" not in str(svg(chart))
    bars = Page(str(svg(drawn[2])))
    assert bars.elements["rect"] == 2 * 3 + 3


def test_hostile_words_types_and_names_are_text(tmp_path: Path) -> None:
    types = ("<b>bold</b>", 'a"onfocus="x')
    gold = [
        Sentence(
            words=HOSTILE, tags=(f"B-{types[0]}", f"I-{types[0]}", f"B-{types[1]}", *"OOOOOO")
        )
    ] * 3
    folder = tmp_path / "<i>sweep & co"
    for string, share in (("0000", 1.0), ("1111", 0.0)):
        splits = {"dev": (gold, noisy(gold, share, (5,)))}
        write_run(folder / string / "seed1", string, 1, splits)
    text = html_of(folder)
    found = Page(text)
    assert found.elements["script"] == 1 and found.elements["main"] == 1
    assert not found.elements.keys() & {"img", "b"} and "onfocus" not in dict(found.attributes)
    for word in (*HOSTILE[:4], *HOSTILE[5:7], HOSTILE[8]):
        assert word in found.text, word
    assert "\u202e" not in text and "x" * 100 not in text
    assert "<i>sweep & co" in found.text


@pytest.mark.parametrize(
    ("strings", "expected"),
    [
        ("0011 1111", "Sentences where 0011 and 1111 differ"),
        ("0011 0001", "Sentences where 0011 and 0001 differ"),
        ("0011", "Sentences where 0011 errs"),
        ("0011 0000", "Dev against test: the sweep has no test data"),
        ("0000 1111", "Sentences where 0000 and 1111 differ"),
    ],
    ids=["no causal", "no full", "one string", "no test", "causal wins"],
)
def test_sweeps_that_lack_something(strings: str, expected: str, tmp_path: Path) -> None:
    shares = {string: 0.1 + 0.3 * index for index, string in enumerate(strings.split())}
    folder = write_sweep(tmp_path / "s", shares, (1,), test="no test data" not in expected)
    assert expected in " ".join(Page(html_of(folder)).text.split())


def test_a_causal_string_that_wins_is_compared_with_once(tmp_path: Path) -> None:
    table = string_table(analyse(write_sweep(tmp_path / "s", {"0000": 0.1, "1111": 0.6}, (1, 2))))
    assert [head for head in table.heads if head.startswith("against")] == ["against 0000"]
    assert table.rows[0].role == "causal, picked on dev" and table.rows[0].best
    assert all(len(row.cells) == len(table.heads) for row in table.rows)


def test_plain_tags(tmp_path: Path) -> None:
    labels = LabelSet(("NOUN", "VERB"), plain=True)
    gold = [Sentence(words=("run", "dog"), tags=("VERB", "NOUN"))] * 5
    for string, tags in (("0000", ("NOUN", "NOUN")), ("1111", ("VERB", "NOUN"))):
        splits = {split: (gold, [tags] * 5) for split in ("dev", "test")}
        write_run(tmp_path / string / "seed1", string, 1, splits, plain=True, labels=labels)
    text = " ".join(Page(html_of(tmp_path)).text.split())
    assert "dev accuracy" in text and "accuracy by string" in text
    assert "run NOUN, should be VERB dog" in text and "5 of 5 sentences" in text


def test_curves_are_dev_scores_or_losses_by_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_sweep(tmp_path / "s", SHARES, (1, 2), size=10)
    for number, path in enumerate(folder.rglob("log.jsonl")):
        last = path.read_text(encoding="utf-8").splitlines()[-1]
        losses = [json.dumps({"step": s, "loss": [1 / s + number]}) for s in range(1, 91)]
        path.write_text("\n".join([*losses, last, ""]), encoding="utf-8")
    curves = next(chart for chart in charts(analyse(folder))[0] if chart.key == "curves")
    assert isinstance(curves, PlaneChart) and curves.y_axis == "training loss"
    assert [len(line.points) for line in curves.lines] == [30, 30, 30]
    assert curves.lines[0].points[0][0] == 2.0
    (folder / "0011" / "seed1" / "log.jsonl").write_text('{"step": 1}\n{"st', encoding="utf-8")
    refused(capsys, ["report", str(folder)], "log.jsonl:2: expected JSON")
    for path in folder.rglob("log.jsonl"):
        path.unlink()
    assert "the runs kept no log" in html_of(folder)


def test_many_sentences_make_no_giant(tmp_path: Path) -> None:
    gold = sentences(100) * 20
    for string, share in (("0000", 0.6), ("1111", 0.1)):
        tags = [*noisy(gold[:100], share, (1,))] * 20
        write_run(tmp_path / string / "seed1", string, 1, {"dev": (gold, tags)})
    shown = find_sentences(analyse(tmp_path))
    assert len(shown.shown) == MOST_SENTENCES < shown.differing <= 2000
    numbers = [example.number for example in shown.shown]
    assert numbers == sorted(set(numbers)) and numbers[0] < 100 and numbers[-1] > 1900
    text = html_of(tmp_path)
    assert len(text.encode()) < 1_500_000
    assert f"{MOST_SENTENCES} of them are on this page" in text


def test_a_very_long_sentence_is_cut_around_its_first_error(tmp_path: Path) -> None:
    words = tuple(f"w{i}" for i in range(3000))
    gold = [Sentence(words=words, tags=("O",) * 2500 + ("B-X",) + ("O",) * 499)]
    for string, tags in (("0000", ("O",) * 3000), ("1111", gold[0].tags or ())):
        write_run(tmp_path / string / "seed1", string, 1, {"dev": (gold, [tags])})
    (example,) = find_sentences(analyse(tmp_path)).shown
    for reading in example.readings:
        seen = [word for piece in reading.pieces for word in piece.words]
        assert len(seen) == MOST_WORDS and seen[0] == "w2460" and "w2500" in seen
    assert example.cut == 2800 and [reading.right for reading in example.readings] == [True, False]


def test_pngs_are_the_figures_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("resvg_py", reason="the optional extra `plots` is not installed")
    image = pytest.importorskip("matplotlib.image")
    sweep = write_sweep(tmp_path / "$s$", {"0000": 0.5, "1111": 0.2}, (1,), size=10)
    write_oneshot(sweep, {"0000": 0.2, "1111": 0.3})
    write_influence(sweep / "1111" / "seed1", Influence(layers=(0.1,), positions=1, sentences=1))
    png = tmp_path / "png"
    assert main(["report", str(sweep), "--png", str(png)]) == 0
    keys = ["cost", "curves", "influence", "oneshot", "scatter", "scores", "types"]
    assert sorted(path.name for path in png.iterdir()) == [f"{key}.png" for key in keys]
    pixels = (255 * image.imread(png / "scores.png")[..., :3]).round().astype(int)
    assert pixels.shape[1] == 3 * 440 and pixels[0, 0].tolist() == [0xFD, 0xFD, 0xFC]
    for name, colour in (("accent", [0x0B, 0x5C, 0xAD]), ("ink", [0x1C, 0x1C, 0x1C])):
        assert (pixels == colour).all(axis=-1).sum() > 100, name
    # A figure that differs by a word differs: text is drawn.
    (chart, *_), _ = charts(analyse(sweep))
    write_pngs([replace(chart, title="Another\x1b\u202e")], tmp_path / "other")
    assert (tmp_path / "other" / "scores.png").read_bytes() != (png / "scores.png").read_bytes()
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    refused(capsys, ["report", str(sweep), "--png", str(png)], "resvg_py", "'.[plots]'")


def test_runs_that_found_nothing(tmp_path: Path) -> None:
    """All scores 0, without an interval or a spread to draw."""
    gold = sentences(5, 1)
    nothing = [("O",) * len(sentence.words) for sentence in gold]
    for string in ("0000", "0011"):
        write_run(tmp_path / string / "seed1", string, 1, {"dev": (gold, nothing)})
    assert main(["report", str(tmp_path)]) == 0
    found = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert found.elements["svg"] >= 3 and "nan" not in found.text.lower()


def test_places_that_cannot_be_written_to(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    refused(capsys, ["report", str(tmp_path / "none")], "no such folder")
    refused(capsys, ["report", str(sweep), "--output", str(tmp_path)], "expected a file")
    target = str(tmp_path / "file" / "x.html")
    refused(capsys, ["report", str(sweep), "--output", target], "cannot be written")


def test_no_axis_of_percent_goes_beyond_a_hundred() -> None:
    assert ticks(100.0, 100.0, limit=100.0)[-1] == 100.0
    assert ticks(99.99, 100.0, limit=100.0)[-1] == 100.0
    assert ticks(99.5, 99.5, limit=100.0)[0] <= 99.0


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1), (39.2, 99.8), (99.0, 99.001), (0, 0), (82.5, 82.5), (117, 141), (3, 123456)],
)
def test_ticks_are_few_round_and_enclose(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found[0] <= low + 1e-6 and found[-1] >= high - 1e-6 and 2 <= len(found) <= 7
    steps = {round(b - a, 9) for a, b in pairwise(found)}
    assert len(steps) == 1 and min(steps) > 1e-5
    assert re.fullmatch(r"(1|2|2\.5|5)0*", f"{steps.pop():.9e}".split("e")[0].rstrip("0.") or "1")
