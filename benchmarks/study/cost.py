"""What every system costs: seconds of training and of prediction, and memory.

A training is run twice, with a few updates and with more; the difference of their seconds is that
of the further updates alone, without loading, quantising and evaluating. Those of a warm-up, which
a run's own seconds leave out, are got likewise from the seconds of the process. Trainings begin
with the same batches, and all systems see the same sentences. Memory is the most that the process
of the longer training had in use. Prediction is by ``predict_tags`` of a run that was loaded and
has predicted once. Peers train to their end, once. The others take turns in every round, so that a
slow phase of the machine does not hit one of them alone; the record has the medians over rounds.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.shared.labelled import CPU_PLACE
from benchmarks.shared.machine import REPOSITORY, machine, machine_lines
from benchmarks.shared.record import write_json
from benchmarks.study.cells import OWN, Cell
from benchmarks.study.material import Material, material
from benchmarks.study.settings import Settings
from benchmarks.study.systems import System, chosen
from benchmarks.study.training import Failed, Work, command, environment, folder_of, reason_of
from lmsl.data.documents import parse_json, read_object
from lmsl.data.read import read
from lmsl.data.write import write_json as write_sentences

DATA = "snips"
NAME = "study_cost_cpu.json"
_WARMUP = 3
"""Updates of the shorter training."""
_HELD, _PREDICTED = 20, 200
"""Sentences of dev, which is evaluated on no one's time, and of test, which is predicted."""
_LOOK = 0.05
"""Seconds between two looks at the memory of a process."""

Figures = dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all measurements share."""

    work: Work
    whole: Material
    cut: Material
    """With little of dev and test."""


def measure_cost(settings: Settings) -> int:
    """Measure all systems and write the record; 1 where one failed."""
    found = machine(CPU_PLACE.device)
    print(*machine_lines(found), sep="\n")
    bench = _bench(settings)
    able = [system for system in chosen(settings.systems) if system.lacking() is None]
    figures: dict[str, list[Figures]] = {system.name: [] for system in able}
    failed: dict[str, str] = {}
    for system in _turns(able, settings.cost_rounds):
        if system.name in failed:
            continue
        try:
            figures[system.name].append(_measured(system, bench))
            print(f"{system.name}: {_line(figures[system.name][-1])}", flush=True)
        except Failed as error:
            failed[system.name] = str(error)
            print(f"not measured: {system.name}: {error}", flush=True)
    path = settings.record.with_name(NAME)
    record = {
        "benchmark": "study_cost",
        "machine": {key: value for key, value in found.items() if key != "command"},
        "settings": {
            **settings.same,
            "threads": settings.threads,
            "timed_updates": settings.cost_updates,
            "rounds": settings.cost_rounds,
        },
        "data": DATA,
        "systems": {name: _medians(own) for name, own in figures.items() if own},
        "failed": failed,
    }
    write_json(path, record)
    print(f"written: {path}")
    return int(bool(failed))


def read_costs(settings: Settings) -> dict[str, Any] | None:
    """The record beside that of the trainings; None where nothing was measured."""
    path = settings.record.with_name(NAME)
    return read_object(path) if path.exists() else None


def _bench(settings: Settings) -> Bench:
    work = Work(
        models=settings.folder(),
        scratch=settings.scratch.resolve() / "cost",
        updates=settings.cost_updates,
        batch_size=settings.batch_size,
        threads=settings.threads,
    )
    whole = material(DATA, settings.data, work.scratch, settings.sentences)
    dev, test = (work.scratch / "data" / f"{DATA}.{split}.jsonl" for split in ("dev", "test"))
    write_sentences(dev, read(whole.dev).sentences[:_HELD])
    write_sentences(test, read(whole.test).sentences[:_PREDICTED])
    return Bench(work=work, whole=whole, cut=replace(whole, dev=dev, test=test))


def _turns(systems: Sequence[System], rounds: int) -> Iterator[System]:
    """Everybody in every round; peers in the first one only."""
    for number in range(rounds):
        yield from (system for system in systems if number == 0 or system.peer is None)


def _measured(system: System, bench: Bench) -> Figures:
    """The figures of one turn.

    Raises:
        Failed: a process did not end well.
    """
    if system.peer is not None:
        own = _process(system, bench.whole, bench.work)
        metrics = read_object(own.folder / "metrics.json")
        return {
            "train_seconds": own.trained,
            "peak_bytes": own.peak,
            "seconds_per_1000_words": metrics["seconds_per_1000_words"],
        }
    timed, brief = bench.work.updates, replace(system, warmup=min(system.warmup, _WARMUP))
    longer = replace(bench.work, updates=_WARMUP + timed)
    shorter = replace(bench.work, updates=_WARMUP)
    first = _process(brief, bench.cut, shorter)
    found: Figures = {}
    if system.warmup:
        more = replace(brief, warmup=brief.warmup + timed)
        further = _process(more, bench.cut, shorter).wall - first.wall
        found["warmup_update_seconds"] = _each(further, timed)
    second = _process(brief, bench.cut, longer)
    spent = second.trained - first.trained
    asked = [sys.executable, "-m", "benchmarks.study.prediction", str(second.folder)]
    text, _ = _run([*asked, str(bench.cut.test)], bench.work.threads)
    return {
        **found,
        "update_seconds": _each(spent, timed),
        "tokens_per_second": _tokens(second.folder / "log.jsonl") / spent,
        "peak_bytes": second.peak,
        "seconds_per_1000_words": float(text.splitlines()[-1]),
    }


def _each(spent: float, updates: int) -> float:
    if spent <= 0:
        raise Failed(f"{updates} further updates took {spent:.1f} s; time more: --cost-updates")
    return spent / updates


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training that was measured."""

    folder: Path
    trained: float
    """Seconds of training and evaluation by its own account."""
    wall: float
    """Of the process."""
    peak: int | None
    """The most bytes it had in use."""


def _process(system: System, found: Material, work: Work) -> Trained:
    """Train anew."""
    lr = system.rates[0] if system.rates else OWN
    cell = Cell(data=found.name, system=system.name, lr=lr, seed=1)
    more = [] if system.peer else ["--overwrite"]
    began = time.perf_counter()
    _, peak = _run([*command(cell, system, found, work), *more], work.threads)
    wall, folder = time.perf_counter() - began, folder_of(cell, work.scratch)
    metrics = read_object(folder / "metrics.json")
    return Trained(folder=folder, trained=metrics["train_seconds"], wall=wall, peak=peak)


def _run(asked: Sequence[str], threads: int) -> tuple[str, int | None]:
    """What a process says, and the most bytes it had in use; None where the system does not tell.

    Not by ``getrusage``, where a process begins with the memory of the one that started it.
    """
    peak = None
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(
            asked,
            cwd=REPOSITORY,
            env=environment(threads, shared=False),
            stdout=told,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                peak = _highest(process.pid) or peak
                time.sleep(_LOOK)
        except BaseException:
            process.kill()
            process.wait()
            raise
        told.seek(0)
        text = told.read().decode(errors="replace")
    if process.returncode:
        raise Failed(reason_of(text, process.returncode))
    return text, peak


def _highest(process: int) -> int | None:
    """The most bytes that a process had in use so far."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _tokens(log: Path) -> int:
    """Real tokens of the updates behind the first few, copies of a sentence counted."""
    lines = [parse_json(line, str(log)) for line in log.read_text("utf-8").splitlines()]
    return sum(int(line["tokens"]) for line in lines if "loss" in line and line["step"] > _WARMUP)


def _medians(turns: Sequence[Figures]) -> dict[str, Any]:
    known = {key: [value for one in turns if (value := one[key]) is not None] for key in turns[0]}
    found = {key: median(values) if values else None for key, values in known.items()}
    return {**found, "turns": list(turns)}


def _line(figures: Figures) -> str:
    known = {key: value for key, value in figures.items() if value is not None}
    return ", ".join(f"{key.replace('_', ' ')} {value:,.4g}" for key, value in known.items())
