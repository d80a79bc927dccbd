"""The page of predictions: what it shows, that it is a fair sample, that it stays small."""

import io
import json
import re
import sys
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from lmsl.cli import main
from lmsl.data.tags.decode import Decoded
from lmsl.data.tags.sentence import Sentence, Span
from lmsl.data.tags.vocabulary import LabelSet
from lmsl.report.answers import HUES, MOST_LISTED, AnswerSample, answers_page
from lmsl.report.sentences import MOST_SENTENCES, MOST_WORDS
from tests.report.test_report import HOSTILE, Page
from tests.run_directory.test_folder import INFO_OF_A_RUN
from tests.small_runs import refused


def answer(words: tuple[str, ...], *spans: tuple[int, int, str, float | None]) -> Decoded:
    found = tuple(Span(start=start, end=end, type=kind) for start, end, kind, _ in spans)
    return Decoded(tags=("O",) * len(words), spans=found, scores=tuple(s for *_, s in spans))


def page_of(sample: AnswerSample, *, plain: bool = False, whole: bool = True) -> str:
    info = replace(INFO_OF_A_RUN, labels=LabelSet(("O", "B-X", "I-X"), plain=plain))
    return answers_page(sample, info, source="dir/file.txt", whole=whole)


def text_of(html: str) -> str:
    return " ".join(Page(html[html.index("<main>") : html.index("</main>")]).text.split())


def test_entities_stand_in_their_text_with_type_and_probability() -> None:
    text = "Ada met\tBabbage."
    first = Sentence(
        words=("Ada", "met", "Babbage", "."),
        tags=None,
        text=text,
        offsets=((0, 3), (4, 7), (8, 15), (15, 16)),
    )
    second = Sentence(words=("New", "York", "."), tags=None)
    sample = AnswerSample(plain=False)
    sample.add(
        [first, second],
        [
            answer(first.words, (2, 3, "PER", 0.25), (0, 1, "PER", 0.5)),
            answer(second.words, (0, 2, "LOC", None)),
        ],
    )
    html = page_of(sample)
    text = text_of(html)
    assert "Ada PER 0.50 met Babbage PER 0.25." in text and "New York LOC ." in text
    assert "PER 2 LOC 1" in text and "0 of 2 sentences have none" in text
    # By the order of types on the page: LOC, PER.
    assert re.findall(r'data-e="(.*?)"', html) == ["1.5000 1.2500", "0."]
    assert "read to its end" not in text and "read to its end" in page_of(sample, whole=False)


def test_a_stream_is_sampled_fairly_and_held_in_little_memory() -> None:
    sample = AnswerSample(plain=False)
    words = ("word",) * 30
    block = [Sentence(words=words, tags=None)] * 500
    found = [answer(words, (0, 2, "X", 0.5)), answer(words)] * 250
    tracemalloc.start()
    for _ in range(20):
        sample.add(block, found)
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(60):
        sample.add(block, found)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 200_000
    assert sample.sentences == 40_000 and sample.counts == {"X": 20_000}
    assert sample.empty == 20_000
    numbers = [kept.number for kept in sample.kept]
    assert len(numbers) == len(set(numbers)) == MOST_SENTENCES and numbers == sorted(numbers)
    # Of 300 drawn at random, quarters hold 75 each; 5 deviations of sqrt(300 * 3/16) are 37.
    quarters = Counter((number - 1) // 10_000 for number in numbers)
    assert all(abs(quarters[part] - 75) < 38 for part in range(4))
    text = text_of(page_of(sample))
    assert "300 of them are on this page, drawn at random" in text and "X 20,000" in text


def test_the_same_input_gives_the_same_page() -> None:
    pages = []
    for size in (7, 100):
        sample = AnswerSample(plain=False, most=20)
        every = [Sentence(words=(f"w{number}",), tags=None) for number in range(700)]
        for start in range(0, len(every), size):
            block = every[start : start + size]
            sample.add(block, [answer(each.words, (0, 1, "X", 0.5)) for each in block])
        pages.append(page_of(sample))
    assert pages[0] == pages[1]


def test_hostile_and_endless_text() -> None:
    words = (*HOSTILE, "\x1b[31m", "x" * 9_999) * 40
    kinds = ("<b>", "A\u202eB", "t" * 10_000)
    spans = [(place, place + 1, kinds[place % 3], 0.5) for place in range(len(words))]
    sample = AnswerSample(plain=False)
    sample.add([Sentence(words=words, tags=None)], [answer(words, *spans)])
    html = page_of(sample)
    found = Page(html)
    assert found.elements["script"] == 1 and not found.elements.keys() & {"img", "b"}
    assert not {"\x1b", "\u202e"} & set(html) and "A\ufffdB" in found.text
    assert len(html) < 200_000
    assert f"{len(words) - MOST_WORDS} more words are not shown" in " ".join(found.text.split())


def test_many_types_share_a_colour_and_the_legend_ends() -> None:
    kinds = [f"T{number:02}" for number in range(MOST_LISTED + 5)]
    words = ("w",) * len(kinds)
    spans = [(place, place + 1, kind, 0.5) for place, kind in enumerate(kinds)]
    sample = AnswerSample(plain=False)
    sample.add([Sentence(words=words, tags=None)], [answer(words, *spans)])
    html = page_of(sample)
    assert "5 rarer types are not listed" in text_of(html)
    assert html.count(f'class="mark t{HUES - 1}"') == 2 and f'class="mark t{HUES}"' not in html


def test_plain_tags_and_nothing_at_all() -> None:
    sample = AnswerSample(plain=True)
    assert "Nothing was found." in page_of(sample, plain=True)
    words = ("the", "run")
    sample.add([Sentence(words=words, tags=None)], [replace(answer(words), tags=("DT", "NN"))])
    sample.add([Sentence(words=(), tags=None)], [answer(())])
    html = page_of(sample, plain=True)
    assert "the DT run NN" in text_of(html) and 'name="below"' not in html


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("Stetol opened the harbour.\nAda sat.\n", ()),
        ("Stetol\nopened\n\nAda\nsat\n\n", ("--format", "columns")),
        ('{"text": "Stetol opened."}\n{"tokens": ["Ada", "sat"]}\n', ()),
    ],
    ids=["text", "columns", "json"],
)
def test_the_command_writes_it_beside_the_answers(
    text: str,
    flags: tuple[str, ...],
    talkative_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "in").write_text(text, encoding="utf-8")
    command = ["predict", str(talkative_run), "--device", "cpu", *flags]
    target = tmp_path / "page.html"
    assert main([*command, str(tmp_path / "in"), "--html", str(target)]) == 0
    answers = capsys.readouterr().out
    html = target.read_text(encoding="utf-8")
    assert "2 sentences" in text_of(html) and 'class="mark t0"' in html
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    page = ("--html", str(target)) if not flags else ()
    assert main([*command, *page]) == 0
    assert capsys.readouterr().out == answers
    assert ("standard input" in text_of(target.read_text(encoding="utf-8"))) == bool(page)


def test_what_precedes_a_bad_line_is_shown(
    talkative_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps({"text": "Ada sat."})] * 3
    (tmp_path / "in.jsonl").write_text("\n".join([*lines, "{"]), encoding="utf-8")
    target = tmp_path / "page.html"
    command = ["predict", str(talkative_run), str(tmp_path / "in.jsonl"), "--html", str(target)]
    assert main([*command, "--device", "cpu"]) == 2
    assert "in.jsonl:4" in capsys.readouterr().err
    text = text_of(target.read_text(encoding="utf-8"))
    assert "not read to its end" in text and "3 sentences" in text


def test_a_page_that_cannot_be_written_is_refused_before_the_work(
    talkative_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_text("Ada sat.\n", encoding="utf-8")
    command = ["predict", str(talkative_run), str(tmp_path / "in.txt"), "--html"]
    refused(capsys, [*command, str(tmp_path)], f"--html {tmp_path}: cannot be written")
    refused(capsys, [*command, str(tmp_path / "no" / "x.html")], "its folder is not there")
