"""The report in a real browser: no console messages, filters that filter, no page that overflows.

A page of ours holds the report in a frame, so that its script can use it as a reader would and
choose its width; a window of Chromium cannot be as narrow as a phone.
"""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lmsl.data.tags.decode import Decoded
from lmsl.data.tags.sentence import Sentence, Span
from lmsl.report.answers import AnswerSample, answers_page
from lmsl.report.one_run import run_page
from lmsl.report.sentences import find_sentences
from lmsl.run_directory.influence import Influence, RightAttention, write_influence
from lmsl.statistics.analysis import analyse
from tests.report.test_one_run import CALIBRATION, UNSEEN
from tests.run_directory.test_folder import INFO_OF_A_RUN
from tests.search.sweep_tools import (
    html_of,
    noisy,
    sentences,
    write_oneshot,
    write_run,
    write_sweep,
)

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

TYPES = ("LOC", 'P"E<R', "\u0639\u0631\u0628\u064a")
SCRIPT = """
const frame = document.querySelector("iframe"), result = {};
const until = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
function look() {
  const page = frame.contentDocument, root = page.documentElement;
  const items = [...page.querySelectorAll("#list > li")];
  return {
    width: frame.contentWindow.innerWidth, overflow: root.scrollWidth - root.clientWidth,
    keys: items.filter((item) => item.offsetParent !== null).map((item) => item.dataset.e),
    text: page.getElementById("shown").textContent,
    none: !page.getElementById("none").hidden, more: !page.getElementById("more").hidden,
    back: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
  };
}
async function widths() {
  const page = frame.contentDocument;
  page.querySelectorAll("details").forEach((each) => { each.open = true; });
  result.overflow = {};
  for (const width of [1280, 900, 400]) {
    frame.style.width = `${width}px`;
    await until(20);
    const root = page.documentElement;
    result.overflow[width] = root.scrollWidth - root.clientWidth;
    // Letters of figures grow and shrink with them.
    result[`letters${width}`] = [...page.querySelectorAll("figure svg")].map(
      (each) => 11 * each.getBoundingClientRect().width / each.viewBox.baseVal.width);
  }
}
function choose(name, value) {
  const field = frame.contentDocument.querySelector(`select[name=${name}]`);
  field.value = value;
  field.dispatchEvent(new Event("change", { bubbles: true }));
}
"""
USE = """
async function use() {
  const page = frame.contentDocument;
  result.wide = look();
  page.getElementById("more").click();
  result.more = look();
  result.focus = page.activeElement.tagName;
  result.kinds = [];
  for (let kind = 0; kind < 5; kind += 1) {
    choose("kind", String(kind));
    result.kinds.push(look());
  }
  choose("kind", "0"); choose("type", "1"); choose("model", "1");
  result.three = look();
  page.querySelector("button[type=reset]").click();
  await until(20);
  result.reset = look();
  frame.style.width = "390px";
  await until(20);
  result.narrow = look();
  result.scrolls = [...page.querySelectorAll(".scroll")].map(
    (box) => box.scrollWidth > box.clientWidth);
  const fields = [...page.querySelectorAll("select")];
  result.unnamed = fields.filter((field) => field.labels.length !== 1).length;
  result.figures = [...page.querySelectorAll("figure")].filter(
    (figure) => figure.querySelector("svg").getBoundingClientRect().width > 300).map(
    (figure) => figure.id);
  const reach = [...page.querySelectorAll("a[href], select, button, .scroll")];
  result.stuck = reach.filter((each) => {
    if (each.offsetParent === null) return false;
    each.focus();
    return page.activeElement !== each;
  }).length;
}
"""
END = """
frame.addEventListener("load", () => use().catch((error) => { result.error = String(error); })
  .finally(() => { document.body.innerHTML = "";
    document.body.appendChild(document.createElement("pre")).textContent =
      JSON.stringify(result); }));
"""


def browse(report: str, folder: Path, *flags: str, use: str = USE) -> dict[str, Any]:
    """What the script found in the report, and what Chromium wrote to its console."""
    frame = f'<iframe style="width: 1280px; height: 800px" srcdoc="{html.escape(report)}">'
    script = f"<script>{SCRIPT}{use}{END}</script>"
    wrapper = f"<!doctype html><meta charset=utf-8><body>{frame}</iframe>{script}"
    (folder / "frame.html").write_text(wrapper, encoding="utf-8")
    assert BROWSER is not None
    command = [
        *(BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        *("--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom"),
        *(f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000", *flags),
        (folder / "frame.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=240)
    found = re.search(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    assert found is not None, done.stderr
    result: dict[str, Any] = json.loads(html.unescape(found[1]))
    result["console"] = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return result


ANSWERS = """
async function use() {
  const page = frame.contentDocument, bound = page.querySelector("input[name=below]");
  const numbers = () => [...page.querySelectorAll("#list > li")].filter(
    (item) => item.offsetParent !== null).map((item) => item.value);
  const below = (value) => {
    bound.value = value;
    bound.dispatchEvent(new Event("change", { bubbles: true }));
  };
  result.all = numbers();
  below("0.5");
  result.below = numbers();
  choose("type", "1");
  result.both = numbers();
  below("");
  result.type = numbers();
  choose("type", "");
  choose("order", "score");
  result.sorted = numbers();
  page.querySelector("button[type=reset]").click();
  await until(20);
  result.reset = numbers();
  await widths();
}
"""
WIDTHS = """
async function use() { await widths(); }
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """A page, and the keys of its sentences."""
    shares = {"0000": 0.6, "0011": 0.2, "1111": 0.3}
    folder = tmp_path_factory.mktemp("browser") / "sweep"
    write_sweep(folder, shares, (1, 2), size=120, types=TYPES)
    write_oneshot(folder, {**shares, "0101": 0.3})
    for number, run in enumerate(sorted(folder.glob("*/seed*"))):
        layers = tuple(0.1 * number * layer for layer in range(8))
        write_influence(run, Influence(layers=layers, positions=9, sentences=3))
    return html_of(folder), [example.keys for example in find_sentences(analyse(folder)).shown]


def with_error(keys: list[str], model: str = r"\d", kind: str = r"\d", type_: str = r"\d") -> list:
    wanted = re.compile(rf"{model}\.{kind}\.{type_}")
    return [each for each in keys if any(wanted.fullmatch(key) for key in each.split())]


def test_a_reader_uses_the_page(report: tuple[str, list[str]], tmp_path: Path) -> None:
    text, keys = report
    assert len(keys) > 80
    found = browse(text, tmp_path, "--blink-settings=preferredColorScheme=1")
    assert found["console"] == [] and "error" not in found
    wide, narrow = found["wide"], found["narrow"]
    assert (wide["width"], narrow["width"]) == (1280, 390)
    assert wide["overflow"] == narrow["overflow"] == 0
    assert any(found["scrolls"]) and brightness(wide["back"]) > 240
    assert wide["keys"] == keys[:40] and wide["more"]
    assert wide["text"] == f"{len(keys)} sentences, the first 40 shown"
    assert found["more"]["keys"] == keys[:80] and found["focus"] == "LI"
    for kind, seen in enumerate(found["kinds"]):
        fitting = with_error(keys, kind=str(kind))
        assert fitting and len(fitting) < len(keys)
        assert seen["keys"] == fitting[:40] and not seen["none"]
        assert seen["text"].startswith(f"{len(fitting)} of {len(keys)} sentences")
    three = with_error(keys, "1", "0", "1")
    assert found["three"]["keys"] == three[:40] and found["three"]["none"] == (not three)
    assert found["reset"]["keys"] == keys[:40] and found["reset"]["text"] == wide["text"]
    assert found["unnamed"] == found["stuck"] == 0
    expected = ["scores", "scatter", "types", "curves", "influence", "cost", "oneshot"]
    assert found["figures"] == expected


def test_dark_follows_the_system(report: tuple[str, list[str]], tmp_path: Path) -> None:
    found = browse(report[0], tmp_path, "--blink-settings=preferredColorScheme=0")
    assert found["console"] == [] and brightness(found["wide"]["back"]) < 50


def test_the_page_of_a_run_fits_every_width(tmp_path: Path) -> None:
    # The first is what entities are most often taken for, so that the verdict names it.
    kinds = ("a" * 10_000, *(f"a_rather_long_type_{number}" for number in range(40)))
    gold = sentences(200, 1, kinds)
    splits = {
        "dev": (gold[:9], noisy(gold[:9], 0.5, (1,))),
        "test": (gold, noisy(gold, 0.5, (2,))),
    }
    run = write_run(tmp_path / "run", "0011", 1, splits)
    document = json.loads((run / "metrics.json").read_text())
    document["test"] |= {"calibration": CALIBRATION, "unseen": UNSEEN}
    (run / "metrics.json").write_text(json.dumps(document))
    heads = RightAttention(heads=((0.0, 0.0), (0.4, 0.6)), even=(0.0, 0.5))
    write_influence(run, Influence(layers=(0.0, 0.3), positions=1, sentences=1, attention=heads))
    found = browse(run_page(run)[0], tmp_path, use=WIDTHS)
    assert found["console"] == [] and "error" not in found
    assert found["overflow"] == {"1280": 0, "900": 0, "400": 0}
    for width, low in (("1280", 10), ("900", 10), ("400", 8)):
        assert len(found[f"letters{width}"]) == 4
        assert low < min(found[f"letters{width}"]) <= max(found[f"letters{width}"]) < 15, width


def test_a_reader_uses_the_page_of_predictions(tmp_path: Path) -> None:
    sample = AnswerSample(plain=False)
    scores = [(0.9, "B"), (0.2, "A"), (0.6, "A"), (0.4, "B"), (None, "A")]
    for score, kind in scores:
        words = ("word", "x" * 300)
        found = Decoded(tags=(), spans=(Span(start=0, end=1, type=kind),), scores=(score,))
        sample.add([Sentence(words=words, tags=None)], [found])
    sample.add([Sentence(words=("none",), tags=None)], [Decoded(tags=(), spans=(), scores=())])
    page = answers_page(sample, INFO_OF_A_RUN, source="-", whole=True)
    found = browse(page, tmp_path, use=ANSWERS)
    assert found["console"] == [] and "error" not in found
    assert found["all"] == found["reset"] == [1, 2, 3, 4, 5, 6]
    assert found["below"] == [2, 4] and found["both"] == [4] and found["type"] == [1, 4]
    assert found["sorted"] == [2, 4, 3, 1, 5, 6]
    assert found["overflow"] == {"1280": 0, "900": 0, "400": 0}


def brightness(colour: str) -> float:
    """The mean of the three numbers of ``rgb(...)``."""
    red, green, blue = map(int, re.findall(r"\d+", colour))
    return (red + green + blue) / 3
