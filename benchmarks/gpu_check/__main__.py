"""Proof and benchmarks of the kernels on a GPU, in one command that ends within ten minutes.

    python -m benchmarks.gpu_check                     # everything, 9 minutes at most
    python -m benchmarks.gpu_check --parts a,b,e       # some parts
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

It needs torch, triton and transformers, no network; what else a part needs and does not find, it
says and is skipped. Proofs mostly wait for compilers, so they run side by side, each in a process
of its own; benchmarks have the device to themselves afterwards. The record is written after every
part. Status: 0, or 1 when a proof failed or was stopped, or 2 without a GPU and for bad input.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_check.part import PARTS, Part, run_part
from benchmarks.gpu_check.scope import Scope, merge
from benchmarks.gpu_check.tools import benchmark, run_program
from benchmarks.shared.flags import choose_device, slug
from benchmarks.shared.machine import machine, machine_lines
from benchmarks.shared.plots import draw_curves
from benchmarks.shared.record import RESULTS, write_json
from lmsl.errors import InputError

LETTERS = "abcdefghijkl"
# Timed, so they have the device to themselves.
ALONE = "jl"
# Beside the proofs: compiling for the benchmarks, and the training run that belongs to them.
WITH_BENCHMARKS = "wt"
_PROOFS_SHARE, _MOST_PROCESSES, _LEAST_SECONDS = 0.6, 20, 8.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run, where, and until when."""

    device: torch.device
    parts: str
    toy: bool
    began: float
    minutes: float
    folder: Path
    commit: str | None

    @property
    def ends(self) -> float:
        return self.began + 60 * self.minutes

    @property
    def proofs_end(self) -> float:
        """Benchmarks, where they are wanted, are left their share of the time."""
        share = _PROOFS_SHARE if "i" in self.parts else 1.0
        return self.began + 60 * self.minutes * share


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen parts; see the head of this file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="time for everything; 9")
    parser.add_argument("--parts", default=",".join(LETTERS), help="letters, with commas; all")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the records")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="toy sizes, on the CPU by interpreter")
    parser.add_argument("--commit", help="noted as the commit where there is no git repository")
    given = parser.parse_args(argv)
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device here: nothing was checked", file=sys.stderr)
        return 2
    try:
        plan = Plan(
            device=choose_device(given.device),
            parts=_parts(given.parts),
            toy=given.toy,
            began=time.monotonic(),
            minutes=_minutes(given.minutes),
            folder=given.out,
            commit=given.commit,
        )
        if plan.device.type == "cpu" and not plan.toy:
            raise InputError("--device cpu: expected --toy beside it; full sizes need a GPU")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return run(plan)


def run(plan: Plan) -> int:
    """All parts; 1 when a proof failed."""
    found = machine(plan.device)
    found["commit"] = found["commit"] or plan.commit
    print(*machine_lines(found), sep="\n", flush=True)
    name = slug(found["gpu"]["name"] if plan.device.type == "cuda" else "cpu", plan.toy)
    record: dict[str, Any] = {"benchmark": "gpu_check", "machine": found, "toy": plan.toy}
    record["parts"] = {}
    output = plan.folder / f"gpu_check_{name}.json"
    wanted = [letter for letter in plan.parts if letter in PARTS and letter not in ALONE]
    if "i" in plan.parts:
        wanted += WITH_BENCHMARKS

    def finish(letter: str, part: dict[str, Any]) -> None:
        record["parts"][letter] = part
        record["seconds"] = round(time.monotonic() - plan.began, 1)
        write_json(output, record)
        print(line(letter, part), flush=True)

    for letter, part in _side_by_side(plan, wanted):
        finish(letter, part)
    for letter in [letter for letter in plan.parts if letter in ALONE]:
        finish(letter, _alone(plan, letter))
    if "i" in plan.parts:
        finish("i", _benchmark(plan, plan.folder / f"attention_{name}.json"))
    print(f"written: {output}")
    curves = record["parts"].get("k", {}).get("answer", {}).get("curves", {})
    if any(curves.values()) and importlib.util.find_spec("matplotlib") is not None:
        print(f"drawn: {draw_curves(curves, found, output)}")
    return int(any(part["status"] == "failed" for part in record["parts"].values()))


def _side_by_side(plan: Plan, letters: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run parts in processes, shares of large ones too; each part as soon as it is whole."""
    processes = min(_MOST_PROCESSES, max(os.cpu_count() or 1, 2))
    # The longest begin first.
    ordered = sorted(letters, key=lambda letter: -PARTS[letter].seconds)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(processes) as pool:
        futures = {
            pool.submit(_child, plan, letter, share, Path(folder), plan.proofs_end): letter
            for letter in ordered
            for share in range(_shares(plan, letter))
        }
        shares: dict[str, list[dict[str, Any]]] = {letter: [] for letter in letters}
        for future in as_completed(futures):
            letter = futures[future]
            shares[letter].append(future.result())
            if len(shares[letter]) == _shares(plan, letter):
                yield letter, join(shares[letter]) | {"name": PARTS[letter].name}


def _alone(plan: Plan, letter: str) -> dict[str, Any]:
    """A part in a process of its own, with nothing beside it."""
    with tempfile.TemporaryDirectory() as folder:
        share = _child(plan, letter, 0, Path(folder), plan.ends)
    return join([share]) | {"name": PARTS[letter].name}


def _benchmark(plan: Plan, attention: Path) -> dict[str, Any]:
    """The benchmark of attention, alone on the device, for all the time that is left."""
    part = Part(
        name="benchmarks.attention",
        run=lambda scope: benchmark(scope, attention, plan.commit),
        seconds=plan.ends - time.monotonic(),
    )
    scope = Scope(device=plan.device, ends=plan.ends, toy=plan.toy)
    return run_part(part, scope) | {"name": part.name}


def _shares(plan: Plan, letter: str) -> int:
    return 1 if plan.toy else PARTS[letter].shares


def _child(plan: Plan, letter: str, share: int, folder: Path, ends: float) -> dict[str, Any]:
    """One share of a part in a process of its own; its record, whatever becomes of it."""
    seconds = min(PARTS[letter].seconds, ends - time.monotonic())
    if seconds < _LEAST_SECONDS:
        return {"status": "skipped", "reason": "no time was left", "answer": {}, "seconds": 0.0}
    path = folder / f"{letter}{share}.json"
    command = [
        *(sys.executable, "-m", "benchmarks.gpu_check.part", letter),
        *("--device", str(plan.device), "--record", str(path)),
        *("--share", f"{share}/{_shares(plan, letter)}"),
        # Its own limit comes first, so that it can answer.
        *("--seconds", f"{max(seconds - 15, seconds / 2):.0f}"),
        *(["--toy"] if plan.toy else []),
    ]
    environment = {"OMP_NUM_THREADS": "2"}
    if plan.device.type == "cpu":
        environment["TRITON_INTERPRET"] = "1"
    began = time.monotonic()
    finished = run_program(command, seconds=seconds, environment=environment)
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"answer": {}}
    if record.get("status", "unfinished") == "unfinished":
        end = "was stopped" if finished.status is None else f"ended with {finished.status}"
        said = finished.output[-800:].strip()
        record |= {"status": "failed", "reason": f"{end} after {seconds:.0f} s at most: {said}"}
    return record | {"seconds": round(time.monotonic() - began, 1)}


def join(shares: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The shares of a part as one record: failed when one failed, passed when one passed."""
    by_status = {one["status"]: one for one in reversed(shares)}
    status = next(s for s in ("failed", "passed", "skipped") if s in by_status)
    answer = merge([one["answer"] for one in shares])
    reasons = [one.get("reason") for one in shares if one["status"] == status]
    if status == "passed" and ("skipped" in by_status or answer.get("not_reached")):
        status = "partial"
        reasons = [one["reason"] for one in shares if one["status"] == "skipped"]
        reasons.append(f"{answer.get('not_reached', 0)} cases not reached")
    return {
        "status": status,
        "reason": next((reason for reason in reasons if reason), None),
        "answer": answer,
        "seconds": max(one["seconds"] for one in shares),
    }


def line(letter: str, part: dict[str, Any]) -> str:
    """One part on one line."""
    answer = part["answer"]
    shown = [
        f"{value} {name.replace('_', ' ')}"
        for name, value in answer.items()
        if isinstance(value, int) and not isinstance(value, bool) and name != "not_reached"
    ]
    if answer.get("worst"):
        shown.append(f"worst {answer['worst'][0]:.2f} of what is allowed")
    reason = " ".join((part["reason"] or "").split())
    told = "; ".join([*shown, *([f"{reason:.300}"] if reason else [])])
    begin = f"{letter}  {part['name']:<24} {part['status']:<8} {part['seconds']:6.1f} s"
    return f"{begin}  {told}".rstrip()


def _parts(text: str) -> str:
    letters = [letter.strip() for letter in text.split(",")]
    unknown = [letter for letter in letters if letter not in list(LETTERS)]
    if unknown:
        raise InputError(f"--parts: expected letters of {','.join(LETTERS)}, got {text!r}")
    return "".join(letter for letter in LETTERS if letter in letters)


def _minutes(value: float) -> float:
    if not 0.5 <= value <= 120:
        raise InputError(f"--minutes: expected from 0.5 to 120, got {value}")
    return value


if __name__ == "__main__":
    sys.exit(main())
