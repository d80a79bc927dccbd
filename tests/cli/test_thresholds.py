"""``--threshold`` and ``--operating-points`` by the command line and from Python."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import lmsl
from lmsl.cli import main
from lmsl.data.tags.schemes import tag_spans
from lmsl.data.tags.thresholds import DEFAULT
from tests.small_runs import evaluated, refused, train, written

TEXT = "Ada Lovelace met Rome in New York\nBob Jersey\n\nNew Bob York from Ada ./O\n"


def predicted(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *flags: str
) -> list[dict[str, Any]]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    capsys.readouterr()
    assert main(["predict", str(run), "--device", "cpu", *flags]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def spans(lines: list[dict[str, Any]]) -> list[list[tuple[Any, ...]]]:
    keys = ("start", "end", "label", "score")
    return [[tuple(span[key] for key in keys) for span in line["spans"]] for line in lines]


def test_predict_answers_with_what_is_as_probable(
    doubtful_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {
        flag: predicted(
            doubtful_run, capsys, monkeypatch, *(["--threshold", flag] if flag else [])
        )
        for flag in ("", "0.001", "0.8", "1")
    }
    counts = {flag: sum(len(line["spans"]) for line in own) for flag, own in found.items()}
    assert counts["0.001"] > counts[""] > counts["0.8"] > counts["1"] == 0
    assert min(span[3] for line in spans(found["0.8"]) for span in line) >= 0.8
    labeler = lmsl.Labeler.load(doubtful_run, device="cpu")
    texts = TEXT.splitlines()
    for threshold in (0.001, 0.8):
        own = labeler.predict(texts, threshold=threshold)
        assert spans(found[str(threshold)]) == [
            [(e.start, e.end, e.label, round(e.score or 0, 6)) for e in each] for each in own
        ]
        words = [labeler.sentence(text).words for text in texts]
        tags = labeler.predict_tags(words, threshold=threshold)
        assert [[(e.start_word, e.end_word, e.label) for e in each] for each in own] == [
            [(span.start, span.end, span.type) for span in tag_spans(each)] for each in tags
        ]


def test_types_have_their_own(
    doubtful_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--threshold", "0.999", "LOC=0.001")
    own = spans(predicted(doubtful_run, capsys, monkeypatch, *flags))
    assert {span[2] for line in own for span in line} == {"LOC"}
    flags = ("--threshold", "PER=0.001")
    own = spans(predicted(doubtful_run, capsys, monkeypatch, *flags))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    main(["predict", str(doubtful_run), "--device", "cpu", *flags])
    assert f"threshold {DEFAULT} for LOC\n" in capsys.readouterr().err
    labeler = lmsl.Labeler.load(doubtful_run, device="cpu")
    texts = TEXT.splitlines()
    from_python = labeler.predict(texts, threshold={"PER": 0.001})
    assert [len(line) for line in own] == [len(line) for line in from_python]
    assert {e.label for each in from_python for e in each if e.score < DEFAULT} == {"PER"}


def test_a_threshold_gives_the_figures_that_are_printed_of_it(
    doubtful_run: Path, doubtful_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is fitted on dev is read off the JSON, put on the command line, and is so."""
    dev = doubtful_data / "dev.conll"
    capsys.readouterr()
    line = ["evaluate", str(doubtful_run), str(dev), "--device", "cpu"]
    assert main([*line, "--operating-points"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    points = document.pop("operating_points")
    assert document == evaluated(doubtful_run, dev, capsys), "nothing else changes"
    best = points["all"]["best_f1"]
    assert f"{100 * best['f1']:.2f} ({best['threshold']})" in captured.err
    assert "choose thresholds on dev and report what they give on test" in captured.err
    assert points["note"] in captured.err and list(points["per_type"]) == ["LOC", "PER"]
    seen = 0
    for asked in ("precision_at_recall", "recall_at_precision"):
        for point in filter(None, points["all"][asked].values()):
            flags = ("--threshold", str(point["threshold"]))
            given = evaluated(doubtful_run, dev, capsys, *flags)
            assert {name: given[name] for name in point if name != "threshold"} == {
                name: value for name, value in point.items() if name != "threshold"
            }
            seen += 1
    assert seen > 2
    labeler = lmsl.Labeler.load(doubtful_run, device="cpu")
    given = labeler.evaluate(dev, threshold=best["threshold"])
    assert given["f1"] == best["f1"] >= document["f1"]


def test_predictions_and_right_context_go_by_the_threshold(
    doubtful_run: Path, doubtful_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With no span above it nothing is left to change without the right context."""
    flags = ("--threshold", "1", "--right-context", "--predictions", str(tmp_path / "out"))
    document = evaluated(doubtful_run, doubtful_data / "dev.conll", capsys, *flags)
    assert document["predicted"] == document["right_context"]["changed"] == 0
    assert document["calibration"]["ece"] is None
    lines = (tmp_path / "out").read_text("utf-8").split("\n")
    assert {line.split("\t")[2] for line in lines if line} == {"O"}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["nothing"], "--threshold 'nothing': expected a number from 0.001 to 1, or TYPE=number"),
        (["0.5", "LOC="], "--threshold 'LOC=': expected a number"),
        (["0"], "--threshold '0': expected a number from 0.001 to 1, got 0.0"),
        (["LOC=1.5"], "--threshold 'LOC=1.5': expected a number from 0.001 to 1, got 1.5"),
        (["nan"], "expected a number from 0.001 to 1, got nan"),
        (["0.5", "0.6"], "--threshold '0.6': expected a number once, got it again"),
        (["LOC=0.5", "LOC=0.6"], "--threshold 'LOC=0.6': expected LOC once, got it again"),
        (["0.5", "loc=0.1"], "--threshold: expected types of this run (LOC, PER), got 'loc'"),
        (["=0.1"], "--threshold: expected types of this run (LOC, PER), got ''"),
    ],
)
def test_what_is_no_threshold_is_refused_before_a_model_is_loaded(
    flags: list[str], expected: str, doubtful_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in (
        ["predict", str(doubtful_run), "-"],
        ["evaluate", str(doubtful_run), "none.conll"],
    ):
        refused(capsys, [*line, "--threshold", *flags], expected)


def test_runs_without_probabilities_of_spans_have_no_thresholds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "a\tDT\ndog\tNN\n\na\tDT\ncat\tNN\n"
    data = written(tmp_path / "data", train=text, dev=text)
    run = train(data, tmp_path / "run", "--scheme", "plain", "--max-steps", "1")
    line = ["evaluate", str(run), str(data / "dev.conll")]
    refused(capsys, [*line, "--threshold", "0.5"], "finds spans, got plain tags")
    refused(capsys, [*line, "--operating-points"], "finds spans, got plain tags")
    labeler = lmsl.Labeler.load(run, device="cpu")
    with pytest.raises(lmsl.InputError, match="plain tags, which have no probabilities"):
        labeler.predict_tags([["a"]], threshold=0.5)


def test_they_ask_for_a_file(doubtful_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["evaluate", str(doubtful_run), "--perplexity", "some.txt"]
    refused(capsys, [*line, "--threshold", "0.5"], "--threshold: expected a file with tags")
    refused(capsys, [*line, "--operating-points"], "--operating-points: expected a file with tags")
