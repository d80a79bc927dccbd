"""Proof and benchmarks of the kernels on a GPU, in one command that ends within ten minutes.

    python -m benchmarks.gpu_check                     # everything, 9 minutes at most
    python -m benchmarks.gpu_check --parts a b e       # some parts
    python -m benchmarks.gpu_check --device cpu --toy  # the same code in Triton's interpreter

    a  numerics       output and gradients against the float64 reference, bfloat16 and float16
    b  determinism    200 repeats beside other work, equal in every bit
    c  memcheck       a few cases under compute-sanitizer
    d  huge           more than 2**31 elements
    e  CUDA graphs    capture, then replay with other lengths in the same buffers
    f  launches       how many, and that a step never waits for the device
    g  compiles       a stream of random batches compiles each kernel once
    h  models         lmsl.unmask on a transformers decoder: checkpointed and compiled too
    i  benchmarks     benchmarks.attention for the rest of the time, and a short train.py with NF4
    j  replayed       training steps and predictions from CUDA graphs and eagerly: alike, and times
    k  loss curves    200 updates by lmsl and by padded transformers + PEFT, alike within two seeds
    l  small ops      norms, SwiGLU and rotation by Triton against float64, and beside torch

A part is the files ``part_LETTER_*.py``, run by pytest. It needs torch, triton, transformers and
pytest, no network; what else a part needs and does not find, it says and is skipped. Proofs mostly
wait for compilers, so they run side by side, each in a process of its own; benchmarks have the
device to themselves afterwards. The record is written after every part. Status: 0, or 1 when a
proof failed or was stopped, or 2 without a GPU or pytest and for bad input.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_check.programs import run_program
from benchmarks.shared.flags import choose_device, status_of
from benchmarks.shared.machine import REPOSITORY, machine, machine_lines
from benchmarks.shared.plots import draw_curves, has_matplotlib
from benchmarks.shared.record import RESULTS, record_path, write_json
from lmsl.errors import InputError

FOLDER = Path(__file__).parent
LETTERS = "abcdefghijkl"
_PROOFS_SHARE, _MOST_PROCESSES, _LEAST_SECONDS = 0.6, 20, 8.0


@dataclass(frozen=True, kw_only=True)
class Part:
    """The files of a letter, and how long they may take."""

    name: str
    seconds: float
    shares: int = 1
    """Processes that its tests are divided among."""
    needs: str | None = None
    """A package that a machine without a network may lack."""
    alone: bool = False
    """Timed, so it has the device to itself, after the proofs."""


PARTS = {
    "a": Part(name="numerics", seconds=170, shares=8),
    "b": Part(name="determinism", seconds=90),
    "c": Part(name="memcheck", seconds=170),
    "d": Part(name="more than 2**31 elements", seconds=110),
    "e": Part(name="CUDA graphs", seconds=90),
    "f": Part(name="launches and waiting", seconds=90),
    "g": Part(name="compiles once", seconds=120),
    "h": Part(name="models", seconds=150),
    "k": Part(name="loss curves", seconds=200, needs="psutil"),
    "w": Part(name="what i needs", seconds=150, shares=4),
    "j": Part(name="training step", seconds=90, needs="psutil", alone=True),
    "l": Part(name="small operations", seconds=120, alone=True),
    "i": Part(name="benchmarks.attention", seconds=7200, alone=True),
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run, where, and until when."""

    device: torch.device
    parts: str
    toy: bool
    minutes: float
    out: Path
    began: float = field(default_factory=time.monotonic)

    def ends(self, part: Part) -> float:
        """Benchmarks, where they are wanted, are left their share of the time."""
        share = _PROOFS_SHARE if "i" in self.parts and not part.alone else 1.0
        return self.began + 60 * self.minutes * share

    def shares(self, letter: str) -> range:
        return range(1 if self.toy else PARTS[letter].shares)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen parts; see the head of this file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=9.0, help="time for everything; 9")
    add("--parts", nargs="+", default=[*LETTERS], help="letters, with blanks or commas; all")
    add("--out", type=Path, default=RESULTS, help="folder of the records")
    add("--device", default="cuda")
    add("--toy", action="store_true", help="toy sizes, on the CPU by interpreter")
    return status_of(lambda: run(_plan(parser.parse_args(argv))))


def _plan(given: argparse.Namespace) -> Plan:
    if importlib.util.find_spec("pytest") is None:
        raise InputError("pytest cannot be imported, which runs the proofs; bring its wheel along")
    device = choose_device(given.device)
    letters = " ".join(given.parts).replace(",", " ").split()
    if not letters or set(letters) - set(LETTERS):
        wanted = " ".join(given.parts)
        raise InputError(f"--parts: expected letters of {','.join(LETTERS)}, got {wanted!r}")
    if not 0.5 <= given.minutes <= 120:
        raise InputError(f"--minutes: expected from 0.5 to 120, got {given.minutes}")
    if device.type == "cpu" and not given.toy:
        raise InputError("--device cpu: expected --toy beside it; full sizes need a GPU")
    parts = "".join(letters) + ("w" if "i" in letters else "")
    return Plan(**vars(given) | {"device": device, "parts": parts, "out": given.out.absolute()})


def run(plan: Plan) -> int:
    """All parts; 1 when a proof failed."""
    found = machine(plan.device)
    print(*machine_lines(found), sep="\n", flush=True)
    parts: dict[str, dict[str, Any]] = {}
    record = {"benchmark": "gpu_check", "machine": found, "toy": plan.toy, "parts": parts}
    output = plan.out / record_path("gpu_check", found, plan.toy).name
    for letter, part in _ran(plan):
        parts[letter] = part
        record["seconds"] = round(time.monotonic() - plan.began, 1)
        write_json(output, record)
        print(line(letter, part), flush=True)
    print(f"written: {output}")
    for test in parts.get("k", {}).get("tests", {}).values():
        curves = test.get("figures", {}).get("curves", {})
        if any(curves.values()) and has_matplotlib():
            draw_curves(curves, found, output)
    return int(any(part["status"] == "failed" for part in parts.values()))


def _ran(plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part as soon as it is whole: proofs side by side, then what is to be alone."""
    wanted = [letter for letter in PARTS if letter in plan.parts]
    # The longest begin first.
    proofs = [letter for letter in wanted if not PARTS[letter].alone]
    proofs.sort(key=lambda letter: -PARTS[letter].seconds)
    processes = min(_MOST_PROCESSES, max(os.cpu_count() or 1, 2))
    with tempfile.TemporaryDirectory() as folder:
        child = partial(_child, plan, Path(folder))
        with ThreadPoolExecutor(processes) as pool:
            futures = {
                pool.submit(child, letter, share): letter
                for letter in proofs
                for share in plan.shares(letter)
            }
            done: dict[str, list[dict[str, Any]]] = {letter: [] for letter in proofs}
            for future in as_completed(futures):
                letter = futures[future]
                done[letter].append(future.result())
                if len(done[letter]) == len(plan.shares(letter)):
                    yield letter, joined(PARTS[letter].name, done[letter])
        for letter in (letter for letter in wanted if PARTS[letter].alone):
            yield letter, joined(PARTS[letter].name, [child(letter, 0)])


def _child(plan: Plan, folder: Path, letter: str, share: int) -> dict[str, Any]:
    """One share of a part in a process of its own; its record, whatever becomes of it."""
    part, began = PARTS[letter], time.monotonic()
    name, path = f"share {share}", folder / f"{letter}{share}.json"
    seconds = min(part.seconds, plan.ends(part) - began)
    if part.needs is not None and importlib.util.find_spec(part.needs) is None:
        missing = {"outcome": "skipped", "reason": f"{part.needs} cannot be imported"}
        return {"tests": {name: missing}, "seconds": 0.0}
    if seconds < _LEAST_SECONDS:
        late = {"outcome": "not run", "reason": "no time was left"}
        return {"tests": {name: late}, "seconds": 0.0}
    command = [
        *(sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"),
        *("-c", str(REPOSITORY / "pyproject.toml")),
        *map(str, sorted(FOLDER.glob(f"part_{letter}_*.py"))),
        *("--device", str(plan.device), "--record", str(path), "--out", str(plan.out)),
        *("--share", f"{share}/{len(plan.shares(letter))}"),
        # Its own limit comes first, so that it can answer.
        *("--seconds", f"{max(seconds - 15, seconds / 2):.0f}"),
        *(["--toy"] if plan.toy else []),
    ]
    finished = run_program(command, seconds=seconds, environment={"OMP_NUM_THREADS": "2"})
    tests = json.loads(path.read_text(encoding="utf-8"))["tests"] if path.exists() else {}
    # 0 and 1 are pytest's own: all passed, some failed.
    if finished.status not in (0, 1):
        end = f"ended with {finished.status}"
        if finished.status is None:
            end = f"was stopped after {seconds:.0f} s"
        running = next((key for key, test in tests.items() if test["outcome"] == "running"), name)
        said = f"its process {end}: {finished.output[-800:].strip()}"
        tests[running] = {"outcome": "failed", "reason": said}
    return {"tests": tests, "seconds": round(time.monotonic() - began, 1)}


def joined(name: str, shares: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The shares of a part as one record; what was skipped proves nothing, nor disproves it."""
    tests = {test: found for one in shares for test, found in one["tests"].items()}
    outcomes = Counter(test["outcome"] for test in tests.values())
    status = next(s for s in ("failed", "passed", "not run", "skipped") if outcomes[s])
    told = [status, "not run", "skipped"] if status == "failed" else ["not run", "skipped"]
    reasons = [
        f"{test}: {found['reason']}"
        for outcome in told
        for test, found in tests.items()
        if found["outcome"] == outcome
    ]
    return {
        "name": name,
        "status": status,
        "reason": next(iter(reasons), None),
        "seconds": max(one["seconds"] for one in shares),
        "outcomes": dict(outcomes),
        "tests": tests,
    }


def line(letter: str, part: dict[str, Any]) -> str:
    """One part on one line."""
    shown = [f"{count} {outcome}" for outcome, count in part["outcomes"].items()]
    figures = [test.get("figures", {}) for test in part["tests"].values()]
    if ratios := [one["of_allowed"] for one in figures if "of_allowed" in one]:
        shown.append(f"worst {max(ratios):.2f} of what is allowed")
    if part["reason"]:
        shown.append(f"{' '.join(part['reason'].split()):.300}")
    begin = f"{letter}  {part['name']:<24} {part['status']:<8} {part['seconds']:6.1f} s"
    return f"{begin}  {'; '.join(shown)}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
