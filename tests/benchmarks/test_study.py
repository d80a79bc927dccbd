"""The study: what comes when, what is kept, and what is refused, with trainings made up."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks.study import __main__ as study
from benchmarks.study import cost, peer, training
from benchmarks.study.cells import BEST, OWN, Cell, at_an_end, best_rate, planned
from benchmarks.study.compare import against_reference, rows_of
from benchmarks.study.crf import features, shape, shortened
from benchmarks.study.material import Material, drawn, material
from benchmarks.study.records import append, duration, read_records, seconds_left
from benchmarks.study.systems import SYSTEMS, System, chosen, system_of
from benchmarks.study.table import training_seconds
from benchmarks.study.training import Failed, Work, command, reason_of, sane, seeing
from lmsl.data.read import read
from lmsl.data.tags.sentence import Sentence
from lmsl.errors import Terminated

SAME = {"updates": 150, "batch_size": 16, "sentences": 2400}
SENTENCES = 40
GOLD = [1] * SENTENCES
CRF = system_of("CRF")
FIRST, LOW, HIGH = system_of("0000").rates


def cell(system: str, lr: float | str = FIRST, seed: int = 1, data: str = "snips") -> Cell:
    return Cell(data=data, system=system, lr=lr, seed=seed)


def good(f1: float, correct: int = 20, seconds: float = 100.0) -> dict[str, Any]:
    """A record of a training that found entities in the first sentences."""
    found = [int(index < correct) for index in range(SENTENCES)]
    return {
        "status": "done",
        "config": SAME,
        "dev": {"f1": f1},
        "test": {"f1": 2 * correct / (SENTENCES + correct)},
        "test_units": {"gold": GOLD, "predicted": found, "correct": found, "beyond": 0},
        "seconds": seconds,
    }


def failed(reason: str = "exit status 1: full disk") -> dict[str, Any]:
    return {"status": "failed", "config": SAME, "reason": reason}


def plan(records: dict[Cell, Any], *names: str, **others: Any) -> list[Cell]:
    asked = {"seeds": (1, 2, 3), "leader_seeds": (4, 5)} | others
    return planned(chosen(names), asked.pop("datasets", ("snips", "wnut17")), records, **asked)


def tuned(system: str, best: float = LOW) -> dict[Cell, Any]:
    """The records of a system whose three rates were tried."""
    rates = system_of(system).rates
    return {cell(system, lr): good(0.9 if lr == best else 0.5) for lr in rates}


# ---- order and rates


def test_everybody_at_one_rate_comes_first() -> None:
    cells = plan({}, "0000", "CRF", "0011")
    assert cells[:3] == [cell("0000"), cell("0011"), cell("CRF", OWN)]
    assert cells[3:7] == [cell(n, lr) for lr in (LOW, HIGH) for n in ("0000", "0011")]
    # Seed 1 on snips is among those; the others wait for the rate. The CRF knows no seeds.
    assert cells[7] == cell("0000", BEST, 2) and not cells[7].ready
    assert [c for c in cells if c.system == "CRF"] == [
        cell("CRF", OWN),
        cell("CRF", OWN, data="wnut17"),
    ]
    assert len(cells) == 2 * (3 + 2 + 3) + 2
    snips = [place for place, one in enumerate(cells) if one.data == "snips"]
    assert snips == list(range(len(snips))), "one data set after the other"


def test_who_takes_hours_comes_behind_everybody() -> None:
    cells = plan({}, "0000", "generation", "CRF")
    late = [place for place, one in enumerate(cells) if one.system == "generation"]
    assert late == list(range(len(cells) - len(late), len(cells))) and len(late) == 2 * 3 + 2


def test_the_rate_is_that_of_dev_and_kept_for_other_data() -> None:
    records = tuned("0011", best=HIGH)
    assert best_rate(system_of("0011"), records) == HIGH
    later = [one for one in plan(records, "0011") if one not in records]
    assert {one.lr for one in later} == {HIGH} and len(later) == 2 + 3
    assert at_an_end(system_of("0011"), HIGH) and not at_an_end(system_of("0011"), FIRST)


def test_a_rate_that_failed_is_not_the_best_and_does_not_hold_the_others_up() -> None:
    records = tuned("0011") | {cell("0011", LOW): failed()}
    assert best_rate(system_of("0011"), records) == FIRST, "the first of two that are equal"
    records.pop(cell("0011", HIGH))
    assert best_rate(system_of("0011"), records) is None


def test_a_system_that_failed_at_every_rate_is_given_up() -> None:
    records = {cell("0011", lr): failed() for lr in system_of("0011").rates}
    assert all(one in records for one in plan(records, "0011"))


def test_leaders_get_more_seeds_when_all_are_done() -> None:
    names = ("0000", "0011", "1111", "0111", "0110")
    records: dict[Cell, Any] = {}
    for place, name in enumerate(names):
        records |= tuned(name)
        records |= {cell(name, LOW, seed): good(0.1 * place) for seed in (2, 3)}
    waiting = [one for one in plan(records, *names, datasets=("snips",)) if one not in records]
    # The reference, last on dev, is there as well; 0011 is neither.
    assert {one.system for one in waiting} == {"0000", "1111", "0111", "0110"}
    assert {one.seed for one in waiting} == {4, 5}
    records.pop(cell("0011", LOW, 3))
    waiting = [one for one in plan(records, *names, datasets=("snips",)) if one not in records]
    assert waiting == [cell("0011", LOW, 3)]


def test_filters_leave_the_rest_out() -> None:
    records = tuned("0000")
    cells = plan(records, "0000", datasets=("wnut17",), seeds=(2,), leader_seeds=())
    assert cells == [cell("0000", LOW, 2, "wnut17")]
    # Without the trainings that choose the rate it waits for them.
    assert not plan({}, "0000", datasets=("wnut17",), seeds=(2,), leader_seeds=())[0].ready


def test_what_train_py_cannot_do_is_skipped_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    ours = replace(system_of("0011"), needs=("unmask", "telepathy", "x_ray"))
    assert ours.lacking() == "needs --telepathy and --x-ray, which train.py lacks"
    assert replace(ours, needs=("unmask",)).lacking() is None
    assert planned([ours], ("snips",), {}, seeds=(1,), leader_seeds=()) == []


def test_names_are_told_apart() -> None:
    slugs = {training.slug(system.name) for system in SYSTEMS}
    assert len(slugs) == len(SYSTEMS), "folders of two systems are one"


# ---- records


def test_records_are_read_back_and_the_newest_wins(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "study.jsonl"
    assert read_records(path, SAME) == {}
    for f1 in (0.2, 0.4):
        append(path, {"cell": vars(cell("0000 é")), **good(f1)})
    append(path, {"cell": vars(cell("0011")), **good(0.1), "config": SAME | {"updates": 2}})
    found = read_records(path, SAME)
    assert list(found) == [cell("0000 é")] and found[cell("0000 é")]["dev"]["f1"] == 0.4


def test_a_line_that_was_cut_is_nothing_and_the_next_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    append(path, {"cell": vars(cell("0000")), **good(0.2)})
    with path.open("a") as file:
        file.write('{"cell": {"data": "sn')
    assert list(read_records(path, SAME)) == [cell("0000")]
    append(path, {"cell": vars(cell("0011")), **good(0.2)})
    assert list(read_records(path, SAME)) == [cell("0000"), cell("0011")]


@pytest.mark.parametrize("line", ["{}", "[]", "nonsense", '{"cell": {"colour": 1}}', ""])
def test_a_line_that_is_no_record_is_refused_by_its_number(line: str, tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    append(path, {"cell": vars(cell("0000")), **good(0.2)})
    with path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(training.InputError, match=r"study.jsonl:2: expected a record"):
        read_records(path, SAME)


def test_what_is_left_is_foretold_by_words_and_by_the_system() -> None:
    words = {"snips": 1000, "wnut17": 3000}
    assert seconds_left([cell("0000")], {}, words) is None
    records = {cell("0000"): good(0.1, seconds=100), cell("0011"): good(0.1, seconds=300)}
    records[cell("1111")] = failed()
    assert seconds_left([cell("0000", seed=2)], records, words) == 100
    assert seconds_left([cell("0000", data="wnut17")], records, words) == 300
    assert seconds_left([cell("middle", data="wnut17")], records, words) == 600
    assert duration(59 * 60) == "59 min" and duration(3 * 3600 + 61) == "3 h 01 min"


# ---- the loop


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Flags of a study on a data set of a few sentences."""
    for name in ("smollm2-135m", "minilm-l6"):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"num_hidden_layers": 30}')
    words = ["see Ada", "meet Bob Li now", "go to Rome", "see Rome"]
    tags = ["O B-per", "O B-per I-per O", "O O B-loc", "O B-loc"]
    for split, times in (("train", 6), ("valid", 2), ("test", 1)):
        folder = tmp_path / "data" / "snips" / split
        folder.mkdir(parents=True)
        (folder / "seq.in").write_text("\n".join(words * times) + "\n")
        (folder / "seq.out").write_text("\n".join(tags * times) + "\n")
    flags = {"models": "models", "data": "data", "scratch": "scratch", "record": "study.jsonl"}
    named = [part for flag, path in flags.items() for part in (f"--{flag}", str(tmp_path / path))]
    return [*named, "--datasets", "snips", "--sentences", "20", "--seeds", "1", "2"]


class Trainings:
    """Stands for real ones: notes who came, fails whom it is told to."""

    def __init__(self, *bad: Cell) -> None:
        self.bad, self.seen, self.anew = set(bad), list[Cell](), list[bool]()

    def __call__(
        self, one: Cell, system: System, found: Material, work: Work, *, anew: bool
    ) -> dict[str, Any]:
        self.seen.append(one)
        self.anew.append(anew)
        if one in self.bad:
            raise Failed("exit status 1: loss is not finite")
        return {key: value for key, value in good(0.5).items() if key not in ("config", "status")}


def test_cells_are_done_once_and_failed_ones_again_when_asked(
    folders: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*folders, "--systems", "0000", "CRF", "--leader-seeds", "3"]
    diverges = cell("0000", HIGH)
    first = Trainings(diverges)
    monkeypatch.setattr(study, "trained", first)
    assert study.main(asked) == 1, "one has failed"
    rates = [cell("0000"), cell("CRF", OWN), cell("0000", LOW), diverges]
    assert first.seen == [*rates, cell("0000", FIRST, 2), cell("0000", FIRST, 3)]
    said = capsys.readouterr().out
    assert "failed: exit status 1: loss is not finite" in said
    assert "3 cells left" in said and "by what such cells took" in said
    second = Trainings()
    monkeypatch.setattr(study, "trained", second)
    assert study.main(asked) == 1 and second.seen == []
    assert study.main([*asked, "--retry"]) == 0
    assert second.seen == [diverges] and second.anew == [True]
    assert study.main([*asked, "--list"]) == 0
    assert f"0000  5 of 5    {FIRST:g}" in capsys.readouterr().out.splitlines()


def test_who_stops_it_is_told_how_to_go_on(
    folders: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Terminated

    monkeypatch.setattr(study, "trained", stopped)
    assert study.main([*folders, "--systems", "CRF"]) == 143
    assert capsys.readouterr().out.endswith("stopped; cells that are done are kept\n")
    assert not Path(folders[folders.index("--record") + 1]).exists()


def test_a_record_says_what_was_trained_and_nothing_of_this_machine(
    folders: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(study, "trained", Trainings())
    assert study.main([*folders, "--systems", "CRF whole train", "CRF"]) == 0
    text = (tmp_path / "study.jsonl").read_text()
    part, whole = map(json.loads, text.splitlines())
    assert (part["config"]["trained_on"], whole["config"]["trained_on"]) == (20, 24)
    assert part["machine"]["versions"]["torch"] and "commit" in part["machine"]
    assert str(tmp_path) not in text


def test_refusals_are_one_line(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    inside = str(training.REPOSITORY / "scratch")
    for flags, expected in (
        (["--systems", "0010"], "--systems: expected some of 0000; 0011;"),
        (["--datasets", "conll"], "--datasets: expected some of snips"),
        (["--updates", "0"], "--updates: expected at least 1, got 0"),
        (["--scratch", inside], "expected a folder outside the repository"),
        (["--models", inside], "expected smollm2-135m in it, found none"),
        (["--data", inside], "expected snips with train, valid, test, found no train"),
        (["--table"], "expected cells that are done, found none"),
    ):
        assert study.main([*folders, *flags]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and expected in error and error.count("\n") == 1


# ---- one cell


def work_in(folder: Path) -> Work:
    return Work(models=folder / "models", scratch=folder, updates=3, batch_size=2, threads=1)


def test_the_command_has_the_flags_of_its_system(folders: list[str], tmp_path: Path) -> None:
    found = material("snips", tmp_path / "data", tmp_path, 4)
    assert found.gold == {"dev": 8, "test": 4} and found.words == 2 * 11 + 11 + found.words - 33
    asked = command(
        cell("0011 exit 20", LOW, 7), system_of("0011 exit 20"), found, work_in(tmp_path)
    )
    text = " ".join(asked)
    for part in ("train.py --unmask 0011", f"--lr {LOW}", "--exit-layer 20", "--seed 7"):
        assert part in text
    # Three updates of two sentences need two passes over four.
    assert "--max-steps 3 --epochs 2 --batch-size 2" in text
    assert asked[asked.index("--train") + 1] == str(found.part)
    whole = command(
        cell("CRF whole train", OWN), system_of("CRF whole train"), found, work_in(tmp_path)
    )
    assert whole[2:4] == ["benchmarks.study.peer", "crf"]
    assert whole[whole.index("--train") + 1] == str(found.whole)


def test_the_part_of_train_is_the_same_for_all_and_in_order() -> None:
    sentences = [Sentence(words=(str(number),), tags=("O",)) for number in range(100)]
    first = drawn(sentences, 10)
    assert first == drawn(sentences, 10) and len({one.words for one in first}) == 10
    assert first == sorted(first, key=lambda one: int(one.words[0]))
    assert drawn(sentences, 1000) == sentences


@pytest.mark.parametrize(
    ("line", "string"),
    [
        ("measured: none of the 30 layers sees to the right", "0000"),
        ("measured: layers 16-29 of 30 see to the right", "0011"),
        ("measured: layers 16-19 of 20 see to the right", "0011"),
        ("measured: layers 0-7, 23-29 of 30 see to the right", "1001"),
        ("measured: layers 10-19 of 30 see to the right", "middle"),
        ("measured: layers 0-29 of 30 see to the right", "1111"),
    ],
)
def test_the_layers_that_were_measured_are_those_of_the_string(line: str, string: str) -> None:
    assert line.startswith(seeing(f"noise\n  {line}\nmore", string, 30))
    with pytest.raises(Failed, match="expected layers"):
        seeing(line, "0101", 30)


def test_without_a_measurement_there_is_no_record() -> None:
    with pytest.raises(Failed, match="no line says"):
        seeing("attention by sdpa", "0000", 30)


def write_run(folder: Path, *, correct: int = 1, steps: int = 3, gold: int = 2) -> None:
    rates = {"f1": 0.5, "gold": gold, "predicted": 1, "correct": correct}
    scores = {**rates, "per_type": {"per": rates}}
    folder.mkdir(exist_ok=True)
    metrics = {"dev": scores, "test": scores, "train_seconds": 1.5}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    rows = "#\tO\tO\nAda\tB-per\tB-per\n\nBob\tB-per\tO\n\n"
    (folder / "predictions.test.conll").write_text(rows)
    log = "".join(json.dumps({"step": step, "loss": [1.0]}) + "\n" for step in range(1, steps + 1))
    (folder / "log.jsonl").write_text(log)


@pytest.fixture
def two_entities(folders: list[str], tmp_path: Path) -> Material:
    found = material("snips", tmp_path / "data", tmp_path, 4)
    return replace(found, gold={"dev": 2, "test": 2})


MEASURED = "measured: layers 16-29 of 30 see to the right"


def test_a_sane_run_has_its_counts_in_the_record(two_entities: Material, tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_run(run)
    found = sane(run, system_of("0011"), two_entities, work_in(tmp_path), MEASURED)
    units = {"gold": [1, 1], "predicted": [1, 0], "correct": [1, 0], "beyond": 0}
    assert found["test_units"] == units and found["made"] == 3
    assert found["dev"]["per_type"] == {"per": [2, 1, 1]} and found["train_seconds"] == 1.5


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"gold": 3}, "gold entities of dev: expected 2, got 3"),
        ({"steps": 2}, "updates: expected 3, got 2"),
        ({"correct": 0}, "its tags are not those that were scored"),
    ],
)
def test_a_run_that_is_another_gets_no_record(
    wrong: dict[str, int], expected: str, two_entities: Material, tmp_path: Path
) -> None:
    write_run(tmp_path / "run", **wrong)
    with pytest.raises(Failed, match=expected):
        sane(tmp_path / "run", system_of("0011"), two_entities, work_in(tmp_path), MEASURED)


@pytest.mark.parametrize("name", ["metrics.json", "predictions.test.conll", "log.jsonl"])
def test_a_run_that_lacks_a_file_has_failed(
    name: str, two_entities: Material, tmp_path: Path
) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    with pytest.raises(Failed, match="no figures"):
        sane(tmp_path / "run", system_of("0011"), two_entities, work_in(tmp_path), MEASURED)


def test_the_reason_of_a_failure_is_its_last_words() -> None:
    assert reason_of("one\ntwo \n\n", 2) == "exit status 2: two"
    assert reason_of("", -9) == "killed by signal 9: nothing was said"
    assert len(reason_of("x" * 9999, 1)) == 300


def test_who_is_asked_to_stop_asks_the_training_once_and_waits(tmp_path: Path) -> None:
    code = (
        "import pathlib, signal, sys, time\n"
        "place = pathlib.Path(sys.argv[1])\n"
        "def end(*_):\n"
        "    place.write_text(place.read_text() + 'asked'); time.sleep(0.3); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); place.write_text(''); time.sleep(60)\n"
    )
    place = tmp_path / "said"

    def stop(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGALRM, stop)
    try:
        asked = [sys.executable, "-c", code, str(place)]
        began = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        with pytest.raises(Terminated):
            training._run(asked, subprocess.DEVNULL, training.environment(1, shared=True))
        assert time.monotonic() - began < 30
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert place.read_text() == "asked"


# ---- peers


def test_features_of_words_are_their_own_and_their_neighbours() -> None:
    assert shape("Ulan-98é") == "Xxxx-ddx" and shortened(shape("Ulan-98é")) == "Xx-dx"
    assert shape("") == shortened("") == "" and shape("東京") == "xx"
    first, second = features(("Ada", "sees"))
    assert first["lower"] == "ada" and first["prefix 2"] == "ad" and first["suffix 4"] == "ada"
    assert first["+1 lower"] == "sees" and "-1 lower" not in first
    assert first["begins"] and not first["ends"]
    assert second["-1 shape"] == "Xx" and "+1 lower" not in second and second["ends"]
    assert features(()) == []


@pytest.mark.parametrize("name", ["crf", "spacy"])
def test_a_peer_that_is_not_installed_is_named(
    name: peer.Peer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module, package = peer.PACKAGES[name]
    monkeypatch.setitem(sys.modules, module, None)
    files = [part for split in ("train", "dev", "test") for part in (f"--{split}", "none")]
    assert peer.main([name, *files, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"expected the package {package}, found none" in error and error.count("\n") == 1


@pytest.mark.parametrize("name", ["CRF", pytest.param("spaCy", marks=pytest.mark.slow)])
def test_a_peer_is_trained_in_a_process_of_its_own(
    name: str, folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system = system_of(name)
    assert system.peer is not None
    pytest.importorskip(peer.PACKAGES[system.peer][0])
    assert study.main([*folders, "--systems", name, "--seeds", "1", "--leader-seeds"]) == 0
    (record,) = read_records(tmp_path / "study.jsonl", SAME | {"sentences": 20}).values()
    assert record["test"]["f1"] == 1.0 and record["test"]["gold"] == 4
    assert record["test"]["per_type"] == {"loc": [2, 2, 2], "per": [2, 2, 2]}
    assert record["test_units"]["correct"] == [1, 1, 1, 1]


# ---- the table


def many(*names: str, correct: Sequence[int]) -> dict[Cell, Any]:
    """Records of some systems whose rates were tried, with three seeds each."""
    found: dict[Cell, Any] = {}
    for name, right in zip(names, correct, strict=True):
        found |= tuned(name)
        for seed in (1, 2, 3):
            found[cell(name, LOW, seed)] = good(0.9, right + seed % 2)
    return found


def test_differences_are_paired_and_a_system_without_seeds_takes_part() -> None:
    records = many("0000", "0011", "1111", correct=(20, 35, 20))
    records[cell("CRF", OWN)] = good(0.3, 5)
    rows = rows_of(chosen(("0000", "0011", "1111", "CRF")), "snips", records)
    assert [row.system.name for row in rows] == ["0000", "0011", "1111", "CRF"]
    found, seeds = against_reference(rows)
    assert seeds == [1, 2, 3] and set(found) == {"0011", "1111", "CRF"}
    means = {row.system.name: row.mean for row in rows}
    assert found["0011"].value == pytest.approx(means["0011"] - means["0000"])
    assert found["0011"].p < 0.05 and found["0011"].low is not None and found["0011"].low > 0
    assert found["1111"].value == 0 and found["1111"].p == 1
    assert found["CRF"].value < 0 and found["CRF"].p < 0.05


def test_there_is_no_test_with_one_seed_or_without_the_reference() -> None:
    records = many("0000", "0011", correct=(20, 30))
    one = {key: value for key, value in records.items() if key.seed == 1}
    assert against_reference(rows_of(chosen(()), "snips", one)) == ({}, [])
    without = {key: value for key, value in records.items() if key.system != "0000"}
    assert against_reference(rows_of(chosen(()), "snips", without)) == ({}, [])


def test_seeds_that_not_all_have_are_left_out_of_the_test() -> None:
    records = many("0000", "0011", "1111", correct=(20, 30, 25))
    records.pop(cell("1111", LOW, 3))
    found, seeds = against_reference(rows_of(chosen(()), "snips", records))
    assert seeds == [1, 2] and set(found) == {"0011", "1111"}


@pytest.fixture
def half_done(tmp_path: Path) -> list[str]:
    """A study with two systems done, one begun and one failed; cost measured of one."""
    records = many("0000", "0011", correct=(20, 35))
    records |= {cell("0110"): good(0.4), cell("1111", HIGH): failed()}
    records |= {cell("CRF", OWN): good(0.3, 5)}
    for one, record in records.items():
        append(tmp_path / "study.jsonl", {"cell": vars(one), **record})
    versions = {"torch": "2", "triton": None}
    figures = {"update_seconds": 2.0, "tokens_per_second": 1234.5, "peak_bytes": 2**30}
    costs = {
        "machine": {"processor": "a processor", "versions": versions, "date": "today"},
        "settings": {"threads": 2, "rounds": 3},
        "data": "snips",
        "systems": {
            "0011": {**figures, "seconds_per_1000_words": 1.5},
            "CRF": {"train_seconds": 77.0, "peak_bytes": 2**20, "seconds_per_1000_words": 0.1},
        },
    }
    (tmp_path / cost.NAME).write_text(json.dumps(costs))
    return ["--record", str(tmp_path / "study.jsonl"), "--table"]


def test_the_table_has_scores_differences_and_costs(half_done: list[str], tmp_path: Path) -> None:
    assert study.main(half_done) == 0
    lines = (tmp_path / "study.md").read_text(encoding="utf-8").splitlines()
    assert "| system | rate | snips, test F1 | snips, against 0000 |" in lines
    # Two of three seeds find one entity more: 2 x 36 / 76, 2 x 35 / 75, 2 x 36 / 76.
    scores = [200 * n / (40 + n) for n in (36, 35, 36)]
    assert f"| {LOW:g}< | {sum(scores) / 3:.2f} ± 0.81 (3) | **+" in "\n".join(lines)
    assert f"| 0110 | {FIRST:g}? | 66.67 (1) |  |" in lines
    assert any(line.startswith("| CRF | its own | 22.22 (1) | **−") for line in lines)
    assert "| 0011 | 300 | 1,234 | 1,024 | 1.50 |" in lines
    assert "| CRF | 77 |  | 1 | 0.10 |" in lines
    text = "\n".join(lines)
    for said in (
        "135M",
        "4 bits",
        "150 updates of 16",
        "2,400 sentences of train",
        "seeds 1, 2, 3",
    ):
        assert said in text
    assert f"- failed: snips, 1111, lr {HIGH}, seed 1: exit status 1: full disk" in lines
    assert (tmp_path / "study.png").exists() == (find_spec("matplotlib") is not None)


def test_the_table_says_that_cost_was_not_measured(half_done: list[str], tmp_path: Path) -> None:
    (tmp_path / cost.NAME).unlink()
    assert study.main(half_done) == 0
    assert "Cost was not measured yet" in (tmp_path / "study.md").read_text()
    assert not (tmp_path / "study.png").exists()


# ---- cost


def test_cost_is_that_of_the_further_updates(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loading and the first updates, however slow, are on nobody's time."""

    def run(asked: Sequence[str], threads: int) -> tuple[str, int]:
        if asked[2] == "benchmarks.study.prediction":
            return "a remark\n0.25\n", 1
        updates = int(asked[asked.index("--max-steps") + 1])
        output = Path(asked[asked.index("--output") + 1])
        output.mkdir(parents=True, exist_ok=True)
        seconds = 1000.0 + 2.0 * updates
        if "--warmup-mntp" in asked:
            moved[0] += 0.5 * int(asked[asked.index("--warmup-mntp") + 1])
        (output / "metrics.json").write_text(json.dumps({"train_seconds": seconds}))
        rows = [{"step": step, "loss": [1.0], "tokens": 100} for step in range(1, updates + 1)]
        lines = [*rows, {"step": updates, "dev": {}}]
        (output / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return "", 5 * 2**20 * updates

    moved = [0.0]
    monkeypatch.setattr(cost, "_run", run)
    monkeypatch.setattr(cost.time, "perf_counter", lambda: moved[0])
    warmed = "1111 after MNTP"
    asked = [*folders, "--systems", "0000", warmed, "--cost", "--cost-updates", "10"]
    assert study.main(asked) == 0
    record = json.loads((tmp_path / cost.NAME).read_text())
    found = record["systems"]["0000"]
    assert found["update_seconds"] == 2.0 and found["tokens_per_second"] == 50.0
    assert found["seconds_per_1000_words"] == 0.25 and found["peak_bytes"] == 65 * 2**20
    assert len(found["turns"]) == 3 and record["failed"] == {}
    own = record["systems"][warmed]
    assert own["warmup_update_seconds"] == 0.5
    assert training_seconds(system_of(warmed), own, 150) == 150 * 2 + 150 * 0.5
    assert str(tmp_path) not in json.dumps(record)


def test_memory_is_that_of_the_process_and_failures_have_reasons() -> None:
    _, small = cost._run([sys.executable, "-c", "pass"], 1)
    text, large = cost._run(
        [sys.executable, "-c", "import time; print(len(bytearray(90 << 20))); time.sleep(0.2)"], 1
    )
    assert small and large and int(text) == 90 << 20
    assert 60 << 20 < large - small < 130 << 20
    with pytest.raises(Failed, match="exit status 3: no luck"):
        cost._run([sys.executable, "-c", "print('no luck'); exit(3)"], 1)


def test_peers_take_one_turn() -> None:
    turns = list(cost._turns([CRF, system_of("0000")], 3))
    assert [one.name for one in turns] == ["CRF", "0000", "0000", "0000"]


def test_a_few_systems_are_trained_on_other_languages() -> None:
    names = ("0000", "0001", "CRF")
    cells = plan({}, *names, datasets=("danish", "wnut17"), seeds=(2,), leader_seeds=())
    assert {(cell.data, cell.system) for cell in cells} == {
        *(("wnut17", name) for name in ("0000", "0001", "CRF")),
        *(("danish", name) for name in ("0000", "CRF")),
    }


def test_their_tags_are_not_those_of_the_last_column(tmp_path: Path) -> None:
    folder = tmp_path / "uner" / "UNER_Danish-DDT"
    folder.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        text = "1\tKarin\tB-PER\t-\ts\n2\tkom\tO\t-\ts\n\n"
        (folder / f"da_ddt-ud-{split}.iob2").write_text(text, encoding="utf-8")
    found = material("danish", tmp_path, tmp_path / "scratch", 9)
    assert found.gold == {"dev": 1, "test": 1}
    for path in (found.part, found.dev, found.test, found.whole):
        assert read(path).sentences[0].tags == ("B-PER", "O"), path
