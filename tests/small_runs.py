"""Runs small enough to be trained inside a test: a handful of sentences, six updates."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lmsl.cli import main
from lmsl.data.synthetic import generate
from lmsl.data.tags.sentence import Sentence
from lmsl.data.write import write_columns
from lmsl.run_directory.digests import document_digest, file_digest

ROOT = Path(__file__).parents[1]
SIZES = {"train": 12, "dev": 6, "test": 6}
SHORT = ("--max-steps", "6", "--epochs", "2", "--batch-size", "4", "--device", "cpu")
ADAPTER = "adapter_model.safetensors"
FILES = {
    *(ADAPTER, "adapter_config.json", "head.safetensors", "lmsl.json", "config.yaml"),
    *("metrics.json", "log.jsonl", "predictions.dev.conll", "predictions.test.conll"),
    *("README.md", "influence.json", "tokenizer.json", "tokenizer_config.json"),
}


def write_data(folder: Path, sizes: dict[str, int] | None = None) -> Path:
    """A folder of three splits in columns."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, size in (sizes or SIZES).items():
        sentences = one_of_each_type_first(generate(split, 0.8, 60).sentences)[:size]
        write_columns(
            folder / f"{split}.conll", sentences, [sentence.tags or () for sentence in sentences]
        )
    return folder


def written(folder: Path, **splits: str) -> Path:
    """A folder of splits with these contents, bytes and all."""
    folder.mkdir(exist_ok=True)
    for name, text in splits.items():
        (folder / f"{name}.conll").write_bytes(text.encode())
    return folder


def write_doubtful(folder: Path) -> Path:
    """A folder of splits whose dev and test often contradict what train teaches, so that a run is
    surer than it is right: entities of two types, some of them longer, some without a label."""
    folder.mkdir(parents=True, exist_ok=True)
    sure = [
        "Ada/B-PER Lovelace/I-PER met/O Bob/B-PER ./O",
        "Rome/B-LOC fell/O ./O",
        "from/O New/B-LOC York/I-LOC to/O Rome/B-LOC",
        "Bob/B-PER saw/O Ada/B-PER Lovelace/I-PER in/O New/B-LOC York/I-LOC",
    ]
    other = [
        "Ada/B-PER Lovelace/O met/O Bob/O ./O",
        "Rome/B-PER fell/O ./O",
        "from/O New/O York/B-LOC to/O Rome/_",
        "Rome/B-LOC saw/O Ada/B-PER met/O New/B-LOC York/_ Jersey/_",
    ]
    splits = {"train": sure * 3, "dev": sure * 5 + other * 3, "test": other + sure * 2 + other[:1]}
    for split, sentences in splits.items():
        blocks = (each.replace(" ", "\n").replace("/", "\t") for each in sentences)
        (folder / f"{split}.conll").write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    return folder


DOUBTFUL = ("--ignore-tag", "_", "--max-steps", "18", "--epochs", "6", "--lr", "0.01")


def one_of_each_type_first(sentences: Sequence[Sentence]) -> list[Sentence]:
    """The same sentences, in an order whose beginning holds every type."""
    seen: set[str] = set()
    first, rest = [], []
    for sentence in sentences:
        types = {tag[2:] for tag in sentence.tags or () if tag != "O"}
        (first if types - seen else rest).append(sentence)
        seen |= types
    return first + rest


def train(data: Path, output: Path, *flags: str, unmask: Sequence[str] = ("0011",)) -> Path:
    """Train on a folder of splits by the command line; the output folder."""
    torch.set_num_threads(1)
    named = ("--data", str(data), "--output", str(output))
    strings = ("--unmask", *unmask) if unmask else ()
    assert main(["train", *strings, *named, *SHORT, *flags]) == 0
    return output


def train_talkative(folder: Path) -> Path:
    """A run that finds entities everywhere, whatever it learned: `O` is made unlikely."""
    return talkative(train(write_data(folder / "data"), folder / "run", "--max-length", "128"))


def talkative(run: Path) -> Path:
    """The same run with `O` made unlikely."""
    head = load_file(run / "head.safetensors")
    head["bias"][0] -= 3
    save_file(head, run / "head.safetensors")
    return signed(run)


def signed(run: Path) -> Path:
    """A run that was changed on purpose, with digests of what it holds now."""
    document = json.loads((run / "lmsl.json").read_text(encoding="utf-8"))
    files = document["digests"]["run"]
    files |= {name: file_digest(run / name) for name in files if (run / name).exists()}
    document["digest"] = document_digest(document)
    (run / "lmsl.json").write_text(json.dumps(document), encoding="utf-8")
    return run


def fresh_process(code: str, *arguments: str, stdin: str | None = None) -> str:
    """What a new interpreter prints for ``code``; fails the test where it fails."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment(),
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    """The environment of a process that imports this clone and uses one thread."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def metrics_of(run: Path) -> dict[str, Any]:
    """What a run was scored with, without what only its training can say: what train has shown."""
    found: dict[str, Any] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    for split in found.keys() & {"dev", "test"}:
        found[split].pop("unseen", None)
    return found


def logged(run: Path) -> list[dict[str, Any]]:
    """The log of a run, line by line."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]


def updates_of(run: Path) -> list[dict[str, Any]]:
    """The lines of its log that are of updates."""
    return [line for line in logged(run) if "loss" in line]


def evaluated(run: Path, file: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> Any:
    """What ``lmsl evaluate`` writes for a run loaded anew."""
    capsys.readouterr()
    assert main(["evaluate", str(run), str(file), "--device", "cpu", *flags]) == 0
    return json.loads(capsys.readouterr().out)


def rows(path: Path) -> Iterator[list[list[str]]]:
    for block in path.read_text(encoding="utf-8").strip("\n").split("\n\n"):
        yield [line.split("\t") for line in block.split("\n")]


def same_files(first: Path, second: Path, *names: str) -> None:
    for name in names or sorted(FILES - {"metrics.json"}):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    ours, theirs = metrics_of(first), metrics_of(second)
    for split in ("dev", "test"):
        assert ours.get(split) == theirs.get(split)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with its size and time."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], *expected: str, status: int = 2
) -> str:
    """Run a command that must fail; returns its only line on standard error that is a refusal."""
    capsys.readouterr()
    try:
        code: object = main(arguments)
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    assert code == status, captured.err
    assert "Traceback" not in captured.err and captured.out == ""
    lines = [line for line in captured.err.splitlines() if line.startswith("lmsl: ")]
    assert len(lines) == 1 and captured.err.rstrip("\n").endswith(lines[0]), captured.err
    for words in expected:
        assert words in lines[0], lines[0]
    return lines[0]
