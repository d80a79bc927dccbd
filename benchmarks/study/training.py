"""One cell: a training in a process of its own, whether it is sane, and its record.

Memory is clean after every cell that way, and a training that crashes takes nothing with it.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shared.machine import REPOSITORY
from benchmarks.shared.record import slug
from benchmarks.study.cells import Cell
from benchmarks.study.material import Material
from benchmarks.study.systems import System
from lmsl.data.documents import read_object
from lmsl.data.tags.counts import Entities, sentence_counts
from lmsl.data.tags.vocabulary import LabelSet
from lmsl.errors import InputError
from lmsl.mask.bits import layer_bits
from lmsl.run_directory.folder import CHECKPOINT
from lmsl.run_directory.info import INFO
from lmsl.statistics.predictions import read_predictions

SPLITS = ("dev", "test")
_MEASURED = re.compile(
    r"measured: (?:none|layers (?P<seeing>[\d, -]+)) of (?:the )?(?P<depth>\d+)"
)
_REASON = 300
"""Characters of a reason that are kept."""


class Failed(Exception):
    """A training did not come to an end, or is not what was asked for; one line says why."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What all cells share."""

    models: Path
    scratch: Path
    updates: int
    batch_size: int
    threads: int


def folder_of(cell: Cell, scratch: Path) -> Path:
    """Where a training leaves its files; names say what it is."""
    return scratch / "runs" / cell.data / slug(cell.system) / f"lr={cell.lr}" / f"seed{cell.seed}"


def command(cell: Cell, system: System, found: Material, work: Work) -> list[str]:
    """What is run, but for how it begins: anew or from a checkpoint."""
    files = ["--train", str(found.train(system.whole))]
    files += ["--dev", str(found.dev), "--test", str(found.test)]
    output = ["--seed", str(cell.seed), "--output", str(folder_of(cell, work.scratch))]
    if system.peer is not None:
        return [sys.executable, "-m", "benchmarks.study.peer", system.peer, *files, *output]
    assert system.model is not None
    warmup = ["--warmup-mntp", str(system.warmup)] if system.warmup else []
    passes = -(-work.updates * work.batch_size // found.sentences)
    return [
        *(sys.executable, str(REPOSITORY / "train.py")),
        *("--unmask", system.unmask, "--model", str(work.models / system.model), *files),
        *("--lr", str(cell.lr), "--max-steps", str(work.updates), "--epochs", str(passes)),
        *("--batch-size", str(work.batch_size), "--device", "cpu"),
        *(*warmup, *system.flags, *output),
    ]


def environment(threads: int, *, shared: bool) -> dict[str, str]:
    """Of a process that imports this checkout.

    Args:
        shared: others may use the machine. Threads that wait for each other then sleep instead of
            spinning, which on busy cores takes the time from the very thread they wait for.
    """
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "kernels")])
    waiting = {"OMP_WAIT_POLICY": "PASSIVE"} if shared else {}
    return {
        **os.environ,
        **waiting,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
    }


def trained(
    cell: Cell, system: System, found: Material, work: Work, *, anew: bool = False
) -> dict[str, Any]:
    """Train a cell, or what is left of it, and look whether it is sane; its figures.

    Args:
        anew: whatever an earlier try left is thrown away.

    Raises:
        Failed: it did not end well.
    """
    folder = folder_of(cell, work.scratch)
    asked = command(cell, system, found, work)
    begun = (folder / CHECKPOINT).exists() or (folder / INFO).exists()
    resumes = system.peer is None and begun and not anew
    if system.peer is None:
        asked.append("--resume" if resumes else "--overwrite")
    log = folder.parent / f"{folder.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    if not resumes:
        log.unlink(missing_ok=True)
    began = time.perf_counter()
    with log.open("ab") as told:
        status = _run(asked, told, environment(work.threads, shared=True))
    seconds = time.perf_counter() - began
    text = log.read_text(encoding="utf-8", errors="replace")
    if status:
        raise Failed(reason_of(text, status))
    figures = sane(folder, system, found, work, text)
    return {**figures, "seconds": round(seconds, 1), "resumed": resumes}


def _run(asked: Sequence[str], told: Any, names: Mapping[str, str]) -> int:
    """Run a process to its end. Who asks us to stop asks it, once: it is waited for, and writes
    a checkpoint first."""
    process = subprocess.Popen(
        asked, cwd=REPOSITORY, env=names, stdout=told, stderr=told, start_new_session=True
    )
    try:
        return process.wait()
    except BaseException:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise


def reason_of(text: str, status: int) -> str:
    """The last thing a process said, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    return f"{how}: {lines[-1] if lines else 'nothing was said'}"[:_REASON]


def sane(folder: Path, system: System, found: Material, work: Work, text: str) -> dict[str, Any]:
    """The figures of a training, once it is seen to be the one that was asked for.

    Raises:
        Failed: it is another, or left no figures.
    """
    try:
        metrics = read_object(folder / "metrics.json")
        scores = {split: metrics[split] for split in SPLITS}
        for split, own in scores.items():
            _check(f"gold entities of {split}", found.gold[split], own["gold"])
        figures = {split: _brief(own) for split, own in scores.items()}
        figures["test_units"] = units_of(folder / "predictions.test.conll", scores["test"])
        figures["train_seconds"] = metrics["train_seconds"]
        if system.peer is not None:
            return {**figures, "said": metrics["said"]}
        updates = logged_updates(folder / "log.jsonl")
        _check("updates", work.updates, updates)
        assert system.model is not None
        layers = layers_of(work.models / system.model)
        return {**figures, "made": updates, "measured": seeing(text, system.unmask, layers)}
    except (InputError, LookupError, TypeError, ValueError, OSError) as error:
        raise Failed(f"no figures: {type(error).__name__}: {error}"[:_REASON]) from error


def _check(what: str, expected: int, got: int) -> None:
    if expected != got:
        raise Failed(f"{what}: expected {expected}, got {got}")


def layers_of(model: Path) -> int:
    return int(read_object(model / "config.json")["num_hidden_layers"])


def seeing(text: str, unmask: str, layers: int) -> str:
    """The line of the probe, held against the string.

    Args:
        layers: of the whole model, which a string divides, however many are kept.

    Raises:
        Failed: there is none, or it names other layers.
    """
    told = list(_MEASURED.finditer(text))
    if not told:
        raise Failed("no line says which layers were measured to see to the right")
    match = told[-1]
    depth, named = int(match["depth"]), match["seeing"] or ""
    found = set[int]()
    for part in filter(None, named.replace(" ", "").split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    wanted = {layer for layer, bit in enumerate(layer_bits(unmask, layers)[:depth]) if bit}
    if found != wanted:
        raise Failed(f"expected layers {sorted(wanted)} to see right, {match[0]}")
    return match[0]


def logged_updates(path: Path) -> int:
    """The last update that a log tells of."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return max((int(json.loads(line)["step"]) for line in lines), default=0)


def units_of(path: Path, scores: Mapping[str, Any]) -> dict[str, Any]:
    """Gold, predicted and correct entities of each sentence, for paired comparisons; and the
    entities beside, which no tags show.

    Raises:
        Failed: they are not those that were scored.
    """
    predictions = read_predictions(path, LabelSet(("O",)))
    counts = sentence_counts(predictions.sentences, predictions.predicted, Entities(plain=False))
    gold, predicted, correct = map(int, counts.sum(axis=0))
    if (predicted, correct) != (scores["predicted"], scores["correct"]) or gold > scores["gold"]:
        raise Failed(f"{path.name}: its tags are not those that were scored")
    columns = ("gold", "predicted", "correct")
    return {
        **{name: counts[:, place].tolist() for place, name in enumerate(columns)},
        "beyond": scores["gold"] - gold,
    }


def _brief(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Scores with the counts of every type as gold, predicted, correct."""
    kept = {key: value for key, value in scores.items() if key != "per_type"}
    types = {
        kind: [own["gold"], own["predicted"], own["correct"]]
        for kind, own in scores["per_type"].items()
    }
    return {**kept, "per_type": types}
