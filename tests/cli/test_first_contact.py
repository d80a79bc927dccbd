"""What somebody new meets first: help, versions, and one line for whatever is wrong.

None of it waits for torch. All command lines run in one process in which the import of anything
heavy raises an error, so that an answer is also the proof that nothing heavy was needed for it.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmsl.data.formats.options import FileShape
from lmsl.data.tags.vocabulary import LabelSet
from tests.run_directory.test_folder import INFO_OF_A_RUN
from tests.search.sweep_tools import write_sweep
from tests.small_runs import fresh_process, snapshot, written

# Runs a list of command lines, each of which may only import what is light.
PROGRAM = """
import contextlib, importlib.abc, io, json, os, sys

HEAVY = {"torch", "transformers", "triton", "peft", "bitsandbytes", "scipy", "matplotlib"}


class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise RuntimeError(f"imported {name}")


sys.meta_path.insert(0, Refuse())
os.chdir(sys.argv[1])
from lmsl.cli import main

answers = []
for line in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(line)
        except SystemExit as end:
            status = end.code or 0
        except RuntimeError as error:
            status = str(error)
    answers.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""

GOOD = "Ada\tB-PER\nmet\tO\n\nBob\tB-PER\nsat\tO\n\n"
TRAIN = "train --data good --output out"

# Command line -> words on standard output, with status 0.
SHOWN: dict[str, tuple[str, ...]] = {
    "--help": tuple(f"\n  {name} " for name in ("train", "sweep", "predict", "data", "probe")),
    "-h": ("usage: lmsl",),
    "--version": ("lmsl 0.", "(python 3.", ", torch 2.", ", transformers 5.", ", triton "),
    "train --help": ("--unmask", "--resume", "Fine-tune a decoder", "--help-all shows all"),
    "train --help-all": ("--unmask", "--config", "--label-at", "--overwrite", "\ndata:\n"),
    "sweep --help": ("--stack", "several at once"),
    "sweep --help-all": ("--short-grid", "\nmany runs:\n"),
    "predict --help": ("--format", "standard input"),
    "evaluate --help": ("--predictions", "--ignore-tag"),
    "report --help": ("--png", "more than noise"),
    "data --help": ("check", "--tokenizer", "convert"),
    "probe --help": ("--unmask", "tiny", "Measure, layer by layer"),
    "train --config mine.yaml --help": ("0101", "(default: 7)", "(default: 64)"),
    "data --help-all": ("usage: lmsl data ACTION FILES ... [FLAGS]",),
    "data check good/train.conll": ("2 sentences, 4 words, 2 entities",),
}

# Name -> command line and words of the refusal, with status 2.
REFUSED: dict[str, tuple[str, tuple[str, ...]]] = {
    "command": ("trian --unmask 1", ("got 'trian'", "did you mean train?")),
    "strange-command": ("frobnicate", ("expected one of train, sweep", "got 'frobnicate'")),
    "flag": (TRAIN + " --unmaks 1", ("no flag --unmaks", "did you mean --unmask?")),
    "flag-with-value": ("predict run --devise=cpu", ("--devise", "did you mean --device?")),
    # --task is the flag of train that looks most like it.
    "flag-of-another": (TRAIN + " --stack 1", ("no flag --stack; lmsl sweep has it",)),
    "flag-of-others": (
        "predict run --max_length=9 x",
        ("predict: no flag --max_length; lmsl train and lmsl sweep have it",),
    ),
    "flag-of-three": (
        "report run --device cpu",
        ("no flag --device; lmsl train, lmsl sweep, lmsl predict, lmsl evaluate and lmsl probe",),
    ),
    # What another command is given without a flag is no flag of it.
    "no-flag-of-another": (TRAIN + " --folder x", ("no flag --folder; ",)),
    "strange-flag": (TRAIN + " --frobnicate 1", ("no flag --frobnicate", "lmsl train --help")),
    "wrong-bit": (TRAIN + " --unmask 0021", ("unmask", "0 and 1", "'0021'")),
    "number": (TRAIN + " --lr abc", ("--lr", "expected NUMBER", "'abc'")),
    "whole-number": (TRAIN + " --epochs many", ("--epochs", "expected INT", "'many'")),
    "numbers": (TRAIN + " --seed 1 x", ("--seed", "expected INT ...", "'x'")),
    "choice": (TRAIN + " --quantize int3", ("--quantize", "auto, nf4, none", "'int3'")),
    "choice-of-an-argument": ("data chek good", ("expected check, describe, convert", "'chek'")),
    "no-value": (TRAIN + " --device", ("--device", "got none")),
    "no-value-of-several": (TRAIN + " --unmask --seed 1", ("--unmask", "got none")),
    "no-threshold": ("predict run good/dev.conll --threshold", ("--threshold", "got none")),
    "interrupted": ("predict interrupted", ("an interrupted run", "--resume")),
    "report-interrupted": ("report interrupted", ("interrupted", "--resume")),
    "predictions-over-gold": (
        "evaluate run good/dev.conll --predictions good/dev.conll",
        ("good/dev.conll: is there already",),
    ),
    "page-over-the-input": (
        "predict run good/dev.conll --html good/dev.conll",
        ("--html good/dev.conll: is there already",),
    ),
    "report-over-data": ("report sweep --output good/dev.conll", ("--output good/dev.conll",)),
    "no-value-of-recipe": (TRAIN + " --recipe", ("--recipe", "got none")),
    "no-run": ("predict", ("expected RUN",)),
    "no-folder": ("report", ("expected FOLDER",)),
    "too-much": ("predict run good/dev.conll more", ("no further words", "got more")),
    "switch-with-a-value": (TRAIN + " --overwrite yes", ("no further words", "got yes")),
    "quiet-and-verbose": ("predict run --quiet --verbose", ("--quiet", "--verbose")),
    "no-recipe": (TRAIN + " --unmask 1 --recipe best", ("--recipe", "acl2024", "'best'")),
    "no-config": (TRAIN + " --unmask 1 --config gone.yaml", ("--config gone.yaml",)),
    "lora-rank": (TRAIN + " --unmask 1 --lora-rank 0", ("--lora-rank", "at least 1")),
    "resume-nowhere": ("train --unmask 1 --data good --resume", ("--resume", "--output")),
    "dial": ("train --unmask 1 --data synthetic:7 --output out", ("0 to 1", "'7'")),
    "no-data": ("train --unmask 1 --train gone.conll", ("gone.conll", "no such file")),
    "data-file": ("train --unmask 1 --data good/train.conll --output out", ("--train",)),
    "tag-column": (TRAIN + " --unmask 1 --tag-column 7", ("--tag-column 7", "2 columns")),
    "output-file": ("train --data good --unmask 1 --output mine.yaml", ("mine.yaml", "a file")),
    "output-run": ("train --data good --unmask 1 --output run", ("run", "--overwrite")),
    "output-sweep": ("train --data good --unmask 1 --seed 1 2 --output run", ("several runs",)),
    "stack": ("sweep --data good --unmask grid --stack 0", ("--stack", "at least 1, got 0")),
    "stack-of-all-weights": (
        "sweep --data good --unmask grid --tune full --stack 2",
        ("--stack 2: expected 1", "--tune full"),
    ),
    "top": ("sweep --data good --unmask grid --top 1", ("--top", "--mode oneshot only")),
    "idle": (TRAIN + " --tune full --lora-rank 4", ("--lora-rank 4: --tune full trains no",)),
    "seed-of-no-split": (
        "train --data good --split-seed 3 --output out",
        ("--split-seed 3: expected data without dev", "good/dev.conll; leave it out"),
    ),
    "continuations-of-nothing": (
        "evaluate run good/dev.conll --continuations 20",
        ("--continuations 20: expected --perplexity TEXT beside it",),
    ),
    "check-writes-nothing": (
        "data check good/train.conll --output x",
        ("--output x: expected data convert, got data check",),
    ),
    "describe-writes-nothing": ("data describe good/train.conll --to json", ("--to json: exp",)),
    "convert-counts-nothing": (
        "data convert good/train.conll --output x --tokenizer tiny",
        ("--tokenizer tiny: expected data check or data describe, got data convert",),
    ),
    "range-in-a-file": (
        "train --data good --config none.yaml",
        ("--epochs: expected at least 1, got 0 (--config none.yaml says so)",),
    ),
    "range-over-a-file": (
        "train --data good --config none.yaml --epochs -1",
        ("--epochs: expected at least 1, got -1\n",),
    ),
    "task-and-a-file": (
        "train --data good --config none.yaml --epochs 1 --task generate --unmask 0000",
        ("--decode 'argmax'", "or at viterbi (--config none.yaml says so)"),
    ),
    "task-and-recipe": (
        "train --data good --task generate --recipe acl2024 --label-at last",
        ("--recipe acl2024 sets --decode argmax: ", "for --task generate: acl2024-generate\n"),
    ),
    "task-and-recipe-of-a-file": (
        "train --data good --task generate --config mine.yaml --unmask 0000",
        ("--recipe acl2024 sets ", "acl2024-generate (--config mine.yaml says so)"),
    ),
    "part-of-a-recipe": (
        "train --data good --recipe acl2024-released --batch-size 6",
        ("--keep-every: expected a divisor of --batch-size 6", "(--recipe acl2024-released says"),
    ),
    "predict-data": ("predict good", ("expected a run directory", "lmsl.json")),
    "predict-mistyped": ("predict good/rnu", ("good/rnu", "none of that name in good")),
    "predict-gone": ("predict ./gone", ("expected a run directory", "no such folder")),
    "predict-file-gone": ("predict run gone.txt", ("gone.txt", "no such file")),
    "evaluate-data": ("evaluate good good/dev.conll", ("expected a run directory",)),
    "evaluate-gone": ("evaluate run gone.conll", ("gone.conll", "no such file")),
    "evaluate-strange-tag": (
        "evaluate run unknown-tag/dev.conll --strict-tags",
        ("dev.conll:1", "'B-LOC'"),
    ),
    "evaluate-repairs": ("evaluate run repairs.conll --strict-tags", (":2", "I-PER")),
    "predictions": ("evaluate run good/dev.conll --predictions no/dir/x", ("no/dir/x",)),
    "probe-bits": ("probe tiny --unmask 2", ("0 and 1", "'2'")),
    "probe-run": ("probe run --unmask 1111", ("string of its own",)),
    "probe-no-data": ("probe run --data gone.conll", ("gone.conll", "no such file")),
    "probe-data-of-a-model": ("probe tiny --data good/dev.conll", ("expected a run directory",)),
}

# Name of a file of the data folder, its bytes, words of the answer.
FILES: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "unknown-tag": ("dev", b"Rome\tB-LOC\n", ("dev.conll:1", "'B-LOC'", "PER")),
    "unknown-test-tag": ("test", b"a\tO\nRome\tB-LOC\n", ("test.conll", "'B-LOC'")),
    "ragged": ("train", b"Ada\tNNP\tB-PER\nmet\tO\n", ("train.conll:2", "column")),
    "empty": ("train", b"", ("train.conll", "empty")),
    "blank": ("dev", b"\n\n \n", ("dev.conll", "empty")),
    "binary": ("train", b"\x7fELF\x00\x01\x02", ("train.conll:1", "binary")),
    "latin-1": ("train", b"caf\xe9\tO\n", ("train.conll:1", "UTF-8", "0xe9")),
}
REFUSED |= {
    f"file-{name}": (f"train --unmask 1 --data {name} --output out", words)
    for name, (_, _, words) in FILES.items()
}

CONFIGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "unquoted": ("unmask: 0011\n", ("quotes", "0011")),
    "unknown-choice": ('unmask: "0011"\nloss: hinge\n', ("loss", "hinge")),
    "binary": ("\0\1", ("YAML",)),
}
REFUSED |= {
    f"config-{name}": (f"{TRAIN} --config {name}.yaml", (f"--config {name}.yaml", *words))
    for name, (_, words) in CONFIGS.items()
}

REPORT = "report sweep --output page.html"
NOTHING = ""
NEEDS_TORCH = ("train --data good --output out", "predict run good/dev.conll")

LINES = [
    *SHOWN,
    *(line for line, _ in REFUSED.values()),
    REPORT,
    NOTHING,
    *NEEDS_TORCH,
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Status, standard output and standard error of every line, and of all: what it wrote."""
    folder = tmp_path_factory.mktemp("here")
    written(folder / "good", train=GOOD, dev=GOOD)
    for name, (split, content, _) in FILES.items():
        written(folder / name, train=GOOD, dev=GOOD)
        (folder / name / f"{split}.conll").write_bytes(content)
    for name, (text, _) in CONFIGS.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "mine.yaml").write_text('unmask: "0101"\nepochs: 7\nrecipe: acl2024\n')
    (folder / "none.yaml").write_text("decode: argmax\nepochs: 0\n")
    (folder / "repairs.conll").write_text("a\tO\nb\tI-PER\n\nc\tB-PER\n")
    labels = LabelSet(("O", "B-PER", "I-PER"))
    info = replace(INFO_OF_A_RUN, labels=labels, files=FileShape())
    (folder / "run").mkdir()
    (folder / "run" / "lmsl.json").write_text(info.to_json(), encoding="utf-8")
    (folder / "interrupted" / "checkpoint").mkdir(parents=True)
    write_sweep(folder / "sweep", {"0000": 0.7, "0011": 0.1}, size=30)
    before = snapshot(folder)
    lines = json.dumps([line.split() for line in LINES])
    found = json.loads(fresh_process(PROGRAM, str(folder), stdin=lines))
    after = snapshot(folder)
    assert before.items() <= after.items()
    new = sorted(
        Path(name).relative_to(folder).as_posix() for name in after.keys() - before.keys()
    )
    return {"new": new, **dict(zip(LINES, found, strict=True))}


@pytest.mark.parametrize(("line", "words"), SHOWN.items(), ids=SHOWN.keys())
def test_it_is_shown(line: str, words: tuple[str, ...], answers: dict[str, Any]) -> None:
    status, out, err = answers[line]
    assert (status, err) == (0, "")
    for word in words:
        assert word in out


@pytest.mark.parametrize(("line", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused_in_one_line(
    line: str, words: tuple[str, ...], answers: dict[str, Any]
) -> None:
    status, out, err = answers[line]
    assert (status, out) == (2, ""), err
    assert err.startswith("lmsl: ") and err.count("\n") == 1 and err.endswith("\n"), err
    for word in words:
        assert word in err, err


def test_no_command_at_all_shows_the_commands(answers: dict[str, Any]) -> None:
    assert answers[NOTHING] == [2, answers["--help"][1], ""]


def test_a_verdict_needs_no_torch_and_nothing_else_is_written(answers: dict[str, Any]) -> None:
    status, out, err = answers[REPORT]
    assert (
        status == 0 and "0011 has the best mean F1 on dev" in out and err.startswith("page.html: ")
    )
    assert answers["new"] == ["page.html"]


@pytest.mark.parametrize("line", NEEDS_TORCH)
def test_imports_are_watched(line: str, answers: dict[str, Any]) -> None:
    """What is in order goes on to a model."""
    assert answers[line][0].startswith("imported torch")
