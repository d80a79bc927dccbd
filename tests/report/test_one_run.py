"""The page of one run: what it counts, what it says where something is missing or hostile."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmsl.cli import main
from lmsl.config.choices import Generation
from lmsl.data.tags.sentence import Sentence
from lmsl.data.tags.vocabulary import LabelSet
from lmsl.report.confusion import MOST, confusion_of
from lmsl.report.one_run import run_page
from lmsl.report.run_tables import kind_table, kinds_by_type, type_table
from lmsl.report.tally import tally_of
from lmsl.run_directory.influence import Influence, RightAttention, write_influence
from lmsl.run_directory.info import read_info
from lmsl.statistics.one_run import read_one
from tests.report.test_report import HOSTILE, Page
from tests.search.sweep_tools import noisy, sentences, write_run
from tests.small_runs import fresh_process, refused

BIN = {"low": 0.9, "high": 1.0, "count": 8, "confidence": 0.95, "correct": 0.75}
EMPTY = {"low": 0.0, "high": 0.9, "count": 0, "confidence": None, "correct": None}
CALIBRATION = {"temperature": 1.5, "ece": 0.2, "ece_uncalibrated": 0.3, "bins": [EMPTY, BIN]}
UNSEEN = {
    "seen": {"gold": 10, "predicted": 12, "correct": 9},
    "other_type": {"gold": 0, "predicted": 1, "correct": 0},
    "unseen": {"gold": 4, "predicted": 4, "correct": 1},
}


def run_of(
    folder: Path, gold: Sequence[Sentence], tags: Sequence[Sequence[str]], **extra: Any
) -> Path:
    """A run with these predictions on test, and with none on dev."""
    dev = sentences(3, 5)
    splits = {"dev": (dev, [s.tags or () for s in dev]), "test": (gold, tags)}
    return write_run(folder, "0011", 1, splits, **extra)


def simple(folder: Path, gold: str, predicted: str) -> Path:
    words = tuple(f"w{place}" for place in range(len(gold.split())))
    return run_of(
        folder, [Sentence(words=words, tags=tuple(gold.split()))], [tuple(predicted.split())]
    )


def changed(run: Path, split: str, **values: Any) -> Path:
    path = run / "metrics.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document[split] |= values
    path.write_text(json.dumps(document), encoding="utf-8")
    return run


def text_of(run: Path) -> str:
    return " ".join(Page(run_page(run)[0]).text.split())


@pytest.fixture(scope="module")
def noisy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    gold = sentences(60, 2, ("LOC", "PER", "ORG"))
    run = run_of(tmp_path_factory.mktemp("runs") / "my run", gold, noisy(gold, 0.5, (3,)))
    return changed(run, "test", unseen=UNSEEN, calibration=CALIBRATION)


def test_the_command_writes_a_page_and_prints_the_verdict(
    noisy_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(noisy_run)]) == 0
    said = capsys.readouterr().out.splitlines()
    html = (noisy_run / "report.html").read_text(encoding="utf-8")
    found = Page(html)
    metrics = json.loads((noisy_run / "metrics.json").read_text())["test"]
    assert said[0].startswith(f"0011, seed 1, on test: F1 {100 * metrics['f1']:.2f}, precision")
    assert 4 < len(said) < 10
    for line in said:
        assert line in found.text
    assert found.elements["script"] == found.elements["style"] == 1
    assert not found.elements.keys() & {"link", "img", "iframe", "object", "base"}
    assert "default-src 'none'" in html and "url(" not in html
    # Loss is not in the log, influence was not recorded.
    assert [value for name, value in found.attributes if name == "id" and value == "curves"]
    assert "Training loss: the run kept no log" in found.text
    assert "lmsl probe RUN --save adds it" in found.text


def test_a_report_needs_no_torch(noisy_run: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from lmsl.cli import main; main(sys.argv[1:]); "
        "assert not {'torch', 'transformers'} & sys.modules.keys()"
    )
    fresh_process(code, "report", str(noisy_run), "--output", str(tmp_path / "x.html"))


def test_kinds_add_up_and_types_stand_in_order(noisy_run: Path) -> None:
    one = read_one(noisy_run)
    tally = tally_of(one)
    assert tally is not None
    kinds, metrics = tally.by_kind, one.metrics
    assert kinds["right"] == metrics["correct"]
    assert kinds.total() - kinds["spurious"] == metrics["gold"] == tally.gold.total()
    assert kinds.total() - kinds["missed"] == metrics["predicted"] == tally.predicted.total()
    table = kind_table(tally)
    assert [row[0] for row in table.rows] == [
        *("right", "wrong boundary", "wrong type", "wrong type and boundary"),
        *("missed", "spurious"),
    ]
    by_type = kinds_by_type(tally).rows
    errors = [tally.errors(row[0]) for row in by_type]
    assert errors == sorted(errors, reverse=True) and sum(errors) == kinds.total() - kinds["right"]
    scores = [float(row[-1]) for row in type_table(one).rows]
    assert len(scores) == 3 and scores == sorted(scores)


def test_types_with_few_gold_entities_do_not_hide_the_weak_ones(tmp_path: Path) -> None:
    gold = "B-A " * 12 + "B-B " * 30 + "B-C"
    predicted = "B-A " * 6 + "O " * 6 + "B-B " * 30 + "O"
    table = type_table(read_one(simple(tmp_path / "run", gold, predicted)))
    assert [row[0] for row in table.rows] == ["A", "B"] and [r[0] for r in table.folded] == ["C"]
    assert table.fold == "1 with fewer than 10 in gold"


def test_confusion_has_missed_and_spurious(tmp_path: Path) -> None:
    run = simple(tmp_path / "run", "B-X I-X O B-Y O B-Y O O", "B-Y O O B-Y O O O B-X")
    tally = tally_of(read_one(run))
    assert tally is not None
    found = confusion_of(tally, plain=False)
    assert found is not None and found.heads == ("Y", "X", "missed")
    rows = {row.name: [box and box.count for box in row.boxes] for row in found.rows}
    assert rows == {"Y": [1, 0, 1], "X": [1, 0, 0], "spurious": [0, 1, None]}
    assert [row.gold for row in found.rows] == [2, 1, None]
    assert found.rows[0].boxes[0] and found.rows[0].boxes[0].right


@pytest.mark.parametrize("kinds", [1, MOST, MOST + 1, MOST + 2, 60])
def test_many_types_are_folded(kinds: int, tmp_path: Path) -> None:
    names = [f"T{number:02}" for number in range(kinds)]
    gold = " ".join(f"B-{name}" for place, name in enumerate(names) for _ in range(kinds - place))
    guess = " ".join(f"B-{names[(names.index(tag[2:]) + 1) % kinds]}" for tag in gold.split())
    run = simple(tmp_path / "run", gold, guess)
    tally = tally_of(read_one(run))
    assert tally is not None
    found = confusion_of(tally, plain=False)
    assert found is not None
    folded = kinds - MOST if kinds > MOST + 1 else 0
    assert found.folded == folded and len(found.heads) == kinds - folded + bool(folded) + 1
    whole = sum(box.count for row in found.rows for box in row.boxes if box)
    assert whole == len(gold.split())
    if folded:
        other = found.rows[MOST]
        assert other.name == f"{folded} other types" and other.boxes[MOST]
        assert other.boxes[MOST].count == other.boxes[MOST].of_them_wrong > 0
    assert f"T{kinds - 1:02}" in text_of(run)


def test_what_train_showed_and_how_sure_it_is(noisy_run: Path) -> None:
    text = text_of(noisy_run)
    assert "with this type in train 10 9 90.00 12 75.00 81.82" in text
    assert "in train with other types only 0 0 \u2013 1 0.00 0.00" in text
    assert "Expected calibration error 20.0 points" in text and "temperature of 1.50" in text
    assert "0.90 to 1.00: 8 predicted, mean probability 0.950, 0.750 of them right" in text


def test_older_runs_say_how_to_get_what_they_lack(tmp_path: Path) -> None:
    text = text_of(simple(tmp_path / "run", "B-X O", "B-X O"))
    assert "did not compare its data with train" in text
    assert "Calibration: metrics.json holds none for test" in text
    assert "lmsl train --config RUN/config.yaml" in text


def test_recall_alone_where_predictions_were_not_counted(tmp_path: Path) -> None:
    run = simple(tmp_path / "run", "B-X O", "B-X O")
    counts = {group: {"gold": 2, "correct": 1} for group in UNSEEN}
    assert "not in train 2 1 50.00 \u2013 \u2013 \u2013" in text_of(
        changed(run, "test", unseen=counts)
    )


@pytest.mark.parametrize(
    ("split", "values", "place"),
    [
        ("test", {"unseen": {"seen": 3}}, "test: unseen"),
        ("test", {"unseen": {g: {"gold": -1, "correct": 0} for g in UNSEEN}}, "test: unseen"),
        ("test", {"calibration": []}, "test: calibration"),
        ("test", {"calibration": {**CALIBRATION, "ece": "x"}}, "test: calibration"),
        ("test", {"calibration": {**CALIBRATION, "bins": [{**BIN, "high": 0.1}]}}, "calibration"),
        ("test", {"generation": {"answers": None}}, "test: generation"),
        ("test", {"f1": None}, "test: expected"),
        ("dev", {"gold": 1.5}, "dev: expected"),
        ("test", {"per_type": {"X": {}}}, "test: expected"),
        ("test", {"correct": 0}, "the two files are not of one run"),
    ],
)
def test_damaged_metrics_are_refused(
    split: str,
    values: dict[str, Any],
    place: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = changed(simple(tmp_path / "run", "B-X O", "B-X O"), split, **values)
    refused(capsys, ["report", str(run)], place)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("predictions.test.conll", "w0\tB-X\n", "test.conll:1: expected word, gold tag"),
        ("predictions.test.conll", "w0\tB-X\tZ-X\nw1\tO\tO\n\n", "got tag 'Z-X'"),
        ("predictions.test.conll", "w0\tO\tO\n", "the two files are not of one run"),
        ("predictions.test.conll", "\x00", "found NUL bytes"),
        ("metrics.json", "{", "metrics.json"),
        ("metrics.json", '{"train_seconds": 1}', "expected scores on dev or test"),
        ("log.jsonl", '{"step": 1, "dev": 3}', "log.jsonl:1: not a line of a log"),
        ("log.jsonl", '{"step": 1, "loss": ["a"]}', "log.jsonl:1: not a line of a log"),
        ("config.yaml", "[1]", "expected the settings of a run"),
        ("influence.json", "{}", "expected the influence"),
        ("lmsl.json", "{}", "not a description of a run"),
    ],
)
def test_damaged_files_are_refused_in_one_line(
    name: str,
    content: str,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = simple(tmp_path / "run", "B-X O", "B-X O")
    (run / name).write_text(content, encoding="utf-8")
    refused(capsys, ["report", str(run)], words)


def test_a_run_without_predictions_has_what_its_metrics_say(tmp_path: Path) -> None:
    run = simple(tmp_path / "run", "B-X O", "B-X O")
    (run / "predictions.test.conll").unlink()
    text = text_of(run)
    assert "lmsl evaluate RUN FILE --predictions" in text and "F1 100.00" in text
    assert "Kinds of errors" not in text


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        ("", "", "There are no entities"),
        ("O O", "O O", "There are no entities"),
        ("O O", "B-X O", "Of 0 gold entities 0 are right"),
        ("B-X O", "O O", "1 missed"),
        ("B-X O", "B-X O", "0 of 1 sentences of test"),
    ],
    ids=["no sentence", "no entity", "none in gold", "none found", "no error"],
)
def test_little_to_show(gold: str, predicted: str, expected: str, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", [], []) if not gold else None
    text = text_of(run or simple(tmp_path / "other", gold, predicted))
    assert expected in text and "nan" not in text.lower()


def test_gold_entities_that_no_tag_shows_count_as_missed(tmp_path: Path) -> None:
    gold = [Sentence(words=("a", "b"), tags=("B-X", "O"), missed=("Y", "Y"))]
    run = run_of(tmp_path / "run", gold, [("B-X", "O")])
    tally = tally_of(read_one(run))
    assert tally is not None and tally.kinds == {("right", "X"): 1, ("missed", "Y"): 2}
    assert "2 gold entities that no tag shows" in text_of(run)


def test_hostile_text_is_shown_and_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    types = ("<script>alert(2)</script>", "A\u202eB\u2067", "\x1b[31mred", "y" * 10_000)
    words = (*HOSTILE, "z" * 10_000)
    tags = tuple(f"B-{kind}" for kind in types) * 3
    gold = [Sentence(words=words, tags=tags[: len(words)])] * 30
    guess = [tuple(f"B-{types[(types.index(t[2:]) + 1) % 4]}" for t in tags[: len(words)])] * 30
    folder = tmp_path / "<b>run\u202e"
    labels = LabelSet(("O", *(f"{p}-{kind}" for kind in types for p in "BI")))
    run = run_of(folder, gold, guess, labels=labels)
    assert main(["report", str(run)]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\u202e" not in said and "taken for A\ufffdB\ufffd" in said
    html = (run / "report.html").read_text(encoding="utf-8")
    found = Page(html)
    assert found.elements["script"] == 1 and not found.elements.keys() & {"b", "img"}
    assert not {"\x1b", "\u202e", "\u2067"} & set(html)
    assert "y" * 100 not in html and "z" * 100 not in html and "A\ufffdB\ufffd" in found.text
    assert "<script>alert(2)</script>" in found.text and len(html) < 1_000_000


def test_plain_tags_have_confusions_of_words(tmp_path: Path) -> None:
    labels = LabelSet(("DT", "NN", "VB"), plain=True)
    gold = [Sentence(words=("the", "run", "ran"), tags=("DT", "NN", "VB"))] * 12
    dev = {"dev": (gold, [("DT", "VB", "VB")] * 12)}
    run = write_run(tmp_path / "run", "0011", 1, dev, plain=True, labels=labels)
    text = text_of(changed(run, "dev", unseen=UNSEEN))
    assert "0011, seed 1, on dev: accuracy 66.67 of 36 words" in text
    assert "NN taken for VB (12)" in text and "Of 36 words 12 have another tag" in text
    assert "VB 12 12 0 0 DT 12 0 12 0 NN 12 12 0 0" in text and "missed" not in text
    assert "SemEval" not in text and "this run predicts plain tags" in text
    assert "Words that train has shown" in text


def test_runs_that_write_answers(tmp_path: Path) -> None:
    run = simple(tmp_path / "run", "B-X O", "B-X O")
    info = replace(
        read_info(run),
        task="generate",
        generation=Generation(
            **{"prompt": "default", "opening": "", "before": "", "after": "", "closing": ""},
            **{
                "names": ("LOC", "PER", "X"),
                "decoding": "greedy",
                "temperature": 1.0,
                "top_p": 1.0,
            },
        ),
    )
    (run / "lmsl.json").write_text(info.to_json(), encoding="utf-8")
    answers = {"answers": 4, "unparsable": 1, "truncated": 0, "spans": 10, "hallucinated": 3}
    text = text_of(changed(run, "test", generation=answers))
    assert "unparsable 1 25.0 % of answers" in text and "hallucinated 3 30.0 % of spans" in text
    assert "gives them no probability" in text and "writes its answers" in text
    assert "sees nothing to the right" in text


def test_figures_of_a_run(tmp_path: Path) -> None:
    run = simple(tmp_path / "run", "B-X O", "B-X O")
    losses = [json.dumps({"step": step, "loss": [1 / step]}) for step in range(1, 91)]
    log = (run / "log.jsonl").read_text(encoding="utf-8")
    (run / "log.jsonl").write_text("\n".join(losses) + "\n" + log, encoding="utf-8")
    heads = RightAttention(heads=((0.0, 0.0), (0.4, 0.6)), even=(0.0, 0.5))
    write_influence(run, Influence(layers=(0.0, 0.3), positions=1, sentences=1, attention=heads))
    html, _, charts = run_page(changed(run, "test", calibration=CALIBRATION))
    assert [chart.key for chart in charts] == [
        *("loss", "curves", "influence", "attention", "reliability")
    ]
    assert Counter(Page(html).elements)["figure"] == 5 and "What is not here" not in html


def test_a_causal_run_has_no_attention_to_the_right(tmp_path: Path) -> None:
    run = simple(tmp_path / "run", "B-X O", "B-X O")
    heads = RightAttention(heads=((0.0, 0.0),), even=(0.0,))
    write_influence(run, Influence(layers=(0.0,), positions=1, sentences=1, attention=heads))
    assert "0011 is causal, so that it is 0 in every head" in text_of(run)
