"""Every command line of README and docs: its flags are known, and it does what it is there for.

They are run as they stand but for what takes a network, a large model or hours: names of models
are replaced by small ones, data by a handful of sentences, and trainings end after two updates.
"""

import io
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmsl.cli import main
from lmsl.cli.parse import parse
from lmsl.run_directory.folder import is_finished
from lmsl.tagger.source import TINY
from tests.cli.test_help import COMMANDS as KINDS
from tests.encoders import encoder_folder
from tests.small_runs import write_data

ROOT = Path(__file__).parents[1]
LINE = re.compile(r"^ *(?:python3 -m venv .* && )?(?:\.venv/bin/)?(python train\.py|lmsl) (.*)$")
FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^(?: {4}.*\n)+", re.MULTILINE)
SAMPLE = re.compile(r"<!-- sample: (\S+) -->\n```\w*\n(.*?)```", re.DOTALL)

ENCODERS = {"FacebookAI/roberta-base": "roberta", "answerdotai/ModernBERT-base": "modernbert"}
DATA = {"DIR", ".", "snips", "mams_atsa", "synthetic:0.8"}
# Of a parser that cannot be had here (tests/data/test_trees.py holds it against a stand-in).
NEED_MORE = ("--parser",)
SLOW = ("sweep", "grid", "--seed 1 2", "generate", "roberta", "ModernBERT", "perplexity", "gguf")


def commands() -> dict[str, list[str]]:
    """``document: line`` and the words of the command."""
    found: dict[str, list[str]] = {}
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for document in documents:
        text = document.read_text(encoding="utf-8")
        blocks = [*FENCE.findall(text), *INDENTED.findall(text)]
        for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
            if match := LINE.match(line):
                program, rest = match.groups()
                words = shlex.split(rest, comments=True)
                words = words[: words.index(">")] if ">" in words else words
                words = words if program == "lmsl" else ["train", *words]
                found[f"{document.name}: {' '.join(words)}"] = words
    return found


COMMANDS = commands()
# Each once, whatever documents have it.
QUICK = ("README.md: ", "getting_started.md: ")


def is_slow(name: str) -> bool:
    """What takes long, and trainings that other pages than the first have."""
    trains = ": train " in name and not name.startswith(QUICK)
    return trains or any(word in name for word in SLOW)


RUN = [
    pytest.param(name, marks=[pytest.mark.slow] if is_slow(name) else [])
    for name in {" ".join(words): name for name, words in COMMANDS.items()}.values()
    if COMMANDS[name][0] in KINDS and not {*NEED_MORE} & {*COMMANDS[name]}
]


def test_there_is_something_to_find() -> None:
    assert {words[0] for words in COMMANDS.values()} == {*KINDS, "--version"}
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("name", COMMANDS)
def test_its_flags_are_known(name: str) -> None:
    command, *flags = COMMANDS[name]
    if command in KINDS:
        parse(KINDS[command], flags, command)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the commands name: data, a text, a run and a sweep."""
    here = tmp_path_factory.mktemp("docs")
    data = write_data(here / "data")
    for split in ("train", "dev", "test"):
        shutil.copy(data / f"{split}.conll", here)
    (here / "new.txt").write_text("Ada Lovelace met Babbage.\nIt rained.\n")
    (here / "new.conll").write_text("Ada\nmet\nBabbage\n\nIt\nrained\n")
    tree = "1 Ada _ PROPN _ _ 2 nsubj _ name=B-PER\n2 left _ VERB _ _ 0 root _ name=O\n"
    (here / "train.conllu").write_text(tree.replace(" ", "\t"))
    flags = ["--data", str(data), "--max-steps", "2", "--device", "cpu", "--quiet"]
    assert main(["train", *flags, "--output", str(here / "one")]) == 0
    several = ["--unmask", "0000", "0011", "--output", str(here / "several")]
    assert main(["train", *flags, *several]) == 0
    return here


@pytest.mark.parametrize("name", RUN)
def test_it_does_what_it_says(
    name: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    shutil.copytree(made, here, ignore=shutil.ignore_patterns("one", "several"))
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "stdin", io.StringIO("Ada Lovelace met Babbage.\n"))
    words = list(replaced(COMMANDS[name], made, here))
    command = words[0]
    if command in ("train", "sweep"):
        words += ["--max-steps", "2", "--device", "cpu"]
        # The generated data is large.
        words += [] if {"--data", "--train"} & {*words} else ["--data", "data"]
    assert main(words) in (0, 1) if words[:2] == ["data", "check"] else main(words) == 0
    if command in ("train", "sweep"):
        assert any(is_finished(path.parent) for path in here.rglob("lmsl.json"))


def replaced(words: list[str], made: Path, here: Path) -> Iterator[str]:
    """The words of a command, with small things in place of large ones, which it finds here."""
    before = ""
    for word in words:
        known = word in ("RUN", "runs") or word.startswith("runs/")
        if before == "--output" and known:
            yield word
        elif known:
            several = words[0] == "report" and word != "runs/mine"
            place = here / ("runs/1" if word == "RUN" else word)
            if not place.exists():
                shutil.copytree(made / ("several" if several else "one"), place)
            yield str(place)
        elif before in ("--model", "--tokenizer"):
            kind = ENCODERS.get(word)
            yield str(encoder_folder(kind, here / "encoder")) if kind else TINY
        elif before == "--data" and (word in DATA or words[0] in ("train", "sweep")):
            yield "data"
        elif before == "--config":
            yield str(small_recipe(ROOT / word, here))
        elif word in DATA:
            yield "data"
        elif before in ("--train", "--dev", "--test"):
            yield f"{before[2:]}.conll"
        elif word in ("FILE", "test.conll"):
            yield "test.conll"
        elif word == "TEXT":
            yield "new.txt"
        elif word == "24" and before == "--exit-layer":
            yield "6"
        else:
            yield word
        before = word


def small_recipe(recipe: Path, here: Path) -> Path:
    """A recipe file over a small model and with one seed."""
    text = recipe.read_text(encoding="utf-8")
    model = encoder_folder("modernbert", here / "encoder") if "encoder" in recipe.name else TINY
    text = re.sub(r"^model: .*$", f"model: {model}", text, flags=re.MULTILINE)
    (here / recipe.name).write_text(re.sub(r"^seed: .*$", "seed: [1]", text, flags=re.MULTILINE))
    return here / recipe.name


def samples() -> dict[str, str]:
    return dict(SAMPLE.findall((ROOT / "docs" / "data_formats.md").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", samples())
def test_a_sample_of_a_format_is_read(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(samples()[name])
    assert main(["data", "describe", str(tmp_path / name)]) == 0
    shown = capsys.readouterr().out
    assert "1 sentence, " in shown and ("1 entity" in shown or "2 entities" in shown)


def test_every_format_has_a_sample() -> None:
    assert len(samples()) == 9
